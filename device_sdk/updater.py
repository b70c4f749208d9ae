"""Brings one model from what is installed to what the policy assigns, one durable step at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from device_sdk.blobs import Blobs
from device_sdk.config import Config
from device_sdk.errors import (
    DeviceError,
    NetworkError,
    SelfTestError,
    StoreError,
    UpdateError,
)
from device_sdk.journal import Journal
from device_sdk.records import ModelState, Refusal, Slot
from device_sdk.self_test import limits_for, self_test
from device_sdk.slots import ModelSlots, Store, files_of
from device_sdk.state_machine import ACTIVE
from device_sdk.transport import Transport
from device_sdk.trust import Manifest, TrustedRepository
from ota_contract.assignment import Assignment, assign
from ota_contract.compatibility import choose_variant
from ota_contract.device import Attributes
from ota_contract.manifest import MILLION, File, Release, Variant
from ota_contract.names import ModelName
from ota_contract.policy import Policy, ReleaseRef
from ota_contract.report import UpdateState

__all__ = ["ModelUpdater"]

_MAX_REFUSALS = 32
_FIRST_RETRY_S = 10.0
_LONGEST_RETRY_S = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One installation."""

    assignment: Assignment
    ref: ReleaseRef
    revision: int
    attributes: Attributes


class ModelUpdater:
    """The updates of one model."""

    def __init__(
        self,
        name: ModelName,
        config: Config,
        store: Store,
        trust: TrustedRepository,
        transport: Transport,
        journal: Journal,
        clock: Callable[[], datetime],
    ) -> None:
        """Read nothing and fetch nothing yet."""
        self._name = name
        self._config = config
        self._store = store
        self._trust = trust
        self._transport = transport
        self._blobs = Blobs(store, transport, config.blobs_url)
        self._ending = transport.ending
        self._journal = journal
        self._clock = clock
        self.slots: ModelSlots = store.model(name)

    def converge(self, policy: Policy, attributes: Attributes) -> str:
        """Do what the policy asks; returns one sentence on where the model stands.

        Raises:
            NetworkError: The link failed; the update goes on from here at the next poll.
            UpdateError: The update failed and is recorded so; the running release is untouched.
            StoreError: The store cannot be written; the running release is untouched.
        """
        state = self.slots.state()
        live = state.live
        assignment = assign(policy, attributes, live_version=live.version if live else "")
        ref = assignment.release
        if ref is None:
            self._store.wants[self._name] = frozenset()
            return assignment.reason
        if live is not None and _holds(live, ref) and self._is_intact(live):
            self._store.wants[self._name] = frozenset()
            self._settle(state, live, assignment)
            return f"{ref.version} is live: {assignment.reason}"
        obstacle = self._refuses(state, assignment, ref, policy.revision)
        if obstacle:
            self._store.wants[self._name] = frozenset()
            return obstacle
        obstacle = self._waits(state, ref)
        if obstacle:
            return obstacle
        task = _Task(assignment=assignment, ref=ref, revision=policy.revision, attributes=attributes)
        return self._install(task)

    def resume(self) -> None:
        """Finish what a former process may have left: a verdict not reached, or one not cleaned up after."""
        update = self.slots.state().update
        if update is None or update.state is not UpdateState.LIVE_ON_TRIAL:
            self.slots.forget_starts()
        if update is not None and (update.state in ACTIVE or update.retry_at is not None):
            self._store.wants[self._name] = None
        self.judge_trial()

    def judge_trial(self) -> None:
        """End a trial whose evidence is in: healthy, or back to the previous release."""
        state = self.slots.state()
        update = state.update
        if update is None or update.state is not UpdateState.LIVE_ON_TRIAL:
            return
        trial = update.trial
        starts = self.slots.starts()
        if starts > trial.max_starts:
            self.roll_back(f"{starts} starts during trial without becoming healthy: a crash loop")
        elif update.inferences >= trial.inferences:
            if update.errors * MILLION <= trial.max_error_ppm * update.inferences:
                reason = f"{update.inferences} inferences, {update.errors} errors"
                self._journal.advance(self.slots, UpdateState.HEALTHY, reason)
                self.slots.forget_starts()
            elif state.previous is not None:
                self.roll_back(f"{update.errors} errors in {update.inferences} inferences during trial")
            # Else it stays on trial: an answer now and then is better than none, and the server is told.

    def roll_back(self, reason: str) -> None:
        """Return to the previous release in one durable step, and remember not to try this one again.

        Without one to return to nothing is live, so that the app can start; then it is tried again, later
        each time: power that comes and goes looks like a crash loop, too, and must not take a device its
        only release for good.
        """
        state = self.slots.state()
        update = state.update
        if update is None:
            return
        attempts, retry_at = update.attempts, None
        refusals = state.refusals
        if state.previous is None:
            attempts, retry_at = attempts + 1, self._retry_at(attempts)
            self._store.wants[self._name] = None
        else:
            refusal = Refusal(
                version=update.version,
                manifest_sha256=update.manifest_sha256,
                rollout=update.rollout,
                revision=self._trust.record.revisions.get(str(self._name), 0),
                reason=reason,
                ended=UpdateState.ROLLED_BACK,
                at=self._clock(),
            )
            refusals = _with_refusal(refusals, refusal)
        self._journal.advance(
            self.slots,
            UpdateState.ROLLED_BACK,
            reason,
            attempts=attempts,
            retry_at=retry_at,
            slots_after=replace(state, live=state.previous, previous=None, candidate=None, refusals=refusals),
        )
        self.slots.forget_starts()

    def _is_intact(self, live: Slot) -> bool:
        try:
            self.slots.installed(live)
        except StoreError:
            return False
        return True

    def _settle(self, state: ModelState, live: Slot, assignment: Assignment) -> None:
        """The right release runs; keep up with its part in a rollout."""
        update = state.update
        if update is not None and update.state is UpdateState.LIVE_ON_TRIAL:
            return  # its rollout and arm are those it came by
        slot = replace(live, rollout=assignment.rollout, arm=assignment.arm)
        if slot != live or state.candidate is not None:
            self.slots.write_state(replace(state, live=slot, candidate=None))

    @staticmethod
    def _refuses(state: ModelState, assignment: Assignment, ref: ReleaseRef, revision: int) -> str:
        """Why this release is not tried again, or an empty text."""
        for refusal in state.refusals:
            if _is_refused(refusal, assignment, ref, revision):
                return f"{ref.version} is not tried again: {refusal.reason}"
        return ""

    def _waits(self, state: ModelState, ref: ReleaseRef) -> str:
        """Why this release is not tried yet, or an empty text."""
        update = state.update
        if (
            update is not None
            and update.manifest_sha256 == ref.manifest_sha256
            and update.retry_at is not None
            # Not further ahead than any wait: the clock was wrong when that was written.
            and timedelta() < update.retry_at - self._clock() <= timedelta(seconds=_LONGEST_RETRY_S)
        ):
            return f"{ref.version} failed ({update.reason}); next attempt at {update.retry_at:%H:%M:%S}"
        return ""

    def _install(self, task: _Task) -> str:
        try:
            return self._advance(task)
        except (UpdateError, StoreError) as error:
            self._fail(task, error)
            raise

    def _advance(self, task: _Task) -> str:
        """From offered to live, each state durable before the next begins."""
        journal, slots, assignment = self._journal, self.slots, task.assignment
        journal.offer(slots, assignment, task.ref)
        manifest = self._trust.manifest(self._name, task.ref, self._clock())
        choice = choose_variant(manifest.release, task.attributes)
        if choice.variant is None:
            return self._set_aside(task, UpdateState.INCOMPATIBLE, choice.explain())
        files = files_of(manifest.release, choice.variant)
        self._fetch(manifest.release, files)
        slot = self._stage(task, manifest, choice.variant, files)
        passed = self_test(
            slots.folder(slot),
            slot.variant_id,
            threads=self._config.threads,
            limits=limits_for(choice.variant.requires.ram_bytes, task.attributes.ram_bytes),
            ending=self._ending,
        )
        journal.advance(slots, UpdateState.SELF_TESTED, f"{passed} golden vectors")
        self._check_policy_again(task)
        self._activate(slot, assignment)
        self._store.wants[self._name] = frozenset()
        return f"{slot.version} is live on trial: {assignment.reason}"

    def _fetch(self, release: Release, files: tuple[File, ...]) -> None:
        """Bring every file that is not here yet; a failed link leaves what came for the next time."""
        update = self.slots.state().update
        # After a failed attempt whole files only: were a delta the reason, it would be again.
        first = update is None or update.attempts == 0
        wanted = (*files, *(delta.file for delta in release.deltas))
        self._store.wants[self._name] = frozenset(file.sha256 for file in wanted)
        plan = self._blobs.plan(release, files, by_delta=first)
        self._journal.advance(self.slots, UpdateState.DOWNLOADING, str(plan))
        notes = self._blobs.bring(plan)
        self._journal.advance(self.slots, UpdateState.VERIFIED, f"{len(files)} files{notes}")

    def _stage(self, task: _Task, manifest: Manifest, variant: Variant, files: tuple[File, ...]) -> Slot:
        slot = Slot(
            version=task.ref.version,
            counter=task.ref.counter,
            manifest_sha256=task.ref.manifest_sha256,
            variant_id=variant.id,
            rollout=task.assignment.rollout,
            arm=task.assignment.arm,
        )
        state = self.slots.state()
        slots = (state.live, state.candidate, state.previous)
        held = (other.variant_id for other in slots if other and _holds(other, task.ref))
        if not (slot.variant_id in held and self._is_intact(slot)):
            self.slots.stage(slot, manifest.data, files)
        self._journal.advance(
            self.slots, UpdateState.STAGED, variant.id, slots_after=replace(state, candidate=slot)
        )
        return slot

    def _check_policy_again(self, task: _Task) -> None:
        """The policy may have been withdrawn while we downloaded: ask once more, just before going live."""
        try:
            self._trust.refresh(self._clock())
            policy = self._trust.policy(self._name)
        except NetworkError:
            return  # what was signed when we began still is the newest we know
        if policy is None:
            return
        live = self.slots.state().live
        now = assign(policy, task.attributes, live_version=live.version if live else "")
        if now.release != task.ref:
            named = now.release.version if now.release else "no release"
            raise UpdateError(f"the policy changed to {named} before {task.ref.version} went live")

    def _activate(self, slot: Slot, assignment: Assignment) -> None:
        state = self.slots.state()
        live = state.live
        # Going back to `previous` leaves the release gone back from in no slot: it must not answer.
        goes_back = state.previous is not None and state.previous.manifest_sha256 == slot.manifest_sha256
        repaired = live is not None and live.manifest_sha256 == slot.manifest_sha256
        previous = None if goes_back else (state.previous if repaired else live)
        self.slots.forget_starts()
        self._journal.advance(
            self.slots,
            UpdateState.LIVE_ON_TRIAL,
            assignment.reason,
            slots_after=replace(state, live=slot, previous=previous, candidate=None),
        )

    def _set_aside(self, task: _Task, end: UpdateState, reason: str) -> str:
        self._store.wants[self._name] = frozenset()
        state = self.slots.state()
        refusal = Refusal(
            version=task.ref.version,
            manifest_sha256=task.ref.manifest_sha256,
            rollout=task.assignment.rollout,
            revision=task.revision,
            reason=reason,
            ended=end,
            at=self._clock(),
        )
        self._journal.advance(
            self.slots,
            end,
            reason,
            slots_after=replace(state, candidate=None, refusals=_with_refusal(state.refusals, refusal)),
        )
        return reason

    def _fail(self, task: _Task, error: DeviceError) -> None:
        if isinstance(error, SelfTestError):
            self._set_aside(task, UpdateState.FAILED, str(error))
            return
        state = self.slots.state()
        if state.update is None or state.update.state not in ACTIVE:
            return  # the offer itself could not be written: the record is of an older update, and stays
        attempts = state.update.attempts
        self._journal.advance(
            self.slots,
            UpdateState.FAILED,
            str(error),
            attempts=attempts + 1,
            retry_at=self._retry_at(attempts),
            slots_after=replace(state, candidate=None),
        )

    def _retry_at(self, attempts: int) -> datetime:
        """When to try again after that many failures before this one."""
        wait = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(attempts, 16))
        return self._clock() + timedelta(seconds=wait)


def _holds(slot: Slot, ref: ReleaseRef) -> bool:
    return (slot.version, slot.manifest_sha256) == (ref.version, ref.manifest_sha256)


def _is_refused(refusal: Refusal, assignment: Assignment, ref: ReleaseRef, revision: int) -> bool:
    """Whether a refusal holds: until another rollout names the release, or without one a later revision."""
    if refusal.manifest_sha256 != ref.manifest_sha256 or refusal.rollout != assignment.rollout:
        return False
    return bool(assignment.rollout) or revision <= refusal.revision


def _with_refusal(refusals: tuple[Refusal, ...], refusal: Refusal) -> tuple[Refusal, ...]:
    others = tuple(item for item in refusals if item.manifest_sha256 != refusal.manifest_sha256)
    return (*others, refusal)[-_MAX_REFUSALS:]
