"""Rollouts."""

from __future__ import annotations

from fastapi import APIRouter

from ota_contract.names import parse_model
from ota_contract.policy import Trial
from ota_server.api.callers import Caller, Ports
from ota_server.api.schemas import (
    PercentBody,
    RolloutBody,
    RolloutDocument,
    RolloutList,
    rollout_document,
)
from ota_server.domain.rollout import Guard
from ota_server.operations import rollouts
from ota_server.operations.rollouts import Action, Plan

__all__ = ["ROUTER"]

ROUTER = APIRouter(prefix="/rollouts", tags=["rollouts"])


@ROUTER.get("")
def list_rollouts(services: Ports, caller: Caller, model: str | None = None) -> RolloutList:
    """Rollouts, the newest first."""
    name = None if model is None else parse_model(model)
    return RolloutList(rollouts=list(map(rollout_document, rollouts.list_rollouts(services, caller, name))))


@ROUTER.post("", status_code=201)
def create(services: Ports, caller: Caller, body: RolloutBody) -> RolloutDocument:
    """Draft a rollout; no device is affected before it is started."""
    plan = Plan(
        name=parse_model(body.model),
        version=body.version,
        cohort=body.cohort,
        strategy=body.strategy_member(),
        stages=body.stage_values(),
        guard=Guard(max_error_ppm=body.max_error_ppm, max_failed_ppm=body.max_failed_ppm),
        trial=Trial(**body.trial.model_dump()),
        auto_advance=body.auto_advance,
        poll_interval_s=body.poll_interval_s,
        requires_approval=body.requires_approval,
    )
    return rollout_document(rollouts.create(services, caller, plan))


@ROUTER.get("/{rollout_id}")
def show(services: Ports, caller: Caller, rollout_id: str) -> RolloutDocument:
    """One rollout."""
    return rollout_document(rollouts.find(services, caller, rollout_id))


@ROUTER.post("/{rollout_id}/set-percent")
def set_percent(services: Ports, caller: Caller, rollout_id: str, body: PercentBody) -> RolloutDocument:
    """Take more devices in now."""
    return rollout_document(rollouts.set_percent(services, caller, rollout_id, body.percent_bp))


@ROUTER.post("/{rollout_id}/{action}")
def act(services: Ports, caller: Caller, rollout_id: str, action: Action) -> RolloutDocument:
    """Start, approve, pause, resume, halt, roll back or abort a rollout."""
    return rollout_document(rollouts.act(services, caller, rollout_id, action))
