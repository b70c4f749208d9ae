"""One model as an app sees it: `predict`, with a chain to fall back along and releases swapped underneath."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from device_sdk.cloud import CloudModel
from device_sdk.counts import Counts
from device_sdk.errors import CloudError, NoAnswerError, StoreError
from device_sdk.records import Slot
from device_sdk.slots import ModelSlots
from device_sdk.spool import Spool
from ota_contract.assignment import Arm
from ota_contract.errors import FerryError
from ota_contract.names import ModelName
from ota_contract.report import AnsweredBy, FallbackCause, UpdateState

if TYPE_CHECKING:
    from edge_runtime.port import AnyArray, LoadedModel, RawValue
    from edge_runtime.preprocessing import Preprocessing
    from ota_contract.manifest import Release
    from ota_contract.tensors import Tensor

__all__ = ["Answer", "Model"]

_LOG = logging.getLogger("ferry")
_T = TypeVar("_T")
_WORKERS = 4
_CLOUD_SHARE = 0.5
"""Of a deadline, kept for the cloud; a local model rarely needs the other half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outputs of a prediction, and who gave them."""

    outputs: Mapping[str, AnyArray]
    answered_by: AnsweredBy
    release: str
    """Version that answered; empty where the cloud did not say."""
    accelerator: str
    reason: str
    """Why it was this link of the chain."""
    latency_ms: float


@dataclass(slots=True, kw_only=True)
class _Loaded:
    """A release in memory. Calls hold a reference; it is freed when the last of them ends."""

    slot: Slot
    release: Release
    preprocessing: Preprocessing
    model: LoadedModel
    counts: Counts
    start: Path | None
    on_trial: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    cause: FallbackCause
    reason: str


class Model:
    """A model on this device; safe to call from several threads."""

    def __init__(
        self, name: ModelName, slots: ModelSlots, spool: Spool, cloud: CloudModel | None, threads: int
    ) -> None:
        """Load what is live, if anything is."""
        self.name = name
        self._slots = slots
        self._spool = spool
        self._cloud = cloud
        self._threads = threads
        self._live: _Loaded | None = None
        self._previous: _Loaded | None = None
        self._missing = "no release is installed yet"
        self._seen: tuple[int, ...] = ()
        self._closed = False
        self._swap = threading.Lock()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix=f"ferry-{name.model}")
        self._flushed = time.monotonic()
        self.reload()

    def predict(self, inputs: Mapping[str, RawValue], *, deadline_ms: float | None = None) -> Answer:
        """Answer by the live release, or by the first link of the chain that can.

        Args:
            inputs: Raw values by name, as the release's preprocessing takes them: arrays, and for BYTES
                `bytes`, `str` or lists of them. Where there is no preprocessing, the signature's tensors.
            deadline_ms: Time within which an answer is of use, in milliseconds; it covers the whole chain.

        Raises:
            InputError: An input does not fit; nothing was run.
            NoAnswerError: No link could answer; its `reasons` say why, link by link.
        """
        began = time.perf_counter()
        live = self._live
        if live is None:
            return self._fall_back(
                None, _Failure(cause=FallbackCause.MISSING, reason=self._missing), inputs, began, deadline_ms
            )
        outcome = self._attempt_live(live, inputs, deadline_ms)
        if isinstance(outcome, _Failure):
            return self._fall_back(live, outcome, inputs, began, deadline_ms)
        live.counts.answered_live()
        return Answer(
            outputs=outcome,
            answered_by=AnsweredBy.LIVE,
            release=live.slot.version,
            accelerator=live.model.accelerator,
            reason="live",
            latency_ms=(time.perf_counter() - began) * 1e3,
        )

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What `predict` takes; empty while no release is loaded."""
        live = self._live
        return () if live is None else live.release.raw_inputs

    def reload(self) -> None:
        """Follow the store: swap in what is live there. Requests in flight end on what they began with."""
        stamp = self._stamp()
        if stamp == self._seen and self._live is not None:
            return
        with self._swap:
            if self._closed:
                return
            try:
                state = self._slots.state()
            except StoreError as error:
                self._missing = str(error)
                return
            on_trial = state.update is not None and state.update.state is UpdateState.LIVE_ON_TRIAL
            self._adopt(state.live, on_trial=on_trial)
            kept = self._previous
            if kept is not None and (state.previous is None or not _same(kept.slot, state.previous)):
                self._previous = None
            self._seen = stamp

    def flush(self, *, interval_s: float, rollout_interval_s: float, now: bool = False) -> None:
        """Hand the counts over to the spool when a window is due: at once while a trial waits for them."""
        live = self._live
        if live is None:
            return
        wait = interval_s if live.slot.arm is Arm.NONE else min(interval_s, rollout_interval_s)
        if now or live.on_trial or time.monotonic() - self._flushed >= wait:
            self._flushed = time.monotonic()
            self._hand_over(live)

    def close(self) -> None:
        """Hand over the counts and let go of the models; a start that ends here was no crash."""
        with self._swap:
            self._closed = True
            live, self._live, self._previous = self._live, None, None
            self._missing = "the model was closed"
        if live is not None:
            self._hand_over(live)
            if live.start is not None:
                self._slots.forget_start_of(live.start)
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _hand_over(self, loaded: _Loaded) -> None:
        report = loaded.counts.take(self.name, loaded.slot)
        if report is None:
            return
        try:
            self._spool.drop(report)
        except StoreError as error:  # a full disk must not end the app; the counts wait for room
            _LOG.warning("%s: counts are kept in memory: %s", self.name, error)
            loaded.counts.give_back(report)

    def _adopt(self, slot: Slot | None, *, on_trial: bool) -> None:
        live = self._live
        if slot is not None and live is not None and _same(live.slot, slot):
            if (live.slot.rollout, live.slot.arm) != (slot.rollout, slot.arm):
                self._hand_over(live)  # counts made so far belong to the part it had then
            live.slot, live.on_trial = slot, on_trial
            return
        loaded = None if slot is None else self._load(slot, on_trial=on_trial)
        self._live = loaded  # one assignment: every request sees the old or the new
        if live is not None:
            self._hand_over(live)
            self._previous = live

    def _load(self, slot: Slot, *, on_trial: bool) -> _Loaded | None:
        from edge_runtime.loading import load  # noqa: PLC0415 - numpy and a runtime, only now
        from edge_runtime.preprocessing import Preprocessing  # noqa: PLC0415

        try:
            # Without the note a crash loop would go unseen, so a release on trial waits for room for it.
            start = self._slots.note_start() if on_trial else None
            installed = self._slots.installed(slot)
            preprocessing = Preprocessing.of_release(installed.release, installed.folder)
            model = load(installed.release, installed.variant, installed.folder, threads=self._threads)
        except FerryError as error:
            self._missing = str(error)
            return None
        return _Loaded(
            slot=slot,
            release=installed.release,
            preprocessing=preprocessing,
            model=model,
            counts=Counts(),
            start=start,
            on_trial=on_trial,
        )

    def _attempt(self, loaded: _Loaded, inputs: Mapping[str, RawValue]) -> dict[str, AnyArray] | _Failure:
        from edge_runtime.errors import InferenceError, RuntimeNotInstalledError  # noqa: PLC0415 - cached
        from edge_runtime.signature import check_inputs, check_outputs  # noqa: PLC0415

        try:
            tensors = loaded.preprocessing.prepare(inputs)
            check_inputs(loaded.release.inputs, tensors)
            outputs = loaded.model.run(tensors)
        except (InferenceError, RuntimeNotInstalledError) as error:
            return _Failure(cause=FallbackCause.ERROR, reason=str(error))
        try:
            check_outputs(loaded.release.outputs, outputs)
        except InferenceError as error:
            return _Failure(cause=FallbackCause.INVALID_OUTPUT, reason=str(error))
        return outputs

    def _attempt_live(
        self, live: _Loaded, inputs: Mapping[str, RawValue], deadline_ms: float | None
    ) -> dict[str, AnyArray] | _Failure:
        if deadline_ms is None:
            return self._attempt(live, inputs)
        share = deadline_ms * (_CLOUD_SHARE if self._cloud is not None else 1.0)
        outcome = self._within(share / 1e3, lambda: self._attempt(live, inputs))
        if outcome is None:
            reason = f"no answer within {share:g} of {deadline_ms:g} ms"
            return _Failure(cause=FallbackCause.DEADLINE, reason=reason)
        return outcome

    def _within(self, timeout_s: float, work: Callable[[], _T]) -> _T | None:
        """Work in another thread, or None when it is late: a runtime can be left behind, not interrupted."""
        try:
            future: Future[_T] = self._workers.submit(work)
        except RuntimeError:  # closed in this moment
            return None
        try:
            return future.result(timeout=timeout_s)
        except (FutureTimeoutError, CancelledError):
            future.cancel()
            return None

    def _fall_back(
        self,
        live: _Loaded | None,
        failure: _Failure,
        inputs: Mapping[str, RawValue],
        began: float,
        deadline_ms: float | None,
    ) -> Answer:
        reasons = {AnsweredBy.LIVE.value: failure.reason}
        answer = None
        if failure.cause is not FallbackCause.DEADLINE:  # the previous release would be as late
            answer = self._by_previous_within(inputs, failure, reasons, began, deadline_ms)
        if answer is None:
            answer = self._by_cloud(inputs, failure, reasons, began, deadline_ms)
        if live is not None:
            live.counts.fell_back(failure.cause, answer.answered_by if answer else None)
        if answer is None:
            told = "; ".join(f"{link}: {reason}" for link, reason in reasons.items())
            raise NoAnswerError(f"{self.name}: nothing could answer ({told})", reasons=reasons)
        return replace(answer, latency_ms=(time.perf_counter() - began) * 1e3)

    def _by_previous_within(
        self,
        inputs: Mapping[str, RawValue],
        failure: _Failure,
        reasons: dict[str, str],
        began: float,
        deadline_ms: float | None,
    ) -> Answer | None:
        if deadline_ms is None:
            return self._by_previous(inputs, failure, reasons)
        told: dict[str, str] = {}  # its own: a worker left behind must not write into ours
        left = deadline_ms / 1e3 - (time.perf_counter() - began)
        share = left * (_CLOUD_SHARE if self._cloud is not None else 1.0)
        answer = self._within(share, lambda: self._by_previous(inputs, failure, told))
        if answer is None:
            reasons.update(told or {AnsweredBy.PREVIOUS.value: "no answer within the deadline"})
        return answer

    def _by_previous(
        self, inputs: Mapping[str, RawValue], failure: _Failure, reasons: dict[str, str]
    ) -> Answer | None:
        from edge_runtime.errors import InputError  # noqa: PLC0415 - cached

        previous = self._load_previous(reasons)
        if previous is None:
            return None
        try:
            outcome = self._attempt(previous, inputs)
        except InputError as error:
            if failure.cause is FallbackCause.MISSING:
                raise
            # Right for the live release, which failed; this one took something else.
            outcome = _Failure(cause=FallbackCause.ERROR, reason=str(error))
        if isinstance(outcome, _Failure):
            reasons[AnsweredBy.PREVIOUS.value] = outcome.reason
            return None
        return Answer(
            outputs=outcome,
            answered_by=AnsweredBy.PREVIOUS,
            release=previous.slot.version,
            accelerator=previous.model.accelerator,
            reason=f"{failure.cause.value}: {failure.reason}",
            latency_ms=0.0,
        )

    def _load_previous(self, reasons: dict[str, str]) -> _Loaded | None:
        """The previous release, loaded when it is first needed."""
        with self._swap:
            if self._previous is None and self._closed:
                reasons[AnsweredBy.PREVIOUS.value] = self._missing
                return None
            if self._previous is None:
                try:
                    slot = self._slots.state().previous
                except StoreError as error:
                    reasons[AnsweredBy.PREVIOUS.value] = str(error)
                    return None
                if slot is None:
                    reasons[AnsweredBy.PREVIOUS.value] = "there is no previous release"
                    return None
                missing = self._missing
                self._previous = self._load(slot, on_trial=False)
                if self._previous is None:
                    reasons[AnsweredBy.PREVIOUS.value], self._missing = self._missing, missing
            return self._previous

    def _by_cloud(
        self,
        inputs: Mapping[str, RawValue],
        failure: _Failure,
        reasons: dict[str, str],
        began: float,
        deadline_ms: float | None,
    ) -> Answer | None:
        if self._cloud is None:
            reasons[AnsweredBy.CLOUD.value] = "no [cloud] is configured"
            return None
        left = None if deadline_ms is None else deadline_ms / 1e3 - (time.perf_counter() - began)
        try:
            known = self._live or self._previous
            signature = known.release.outputs if known is not None else None
            given = inputs if self._cloud.takes_raw else _prepared(known, inputs)
            outputs, version = self._cloud.infer(given, left, signature)
        except CloudError as error:
            reasons[AnsweredBy.CLOUD.value] = str(error)
            return None
        return Answer(
            outputs=outputs,
            answered_by=AnsweredBy.CLOUD,
            release=version,
            accelerator="cloud",
            reason=f"{failure.cause.value}: {failure.reason}",
            latency_ms=0.0,
        )

    def _stamp(self) -> tuple[int, ...]:
        """Tells one state.json from the next: two may bear one time, but never lie in one place."""
        try:
            status = self._slots.state_path.stat()
        except OSError:
            return (-1,)
        return (status.st_mtime_ns, status.st_ino, status.st_size)


def _prepared(known: _Loaded | None, inputs: Mapping[str, RawValue]) -> dict[str, AnyArray]:
    """The model's own tensors, for an endpoint that takes nothing else."""
    from edge_runtime.errors import RuntimeNotInstalledError  # noqa: PLC0415 - cached

    if known is None:
        raise CloudError("cloud: not asked: it takes tensors, and no release is here to make them")
    try:
        return known.preprocessing.prepare(inputs)
    except RuntimeNotInstalledError as error:
        raise CloudError(f"cloud: not asked: {error}") from error


def _same(one: Slot, other: Slot) -> bool:
    return (one.manifest_sha256, one.variant_id) == (other.manifest_sha256, other.variant_id)
