"""What this device believes of verified metadata, and what it remembers of it: rules without any I/O.

Each rule takes the record and what was verified, and gives the record that follows, or refuses. python-tuf
has checked signatures, versions against its own files, and delegations before any of them is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from device_sdk.errors import ClockError, ExpiredMetadataError, ForeignReleaseError, UntrustedMetadataError
from device_sdk.trust_record import TrustRecord
from ota_contract.errors import ContractError, UnknownFormatError
from ota_contract.manifest import Release
from ota_contract.names import ModelName, publisher_role, rollout_role
from ota_contract.policy import Policy, ReleaseRef, parse_policy

__all__ = [
    "Facts",
    "accept_metadata",
    "accept_policy",
    "accept_release",
    "check_clock",
    "forget_rotated",
    "is_due",
]

_FULL_REFRESH_EVERY = timedelta(hours=24)
"""However long the timestamp stays the same, root is asked after this: a new root does not change it."""
_CLOCK_SLACK = timedelta(hours=24)
"""How far a clock may lie before a signed time. A day of freezing gains an attacker nothing, and neither a
server's wrong time zone nor time synchronisation may stop a fleet."""
_MAX_VERSION = 2**63 - 1
"""What the record can hold. A version beyond it, once trusted, could not be read back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What verified metadata says."""

    versions: Mapping[str, int]
    """By top-level role."""
    expires: datetime
    """When the first of the top-level roles expires."""
    keys: Mapping[str, str]
    """By role, delegated ones included: a digest of who may sign for it."""
    issued: datetime | None
    """When the server signed the timestamp, where it says so."""


def check_clock(record: TrustRecord, now: datetime) -> None:
    """Refuse to judge expiry by a clock that lies before a time the server has signed.

    Only signed times are remembered: those of this device's own clock would lock it out for as long as
    that clock had once been ahead.

    Raises:
        ClockError: It does.
    """
    trusted = record.trusted_time
    if trusted is not None and trusted - now > _CLOCK_SLACK:  # no difference is out of a date's range
        raise ClockError(
            f"the clock says {now:%Y-%m-%d %H:%M}, but metadata was signed at {trusted:%Y-%m-%d %H:%M}; "
            "set the clock"
        )


def is_due(record: TrustRecord, now: datetime) -> bool:
    """Whether an unchanged timestamp no longer is enough: root has to be asked."""
    refreshed = record.refreshed
    # A clock that was far ahead has left a time yet to come: not a reason to wait for it.
    return refreshed is None or abs(now - refreshed) >= _FULL_REFRESH_EVERY


def forget_rotated(record: TrustRecord, root_version: int, keys: Mapping[str, str]) -> TrustRecord:
    """Forget what a top-level role's former keys have signed, once root gives it other keys.

    Else whoever had signed the highest version there is with a stolen key could keep the device from every
    later one: recovery from a fast-forward attack, TUF specification 5.3.11.

    Args:
        record: What was trusted.
        root_version: Of a verified root; one no newer than the recorded one rotates nothing, whatever a
            power cut has left of the files.
        keys: Its keys by top-level role.
    """
    if root_version <= record.versions.get("root", 0):
        return record
    rotated = {role for role, digest in keys.items() if record.keys.get(role, digest) != digest}
    forgotten = rotated & {"targets"}
    if rotated & {"timestamp", "snapshot"}:
        # A timestamp names a snapshot's version, so each may have carried the other's.
        forgotten |= {"timestamp", "snapshot"}
    if not forgotten:
        return record
    return record.updated(
        versions={role: version for role, version in record.versions.items() if role not in forgotten},
        trusted_time=None if "timestamp" in rotated else record.trusted_time,
        keys={**record.keys, **keys},
        etag="",
    )


def accept_metadata(record: TrustRecord, facts: Facts, now: datetime) -> TrustRecord:
    """The record after a full refresh.

    Raises:
        UntrustedMetadataError: A role is older than what was trusted before, or its version is absurd.
        ExpiredMetadataError: It has expired.
        ClockError: The clock lies before the time the server signed.
    """
    top_level = {role: facts.keys[role] for role in facts.versions}
    record = forget_rotated(record, facts.versions["root"], top_level)
    for role, version in facts.versions.items():
        # python-tuf compares with its own files, which a power cut may have emptied.
        if version < record.versions.get(role, 0):
            raise UntrustedMetadataError(
                f"{role} is version {version}; {record.versions[role]} was trusted before"
            )
        if version > _MAX_VERSION:
            raise UntrustedMetadataError(f"{role} has a version beyond {_MAX_VERSION}")
    if now >= facts.expires:  # python-tuf looked at the system's clock, not at ours
        raise ExpiredMetadataError(f"the server must sign anew: the metadata expired at {facts.expires}")
    times = [time for time in (record.trusted_time, facts.issued) if time is not None]
    record = _forget_redelegated(record, facts.keys).updated(
        etag="",
        refreshed=now,
        versions=facts.versions,
        keys={**record.keys, **top_level},
        trusted_time=max(times, default=None),
    )
    check_clock(record, now)
    return record


def accept_policy(
    record: TrustRecord, name: ModelName, custom: Mapping[str, Any], signers: str
) -> tuple[Policy, TrustRecord]:
    """A verified target's policy, and the record that remembers it.

    Args:
        record: What was trusted.
        name: The model.
        custom: What the target carries.
        signers: Who may sign it, from `Facts.keys`; empty where it comes from the record.

    Raises:
        UntrustedMetadataError: Malformed, another model's, or older than one seen before.
        UnknownFormatError: Written for a newer device: leave everything as it is.
    """
    try:
        policy = parse_policy(custom)
    except UnknownFormatError:
        raise
    except ContractError as error:
        raise UntrustedMetadataError(f"{name}: {error}") from error
    if policy.name != name:
        raise UntrustedMetadataError(f"the rollout policy of {name} is one of {policy.name}")
    seen = record.revisions.get(str(name), 0)
    if policy.revision < seen:
        raise UntrustedMetadataError(
            f"the rollout policy of {name} is revision {policy.revision}; {seen} was seen before"
        )
    keys = {**record.keys, rollout_role(name.publisher): signers} if signers else record.keys
    if record.policies.get(str(name)) == custom and keys == record.keys:
        return policy, record
    return policy, record.updated(
        policies={**record.policies, str(name): custom},
        revisions={**record.revisions, str(name): policy.revision},
        keys=keys,
    )


def accept_release(
    record: TrustRecord, name: ModelName, ref: ReleaseRef, release: Release, signers: str
) -> TrustRecord:
    """The record after a manifest was verified; a stolen server could still point at a wrong one.

    Args:
        record: What was trusted.
        name: The model.
        ref: The release the policy names.
        release: The verified manifest.
        signers: Who may sign it, from `Facts.keys`.

    Raises:
        ForeignReleaseError: Genuine, but another model's or below the floor.
    """
    if release.name != name or (release.version, release.counter) != (ref.version, ref.counter):
        raise ForeignReleaseError(f"{name} {ref.version} turned out to be {release.name} {release.version}")
    floor = record.floors.get(str(name), 0)
    if release.counter < floor:
        raise ForeignReleaseError(
            f"{name} {release.version} (counter {release.counter}) is below the floor {floor}"
        )
    if release.floor <= floor:
        return record
    return record.updated(
        floors={**record.floors, str(name): release.floor},
        keys={**record.keys, publisher_role(name.publisher): signers},
    )


def _forget_redelegated(record: TrustRecord, keys: Mapping[str, str]) -> TrustRecord:
    """Forget a publisher's revisions or floors once the targets role delegates to other keys.

    A publisher that was revoked has no policies any more, which is no withdrawal behind the device's back;
    its floors stay until somebody with other keys takes the name.
    """

    def stays(role: str, *, gone: bool) -> bool:
        before = record.keys.get(role)
        return before is None or keys.get(role, "" if gone else before) == before

    def publisher(name: str) -> str:
        return name.partition("/")[0]

    ruled = {name for name in record.revisions if stays(rollout_role(publisher(name)), gone=True)}
    return record.updated(
        revisions={name: value for name, value in record.revisions.items() if name in ruled},
        policies={name: value for name, value in record.policies.items() if name in ruled},
        floors={
            name: value
            for name, value in record.floors.items()
            if stays(publisher_role(publisher(name)), gone=False)
        },
    )
