"""Sends queued reports and brings back the tags a fleet manager gave this device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from device_sdk.config import Config
from device_sdk.durable import read_bounded, write_durably
from device_sdk.enrolment import Enrolment, problem_of
from device_sdk.errors import EnrolmentError, NetworkError
from device_sdk.spool import Spool
from device_sdk.transport import Transport
from ota_contract.device import Attributes
from ota_contract.documents import canonical_json, read_document
from ota_contract.errors import FormatError
from ota_contract.names import ModelName
from ota_contract.report import Batch, dump_batch

__all__ = ["Reporter"]

_MOST_AT_ONCE = 128
"""About 45 kB: far below what the server takes in one request."""
_MAX_ANSWER_BYTES = 64 * 1024
_OK, _MALFORMED = 200, (400, 413, 422)
_UNKNOWN = (401, 403)
_MAX_TAGS = 64


class Reporter:
    """The device's voice."""

    def __init__(self, config: Config, transport: Transport, spool: Spool, enrolment: Enrolment) -> None:
        """Nothing is sent yet."""
        self._config = config
        self._transport = transport
        self._spool = spool
        self._enrolment = enrolment
        self._tags_path: Path = config.store / "tags.json"
        self._tags = self._read_tags()

    def attributes(self) -> Attributes:
        """The device's statement with the tags last heard of."""
        return replace(self._config.device, tags=self._tags)

    def send(self, live: Mapping[ModelName, str]) -> int:
        """Send what is queued, and what runs; returns how many reports the server took.

        Raises:
            NetworkError: The server does not answer; the queue is unchanged.
            EnrolmentError: The server does not know this device; the queue is unchanged.
        """
        token = self._enrolment.token()
        queued = self._spool.outgoing(_MOST_AT_ONCE)
        batch = Batch(device=self.attributes(), live=live, reports=tuple(report for _, report in queued))
        answer = self._transport.send(
            f"{self._config.server}/api/v1/reports",
            dump_batch(batch),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            max_bytes=_MAX_ANSWER_BYTES,
        )
        if answer.status in _UNKNOWN:
            self._enrolment.forget()
            raise EnrolmentError(f"the server does not accept this device: {problem_of(answer, token)}")
        if answer.status != _OK and answer.status not in _MALFORMED:
            raise NetworkError(f"reports: {problem_of(answer, token)}", retry_after_s=answer.retry_after_s)
        # What the server calls malformed will be malformed tomorrow, too: it must not block the rest.
        self._spool.forget(path for path, _ in queued)
        if answer.status == _OK:
            self._keep_tags(answer.body)
        return len(queued) if answer.status == _OK else 0

    def _keep_tags(self, body: bytes) -> None:
        try:
            tags = _tags_from(body)
        except FormatError:
            return  # the reports were taken; tags come again with the next answer
        if tags != self._tags:
            write_durably(self._tags_path, canonical_json({"tags": list(tags)}))
            self._tags = tags

    def _read_tags(self) -> tuple[str, ...]:
        try:
            return _tags_from(read_bounded(self._tags_path, _MAX_ANSWER_BYTES))
        except (OSError, FormatError):
            return ()  # unknown until the next answer


def _tags_from(data: bytes) -> tuple[str, ...]:
    reader = read_document(data, what="tags", format_=None, max_bytes=_MAX_ANSWER_BYTES)
    return reader.texts("tags", max_items=_MAX_TAGS, max_length=64)
