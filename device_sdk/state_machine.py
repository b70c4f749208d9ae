"""The update states and which may follow which: a table, and nothing that touches a disk."""

from __future__ import annotations

from collections.abc import Mapping

from device_sdk.errors import DeviceError
from ota_contract.report import UpdateState

__all__ = ["ACTIVE", "TRANSITIONS", "check_transition"]

TRANSITIONS: Mapping[UpdateState | None, frozenset[UpdateState]] = {
    None: frozenset({UpdateState.OFFERED}),
    UpdateState.OFFERED: frozenset({UpdateState.DOWNLOADING, UpdateState.INCOMPATIBLE, UpdateState.FAILED}),
    UpdateState.DOWNLOADING: frozenset({UpdateState.VERIFIED, UpdateState.FAILED}),
    UpdateState.VERIFIED: frozenset({UpdateState.STAGED, UpdateState.FAILED}),
    UpdateState.STAGED: frozenset({UpdateState.SELF_TESTED, UpdateState.FAILED}),
    UpdateState.SELF_TESTED: frozenset({UpdateState.LIVE_ON_TRIAL, UpdateState.FAILED}),
    UpdateState.LIVE_ON_TRIAL: frozenset({UpdateState.HEALTHY, UpdateState.ROLLED_BACK}),
    UpdateState.HEALTHY: frozenset(),
    UpdateState.ROLLED_BACK: frozenset(),
    UpdateState.INCOMPATIBLE: frozenset(),
    UpdateState.FAILED: frozenset(),
}
"""Any state may also be left for OFFERED: the policy has the last word, also over a trial."""

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
    if after is not UpdateState.OFFERED and after not in TRANSITIONS[before]:
        raise DeviceError(f"no update goes from {before and before.value} to {after.value}")
