"""The update states and which may follow which: a table, and nothing that touches a disk."""

from __future__ import annotations

from collections.abc import Mapping

from device_sdk.errors import DeviceError
from ota_contract.report import UpdateState

__all__ = ["ACTIVE", "TRANSITIONS", "check_transition"]

TRANSITIONS: Mapping[UpdateState | None, frozenset[UpdateState]] = {
    None: frozenset({UpdateState.OFFERED}),
    UpdateState.OFFERED: frozenset(
        {UpdateState.OFFERED, UpdateState.DOWNLOADING, UpdateState.INCOMPATIBLE, UpdateState.FAILED}
    ),
    UpdateState.DOWNLOADING: frozenset({UpdateState.OFFERED, UpdateState.VERIFIED, UpdateState.FAILED}),
    UpdateState.VERIFIED: frozenset({UpdateState.OFFERED, UpdateState.STAGED, UpdateState.FAILED}),
    UpdateState.STAGED: frozenset({UpdateState.OFFERED, UpdateState.SELF_TESTED, UpdateState.FAILED}),
    UpdateState.SELF_TESTED: frozenset({UpdateState.OFFERED, UpdateState.LIVE_ON_TRIAL, UpdateState.FAILED}),
    UpdateState.LIVE_ON_TRIAL: frozenset({UpdateState.OFFERED, UpdateState.HEALTHY, UpdateState.ROLLED_BACK}),
    UpdateState.HEALTHY: frozenset({UpdateState.OFFERED}),
    UpdateState.ROLLED_BACK: frozenset({UpdateState.OFFERED}),
    UpdateState.INCOMPATIBLE: frozenset({UpdateState.OFFERED}),
    UpdateState.FAILED: frozenset({UpdateState.OFFERED}),
}
"""OFFERED may follow on any state: the policy has the last word, also over a trial, and what was broken off
begins anew from there."""

ACTIVE = frozenset(
    {
        UpdateState.OFFERED,
        UpdateState.DOWNLOADING,
        UpdateState.VERIFIED,
        UpdateState.STAGED,
        UpdateState.SELF_TESTED,
    }
)
"""States in which work on the update is left to do; after a restart it begins anew from OFFERED, and
what was downloaded and staged is found again."""


def check_transition(before: UpdateState | None, after: UpdateState) -> None:
    """Refuse a step the table does not have.

    Raises:
        DeviceError: A programming error; nothing was recorded.
    """
    if after not in TRANSITIONS[before]:
        raise DeviceError(f"no update goes from {before and before.value} to {after.value}")
