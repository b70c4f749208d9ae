"""A signing request in words: what would change, and whose signatures it takes.

Everything is derived from the metadata itself, so that nobody signs a description.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuf.api.metadata import Root, Targets

from ota_contract.documents import format_instant
from ota_server.adapters.repository import target_entries
from ota_server.adapters.signing_requests import SigningRequest, needs_of, printable

__all__ = ["describe", "in_words"]

_DIGITS = 8
_Keys = dict[str, tuple[Sequence[str], int]]


def describe(request: SigningRequest) -> dict[str, Any]:
    """A request as JSON, for other programs."""
    needs = needs_of(request)
    return {
        "prepared": format_instant(request.prepared),
        "changes": _changes(request),
        "online": dict(request.online),
        "needs": [
            {
                "role": need.role,
                "by": need.by,
                "keys": list(need.keys),
                "threshold": need.threshold,
                "signed": list(need.signed),
                "missing": need.missing,
            }
            for need in needs
        ],
        "complete": not any(need.missing for need in needs),
    }


def in_words(request: SigningRequest) -> list[str]:
    """A request as lines for people."""
    lines = [f"prepared {request.prepared:%Y-%m-%d %H:%M} UTC", "changes:"]
    lines += [f"  {line}" for line in _changes(request)]
    lines += [f"  the new key of {role} is {uri}" for role, uri in request.online.items()]
    lines.append("signatures:")
    for need in needs_of(request):
        signed = f"signed by {_ids(need.signed)}" if need.signed else "signed by nobody yet"
        state = f"{need.missing} missing" if need.missing else "complete"
        lines.append(f"  {need.role}: {need.threshold} of {need.by} ({_ids(need.keys)}); {signed}; {state}")
    return [printable(line) for line in lines]


def _changes(request: SigningRequest) -> list[str]:
    lines: list[str] = []
    before_root, before_targets = request.roots[-1].signed, request.current["targets"].signed
    for role, metadata in request.next.items():
        signed = metadata.signed
        before = before_root if role == "root" else getattr(request.current.get(role), "signed", None)
        since = f"{before.version} → " if before else "new, version "
        lines.append(f"{role} {since}{signed.version}, good until {signed.expires:%Y-%m-%d}")
        if isinstance(signed, Root):
            lines += _key_changes(_root_keys(before_root), _root_keys(signed))
        elif role == "targets":
            lines += _key_changes(_delegated_keys(before_targets), _delegated_keys(signed))
        elif isinstance(signed, Targets):
            lines += _release_changes(signed, before if isinstance(before, Targets) else None)
    return lines


def _root_keys(root: Root) -> _Keys:
    return {name: (sorted(role.keyids), role.threshold) for name, role in root.roles.items()}


def _delegated_keys(targets: Targets) -> _Keys:
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    return {name: (sorted(role.keyids), role.threshold) for name, role in roles.items()}


def _key_changes(before: _Keys, after: _Keys) -> list[str]:
    lines = []
    for role in {**before, **after}:
        old, new = before.get(role, ((), 0)), after.get(role, ((), 0))
        if old == new:
            continue
        if role not in after:
            lines.append(f"  {role} is revoked: {_ids(old[0])} signs no more")
            continue
        parts = [f"{old[1]} of {len(old[0])} → {new[1]} of {len(new[0])}"] if role in before else ["is new"]
        gone, come = sorted({*old[0]} - {*new[0]}), sorted({*new[0]} - {*old[0]})
        parts += [f"out {_ids(gone)}"] if gone else []
        parts += [f"in {_ids(come)}"] if come else []
        lines.append(f"  {role}: {', '.join(parts)}")
    return lines or ["  the same keys and thresholds"]


def _release_changes(after: Targets, before: Targets | None) -> list[str]:
    new, old = target_entries(after), target_entries(before) if before else {}
    lines = [f"  signs {path} anew" for path in sorted(new) if old.get(path) == new[path]]
    lines += [f"  CHANGES OR ADDS {path}" for path in sorted(new) if old.get(path) != new[path]]
    lines += [f"  drops {path}" for path in sorted(old.keys() - new.keys())]
    return lines or ["  no releases"]


def _ids(keyids: Sequence[str]) -> str:
    return ", ".join(keyid[:_DIGITS] for keyid in keyids)
