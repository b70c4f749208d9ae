"""Rollout plans for tests, with the numbers a test does not care about filled in."""

from __future__ import annotations

from ota_contract.names import parse_model
from ota_contract.policy import Strategy
from ota_server.domain.rollout import Guard, Stage
from ota_server.operations.rollouts import Plan

__all__ = ["plan"]


def plan(version: str, *percentages: int, model: str = "vision/digits", cohort: str = "everyone") -> Plan:
    """A canary through these basis points, or recreate where none are given."""
    return Plan(
        name=parse_model(model),
        version=version,
        cohort=cohort,
        strategy=Strategy.CANARY if percentages else Strategy.RECREATE,
        stages=tuple(Stage(percent_bp=percent) for percent in percentages),
        guard=Guard(),
    )
