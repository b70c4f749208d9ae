"""The end of the fallback chain: an endpoint that speaks the Open Inference Protocol v2, JSON over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from device_sdk.config import CloudConfig, CloudTakes
from device_sdk.enrolment import problem_of
from device_sdk.errors import CloudError, NetworkError
from device_sdk.transport import Transport
from ota_contract.errors import ProtocolError
from ota_contract.inference_protocol import (
    CONTENT_TYPE,
    MAX_MESSAGE_BYTES,
    InferRequest,
    dump_request,
    parse_response,
)

if TYPE_CHECKING:
    from edge_runtime.port import AnyArray, RawValue
    from ota_contract.tensors import Tensor

__all__ = ["CloudModel"]

_OK = 200
_OPEN_AFTER = 5
_OPEN_FOR_S = 30.0


class CloudModel:
    """One model at the endpoint, behind a circuit breaker.

    After five failures in a row the breaker opens, and calls fail at once for thirty seconds; then one
    call may try (Nygard, Release It!, "Circuit Breaker").
    """

    def __init__(
        self,
        config: CloudConfig,
        model: str,
        transport: Transport,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Send nothing yet."""
        self._url = f"{config.url}/v2/models/{quote(config.model or model, safe='')}/infer"
        self.takes_raw = config.takes is CloudTakes.RAW
        self._timeout_s = config.timeout_s
        self._transport = transport
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_again_at = 0.0

    def infer(
        self,
        inputs: Mapping[str, RawValue],
        timeout_s: float | None,
        signature: Sequence[Tensor] | None = None,
    ) -> tuple[dict[str, AnyArray], str]:
        """Ask the endpoint; returns outputs by name, and the version that gave them.

        Args:
            inputs: Raw values, or tensors by signature name, as the endpoint takes them.
            timeout_s: What is left of the caller's deadline; None for the configured time.
            signature: What the outputs must be; None where this device has no release to tell.

        Raises:
            CloudError: The breaker is open, no answer came in time, or it was not a proper one.
        """
        budget = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        if budget <= 0:
            raise CloudError("no time was left to ask the cloud")
        body = _request(inputs)
        self._check_breaker()
        try:
            answer = self._ask(body, budget, signature)
        except (NetworkError, ProtocolError) as error:
            self._note(failed=True)
            raise CloudError(f"cloud: {error}") from error
        except CloudError:
            self._note(failed=True)
            raise
        self._note(failed=False)
        return answer

    def _ask(
        self, body: bytes, budget_s: float, signature: Sequence[Tensor] | None
    ) -> tuple[dict[str, AnyArray], str]:
        from edge_runtime.arrays import from_value  # noqa: PLC0415 - numpy only with a model
        from edge_runtime.errors import InferenceError, InputError  # noqa: PLC0415
        from edge_runtime.signature import check_outputs  # noqa: PLC0415

        answer = self._transport.send(
            self._url,
            body,
            headers={"Content-Type": CONTENT_TYPE},
            max_bytes=MAX_MESSAGE_BYTES,
            timeout_s=budget_s,
        )
        if answer.status != _OK:
            raise CloudError(f"cloud: HTTP {answer.status}: {problem_of(answer)}")
        try:
            response = parse_response(answer.body)
            outputs = {value.name: from_value(value) for value in response.outputs}
            check_outputs(signature or (), outputs)
        except (InputError, InferenceError) as error:
            raise CloudError(f"cloud: {error}") from error
        for tensor in signature or ():
            if outputs[tensor.name].dtype != tensor.datatype.dtype:
                raise CloudError(f"cloud: output {tensor.name} is not {tensor.datatype.value}")
        return outputs, response.model_version

    def _check_breaker(self) -> None:
        with self._lock:
            now = self._monotonic()
            if now < self._closed_again_at:
                raise CloudError(
                    f"cloud: not asked for another {self._closed_again_at - now:.0f} s after "
                    f"{self._failures} failures in a row"
                )
            if self._failures >= _OPEN_AFTER:  # half open: this call tries, the others wait for it
                self._closed_again_at = now + _OPEN_FOR_S

    def _note(self, *, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            opens = self._failures >= _OPEN_AFTER
            self._closed_again_at = self._monotonic() + _OPEN_FOR_S if opens else 0.0


def _request(inputs: Mapping[str, RawValue]) -> bytes:
    """The request's body; what cannot be carried is the caller's fault, not the endpoint's."""
    from edge_runtime.arrays import to_value  # noqa: PLC0415 - numpy only with a model

    try:
        return dump_request(
            InferRequest(inputs=tuple(to_value(name, array) for name, array in inputs.items()))
        )
    except ProtocolError as error:
        raise CloudError(f"cloud: not asked: {error}") from error
