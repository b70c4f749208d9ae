"""The keys and expiries of a data folder, role by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ota_contract.names import publisher_role, rollout_role
from ota_server.adapters.key_files import is_encrypted
from ota_server.adapters.metadata_folder import MetadataFolder
from ota_server.adapters.online_keys import OnlineKeys
from ota_server.domain.expiry import expiry_warning, lifetime_of
from ota_server.errors import KeyFileError
from ota_server.settings import no_secrets

__all__ = ["RoleStatus", "role_statuses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStatus:
    """One role as published."""

    role: str
    version: int
    threshold: int
    keys: Sequence[str]
    """Ids of the keys that may sign."""
    key_at: str
    """URI of the online key; empty for roles people sign."""
    key_state: str
    """Of an online key in a file: `encrypted`, `plain` or `missing`."""
    expires: datetime
    warning: str
    """In words; empty where all is well."""


def role_statuses(data: Path, now: datetime, within: timedelta) -> list[RoleStatus]:
    """Every role, the top-level ones first.

    Raises:
        SetupError: The folder is not one of `ferry keys init`.
        RepositoryError: The metadata is torn.
    """
    folder, uris = MetadataFolder(data), OnlineKeys(data, lambda: now, no_secrets).uris()
    root, delegations = folder.root().signed, folder.delegations()
    publishers = [role(name) for name in folder.publishers() for role in (publisher_role, rollout_role)]
    metadata = {
        "root": folder.root().signed,
        "targets": folder.targets().signed,
        "snapshot": folder.snapshot().signed,
        "timestamp": folder.timestamp().signed,
        **{role: folder.targets(role).signed for role in publishers},
    }
    statuses = []
    for role, signed in metadata.items():
        keys = root.roles[role] if role in root.roles else (delegations.roles or {})[role]
        key_at = uris.get(role, "") if lifetime_of(role) else ""
        state = _file_state(data, key_at)
        told = expiry_warning(role, signed.expires, now, within)
        if lifetime_of(role) and (not key_at or state == "missing"):
            told = f"the key of {role} is not there: {key_at or 'keys.json does not name it'}"
        statuses.append(
            RoleStatus(
                role=role,
                version=signed.version,
                threshold=keys.threshold,
                keys=sorted(keys.keyids),
                key_at=key_at,
                key_state=state,
                expires=signed.expires,
                warning=told,
            )
        )
    return statuses


def _file_state(data: Path, uri: str) -> str:
    if not uri.startswith("file2:"):
        return ""
    try:
        return "encrypted" if is_encrypted(data / uri.removeprefix("file2:")) else "plain"
    except KeyFileError:
        return "missing"
