"""Errors of the demonstration.

DemoError
└── StepError   a step did not end as it should
"""

from __future__ import annotations

from ota_contract.errors import FerryError

__all__ = ["DemoError", "StepError"]


class DemoError(FerryError):
    """Root of what the demonstration can raise."""


class StepError(DemoError):
    """A command failed, or something awaited did not come about."""
