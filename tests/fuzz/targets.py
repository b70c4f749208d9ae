"""What is fuzzed: each reader of bytes somebody else wrote, and what it promises.

A target takes any bytes. It may raise Ferry's own errors and nothing else; it raises `PromiseBrokenError`
itself where a value that was read does not survive being written and read again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import lzma
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from device_sdk.activity import Activity, read_activity
from device_sdk.enrolment import problem_of
from device_sdk.records import dump_state, parse_state
from device_sdk.spool import Spool
from device_sdk.transport import Answer
from device_sdk.trust_record import dump_record, parse_record
from edge_runtime.arrays import from_value
from edge_runtime.images import decode
from edge_runtime.wordpiece import Tokenizer
from ota_contract.assignment import assign
from ota_contract.compatibility import choose_variant
from ota_contract.conditions import parse_condition
from ota_contract.delta import MAGIC, apply_delta
from ota_contract.device import Attributes, attributes_from, condition_attributes
from ota_contract.documents import read_document
from ota_contract.errors import FerryError
from ota_contract.golden import dump_golden, parse_golden
from ota_contract.inference_protocol import dump_request, dump_response, parse_request, parse_response
from ota_contract.manifest import dump_release, parse_release
from ota_contract.patterns import MAX_SUBJECT, check_pattern
from ota_contract.policy import parse_policy, policy_to_json
from ota_contract.preprocessing_steps import Casing, Colour, Decode, WordPiece
from ota_contract.report import dump_batch, parse_batch

__all__ = ["DELTA_BASE", "TARGETS", "PromiseBrokenError", "Target"]

DELTA_BASE = bytes(range(256)) * 16
_MAX_BYTES = 64 * 1024
_DEVICES = (
    Attributes(device_id="device-1"),
    Attributes(
        device_id="camera:7",
        hardware="camera-v2",
        os="linux",
        arch="aarch64",
        ram_bytes=2**31,
        runtimes={"onnx": "1.20.1", "tflite": "2.1.0rc1"},
        region="eu-" + "a" * 61,
        extra={"floor": 3, "indoor": True, "load": 0.5, "firmware": "v1.2.3-" + "9" * 249},
        tags=tuple(f"tag-{number:02}-" + "a" * 57 for number in range(64)),
    ),
)


class PromiseBrokenError(Exception):
    """A target's answer is not what its parser promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader of foreign bytes."""

    run: Callable[[bytes], None]
    is_json: bool = True
    """Whether mutations may be made in the decoded value, too."""


def _manifest(data: bytes) -> None:
    release = parse_release(data)
    _expect_same(parse_release(dump_release(release)), release)
    for device in _DEVICES:
        choose_variant(release, device).explain()


def _policy(data: bytes) -> None:
    try:
        custom = json.loads(data)  # as python-tuf does, which knows no duplicates and takes NaN
    except (ValueError, RecursionError):
        return
    policy = parse_policy(custom)
    _expect_same(parse_policy(policy_to_json(policy)), policy)
    for device in _DEVICES:
        assign(policy, device, live_version="1.0.0")


def _reports(data: bytes) -> None:
    batch = parse_batch(data)
    _expect_same(parse_batch(dump_batch(batch)), batch)


def _condition(data: bytes) -> None:
    reader = read_document(data, what="fuzz", format_=None, max_bytes=_MAX_BYTES)
    condition = parse_condition(reader.raw("rule"))
    _expect_same(parse_condition(condition.rule), condition)
    devices = list(_DEVICES)
    if reader.has("device"):
        devices.append(attributes_from(reader.object("device")))
    for device in devices:
        condition.matches(condition_attributes(device))


def _pattern(data: bytes) -> None:
    pattern, _, subject = data.decode("utf-8", "replace").partition("\n")
    check_pattern(pattern)
    for text in (
        subject,
        subject * MAX_SUBJECT,
        "a" * MAX_SUBJECT,
        "ab" * MAX_SUBJECT,
        pattern * MAX_SUBJECT,
    ):
        re.search(pattern, text[:MAX_SUBJECT])


def _state(data: bytes) -> None:
    state = parse_state(data)
    written = dump_state(state)  # with reasons and refusals cut to what a record may hold
    again = parse_state(written)
    _expect_same(dump_state(again), written)
    _expect_same((again.live, again.candidate, again.previous), (state.live, state.candidate, state.previous))


def _record(data: bytes) -> None:
    record = parse_record(data)
    _expect_same(parse_record(dump_record(record)), record)


def _cloud(data: bytes) -> None:
    problem_of(Answer(status=400, body=data, etag="", retry_after_s=None))
    with contextlib.suppress(FerryError):
        request = parse_request(data)  # the reference endpoint's side of the same protocol
        _expect_same(parse_request(dump_request(request)), request)
    response = parse_response(data)
    for value in response.outputs:
        from_value(value)
    _expect_same(parse_response(dump_response(response)), response)


def _golden(data: bytes) -> None:
    vectors = parse_golden(data)
    _expect_same(parse_golden(dump_golden(vectors)), vectors)


def _spool(data: bytes) -> None:
    """A file that an app's process left, or that a power cut tore."""
    spool, folder = _scratch_spool()
    dropped = folder / "incoming" / "1.json"
    dropped.write_bytes(data)
    found = list(spool.incoming())
    if not found:
        if dropped.exists():
            raise PromiseBrokenError("a file that holds no report stays for ever")
        return
    (path, report), *_ = found
    spool.accept(path)
    ((path, again),) = spool.outgoing(9)
    spool.forget([path])
    _expect_same(again, report)


def _activity(data: bytes) -> None:
    folder = _scratch()
    (folder / "activity.json").write_bytes(data)
    read_activity(folder)
    activity = Activity(folder)
    activity.polled(changed=True)
    activity.failed("message", blob_refused=True)
    activity.succeeded("standing")


def _delta(data: bytes) -> None:
    """The first byte says whether the rest is a file or the instructions before compression."""
    packed = MAGIC + lzma.compress(data[1:], preset=0) if data[:1] == b"i" else data[1:]
    out = BytesIO()
    try:
        apply_delta(BytesIO(DELTA_BASE), BytesIO(packed), out, max_bytes=_MAX_BYTES)
    finally:
        if len(out.getvalue()) > _MAX_BYTES:
            raise PromiseBrokenError("a delta made more bytes than it may")


def _text(data: bytes) -> None:
    """A vocabulary and a text, with a byte between them that neither has."""
    vocabulary, _, text = data.partition(b"\xfe")
    for casing in Casing:
        step = WordPiece(vocabulary="0" * 64, casing=casing, length=16, input_ids="ids")
        ids = Tokenizer(step, vocabulary).numbers([text])["ids"]
        if ids.shape != (1, 16) or not 0 <= ids.min() <= ids.max() < vocabulary.count(b"\n") + 1:
            raise PromiseBrokenError(f"ids {ids} of a shorter vocabulary")


def _image(data: bytes) -> None:
    """A file that an app was given; the bound on its pixels keeps what is decoded small."""
    pixels = decode(Decode(colour=Colour.RGB, max_pixels=4096), [data])
    if pixels.dtype != "uint8" or pixels.ndim != 4 or pixels.size > 3 * 4096:
        raise PromiseBrokenError(f"pixels of shape {pixels.shape}")


TARGETS: dict[str, Target] = {
    "manifest": Target(run=_manifest),
    "policy": Target(run=_policy),
    "reports": Target(run=_reports),
    "condition": Target(run=_condition),
    "pattern": Target(run=_pattern, is_json=False),
    "state": Target(run=_state),
    "record": Target(run=_record),
    "cloud": Target(run=_cloud),
    "golden": Target(run=_golden),
    "spool": Target(run=_spool),
    "activity": Target(run=_activity),
    "delta": Target(run=_delta, is_json=False),
    "text": Target(run=_text, is_json=False),
    "image": Target(run=_image, is_json=False),
}


def _expect_same(found: Any, expected: Any) -> None:
    if found != expected:
        raise PromiseBrokenError(f"read again it is another: {found!r:.300} for {expected!r:.300}")


@functools.cache
def _scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Removed at the interpreter's end; the command gives its process a folder that it removes itself."""
    return tempfile.TemporaryDirectory(prefix="ferry-fuzz-")


def _scratch() -> Path:
    return Path(_scratch_folder().name)


@functools.cache
def _scratch_spool() -> tuple[Spool, Path]:
    folder = _scratch() / "reports"
    return Spool(folder), folder
