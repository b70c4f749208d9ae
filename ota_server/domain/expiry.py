"""How long signed metadata is good for, and when somebody has to be told that it ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

__all__ = ["LIFETIMES", "WARN_WITHIN", "expiry_warning", "lifetime_of"]

LIFETIMES: Mapping[str, timedelta] = {
    "timestamp": timedelta(days=7),
    "snapshot": timedelta(days=30),
    "ro": timedelta(days=30),
}
"""How long what the server signs is good for; signed anew when half of it has passed."""
WARN_WITHIN = timedelta(days=30)
"""How long before its end people are told to renew what only they can sign."""
_OVERDUE = 4
"""The server signs at half of a lifetime; at a quarter left something has kept it from it."""
_DAY = timedelta(days=1)


def lifetime_of(role: str) -> timedelta | None:
    """How long the server's signature under a role is good for; None where people sign."""
    return LIFETIMES.get("ro" if role.startswith("ro-") else role)


def expiry_warning(role: str, expires: datetime, now: datetime, within: timedelta = WARN_WITHIN) -> str:
    """What to tell people of a role's expiry; empty where there is nothing to tell."""
    lifetime, left = lifetime_of(role), expires - now
    if left > (within if lifetime is None else lifetime / _OVERDUE):
        return ""
    when = f"expires in {left // _DAY} days" if left > timedelta() else f"expired on {expires:%Y-%m-%d %H:%M}"
    if lifetime is not None:
        return f"{role} {when}, and the server has not signed it anew: its log says why"
    return f"{role} {when}; without it devices take no updates: `ferry keys renew {role}`"
