"""Brings rollouts and the published policies to where the rules say they should be.

Everything happens inside the write transaction, the database first and the signed policy right behind it.
After a crash between the two the next tick publishes; running twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from ota_contract.names import ModelName
from ota_contract.policy import Policy
from ota_server.domain.lifecycle import decide
from ota_server.domain.policies import make_policy, view_fleet
from ota_server.domain.rollout import HOLDING, Counts, Rollout, RolloutState
from ota_server.operations.cohorts import cohort_rule
from ota_server.operations.ports import DeviceRecord, Records, Services

__all__ = ["reconcile_model", "tick"]

_MOVING = (*HOLDING, RolloutState.ROLLING_BACK)


def tick(services: Services) -> None:
    """Advance every rollout as far as its reports and the time allow, and publish what follows.

    A model that fails does not hold up the others: its failure is raised after all had their turn.
    """
    publishers = services.repository.publishers()
    with services.registry.read() as records:
        # A revoked publisher's rollouts stay on record; there is nobody left to sign their policies.
        names = [name for name in records.rollouts.models() if name.publisher in publishers]
    works: list[Callable[[Services, Records], None]] = [_keep_fresh]
    works += [partial(reconcile_model, name=name) for name in names]
    failures: list[Exception] = []
    for work in works:
        try:
            with services.registry.write() as records:
                work(services, records)
        except Exception as error:  # noqa: BLE001 - not lost: raised below
            failures.append(error)
    if failures:
        raise failures[0]


def _keep_fresh(services: Services, _: Records) -> None:
    # Inside the write transaction like every publication: another process may be publishing now.
    try:
        services.repository.keep_fresh()
    except Exception:
        services.signing.failed()
        raise
    finally:
        services.signing.warn(services.repository.expiries, services.clock())
    services.signing.succeeded()


def reconcile_model(services: Services, records: Records, name: ModelName) -> None:
    """The same for one model, inside a transaction."""
    policy = _policy(services, records, name)
    moving = records.rollouts.all(name, states=_MOVING)
    fleet = records.devices.all() if moving else ()
    for rollout in moving:
        counts = _counts(records, rollout, policy, fleet)
        decided = decide(rollout, counts, services.clock(), poll_interval_s=policy.poll_interval_s)
        if decided != rollout:
            records.rollouts.save(decided)
    wanted = _policy(services, records, name)
    published = services.repository.policy(name)
    # A model whose rollouts are all drafts has nothing to say to devices yet.
    changed = bool(wanted.rules) if published is None else replace(published, revision=0) != wanted
    if changed:
        services.repository.publish_policies([wanted])


def _policy(services: Services, records: Records, name: ModelName) -> Policy:
    return make_policy(
        name,
        records.rollouts.all(name),
        records.cohorts.all(),
        poll_interval_s=services.poll_interval_s,
    )


def _counts(records: Records, rollout: Rollout, policy: Policy, fleet: Sequence[DeviceRecord]) -> Counts:
    view = view_fleet(
        rollout,
        policy,
        cohort_rule(records, rollout.cohort),
        [(device.attributes, device.live.get(rollout.name, "")) for device in fleet],
    )
    reported = records.reports.counts(rollout)
    return Counts(
        devices_total=view.total,
        devices_targeted=view.targeted,
        devices_exposed=reported.devices_exposed,
        devices_healthy=reported.devices_healthy,
        devices_failed=reported.devices_failed,
        devices_returning=view.returning,
        devices_stranded=view.stranded,
        candidate=reported.candidate,
        control=reported.control,
    )
