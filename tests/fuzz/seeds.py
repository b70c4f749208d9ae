"""Where fuzzing begins: one good document per target, and the words of its language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from PIL import Image

from device_sdk.records import ModelState, Refusal, Slot, Update, dump_state
from device_sdk.trust_record import TrustRecord, dump_record
from ota_contract.assignment import Arm
from ota_contract.conditions import parse_condition
from ota_contract.delta import COPY, DIFF, END, INSERT
from ota_contract.device import Attributes
from ota_contract.documents import canonical_json
from ota_contract.golden import Vector, dump_golden
from ota_contract.inference_protocol import (
    InferRequest,
    InferResponse,
    TensorValue,
    dump_request,
    dump_response,
)
from ota_contract.manifest import Delta, File, FileRole, Pieces, dump_release
from ota_contract.names import ModelName
from ota_contract.policy import Policy, ReleaseRef, Rule, policy_to_json
from ota_contract.report import (
    AnsweredBy,
    Batch,
    FallbackCause,
    Report,
    Transition,
    UpdateState,
    Window,
    dump_batch,
    report_to_json,
)
from ota_contract.tensors import Array, Datatype
from tests.ota_contract.release_samples import sample_release, text_release
from tests.support.raw_package import VOCABULARY

__all__ = ["dictionary", "seeds"]

_NAME = ModelName("vision", "digits")
_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_RULES: tuple[dict[str, Any], ...] = (
    {},
    {"region": "eu", "ram_bytes": {"$gte": 1000}, "tags": {"$elemMatch": {"$regex": "^tag-.*a"}}},
    {"$or": [{"os": {"$in": ["linux", None]}}, {"$not": {"runtimes": {"$all": ["onnx", {"$regex": "t."}]}}}]},
    {
        "$nor": [{"extra.floor": {"$exists": True}}],
        "$and": [{"runtime_versions.onnx": {"$vgte": "1.2.0-rc1"}}],
    },
    {"tags": {"$size": {"$gt": 1}}, "load": {"$type": "number"}, "tags.0": {"$ne": "a"}, "a": {"b": [1.5]}},
    {"id": {"$regex": "(?i)^[a-z]+:[0-9]{1,3}$|device"}, "hardware": {"$vlt": "v2"}, "x": {"$nin": [1]}},
)
_PATTERNS = (
    "^camera-[0-9]+$\ncamera-12",
    "(?i)eu|us-(?:east|west)\nEU",
    "(?P<a>x{2,5}?)[^\\d\\w]\\b.*+$\nxx",
    "(?>a|b)c(?#note)(?s:.)(?-i:Q)\\Z\nbc",
    "[\\u0000-\\uffff]\\N{BULLET}|\\x41\\101",
)


def seeds(target: str) -> list[bytes]:
    """Good inputs of a target."""
    return list(_SEEDS[target]())


def dictionary(target: str) -> list[bytes]:
    """Keys and words that occur in a target's seeds, and what parsers trip over."""
    words: set[str] = set()
    for seed in seeds(target):
        try:
            value = json.loads(seed)
        except ValueError:
            continue
        words |= set(_words(value))
    for rule in _RULES if target in ("condition", "policy") else ():
        words |= {word for word in _words(rule) if word.startswith("$")}
    tokens = [json.dumps(word).encode() for word in sorted(words) if len(word) < 60]
    return [*tokens, *_HOSTILE]


_HOSTILE = (
    b"null",
    b"1e999",
    b"-1",
    b"1" + b"0" * 60,
    b"9223372036854775807",
    b"0.1",
    b"-0.0",
    b'"\\ud800"',
    b'"../../x"',
    b'"0001-01-01T00:00:00Z"',
    b'"9999-12-31T23:59:59Z"',
    b"[[[[[[[[",
    b'{"":{"":{"":',
    b"(?i)",
    b"(?a)",
    b"(?u)",
    b"(?:",
    b"(?=",
    b"(?P<n>",
    b"(?P=n)",
    b"{0,255}",
    b"{2,}",
    b"*?",
    b"[^",
    b"\\b",
    b"\\Z",
)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for child in value.values():
            yield from _words(child)
    elif isinstance(value, list):
        for child in value:
            yield from _words(child)
    elif isinstance(value, str):
        yield value


def _manifests() -> Iterator[bytes]:
    release = sample_release()
    yield dump_release(release)
    yield dump_release(text_release())
    model = release.variants[0].files[0]
    large = replace(model, length_bytes=5000, pieces=Pieces(length_bytes=4096, digests=bytes(16)))
    delta = File(path="deltas/1", length_bytes=9, sha256="5" * 64, role=FileRole.DELTA)
    yield dump_release(
        replace(
            release,
            variants=(replace(release.variants[0], files=(large,)),),
            deltas=(Delta(file=delta, base_sha256="6" * 64, target_sha256=large.sha256),),
        )
    )


def _policies() -> Iterator[bytes]:
    base = ReleaseRef(version="1.0.0", counter=1, manifest_sha256="1" * 64)
    candidate = ReleaseRef(version="1.1.0-rc.1", counter=2, manifest_sha256="2" * 64)
    rules = tuple(
        Rule(
            cohort=f"cohort-{number}",
            condition=parse_condition(rule),
            base=base if number % 2 else None,
            candidate=candidate,
            rollout="r1",
            salt="s",
            threshold_bp=2500 * number,
            frozen=number == 1,
        )
        for number, rule in enumerate(_RULES[:4])
    )
    policy = Policy(name=_NAME, revision=7, poll_interval_s=60, rules=rules)
    yield canonical_json(policy_to_json(policy))
    yield canonical_json(policy_to_json(replace(policy, rules=rules[:1])))


def _reports() -> tuple[Report, ...]:
    transition = Transition(state=UpdateState.FAILED, at=_AT, reason="no room")
    window = Window(
        started=_AT,
        ended=_AT,
        inferences=10,
        errors=2,
        answered_by={AnsweredBy.LIVE: 8, AnsweredBy.CLOUD: 1},
        fallbacks={FallbackCause.ERROR: 2},
    )
    return (
        Report(id="a", name=_NAME, version="1.0.0", content=transition, rollout="r1", arm=Arm.CANDIDATE),
        Report(id="b", name=_NAME, version="1.0.0", content=window),
    )


def _batches() -> Iterator[bytes]:
    device = Attributes(
        device_id="device-1", os="linux", runtimes={"onnx": "1.20"}, extra={"floor": 3, "indoor": True}
    )
    yield dump_batch(Batch(device=device, live={_NAME: "1.0.0"}, reports=_reports()))


def _conditions() -> Iterator[bytes]:
    device = {"id": "d", "os": "linux", "ram_bytes": 1, "runtimes": {"onnx": "1.20"}, "extra": {"a": 1.5}}
    for rule in _RULES:
        yield canonical_json({"rule": rule, "device": device})


def _states() -> Iterator[bytes]:
    slot = Slot(version="1.0.0", counter=1, manifest_sha256="1" * 64, variant_id="onnx-fp32", arm=Arm.CONTROL)
    update = Update(
        version="1.1.0",
        manifest_sha256="2" * 64,
        state=UpdateState.LIVE_ON_TRIAL,
        reason="bucket 1 is below 2",
        at=_AT,
        retry_at=_AT,
        rollout="r1",
    )
    refusal = Refusal(version="1.1.0", manifest_sha256="2" * 64, rollout="r1", revision=2, reason="crashed")
    yield dump_state(ModelState())
    yield dump_state(
        ModelState(live=slot, candidate=slot, previous=slot, update=update, refusals=(refusal, refusal))
    )


def _records() -> Iterator[bytes]:
    yield dump_record(TrustRecord())
    yield dump_record(
        TrustRecord(
            versions={"root": 1, "timestamp": 12},
            floors={str(_NAME): 1},
            revisions={str(_NAME): 7},
            policies={str(_NAME): {"format": "ferry.policy/1", "rules": [{"condition": {"a": [1.5]}}]}},
            keys={"root": "1" * 64, "ro-vision": "2" * 64},
            trusted_time=_AT,
            refreshed=_AT,
            etag='"1"',
        )
    )


def _answers() -> Iterator[bytes]:
    outputs = (
        TensorValue(name="scores", datatype=Datatype.FP32, shape=(1, 2), data=[0.25, 0.75]),
        TensorValue(name="top", datatype=Datatype.UINT8, shape=(2,), data=[1, 255]),
        TensorValue(name="sure", datatype=Datatype.BOOL, shape=(), data=[True]),
        TensorValue(name="half", datatype=Datatype.FP16, shape=(1,), data=[1]),
        TensorValue(name="text", datatype=Datatype.BYTES, shape=(2,), data=[b"hi", b""]),
        TensorValue(name="file", datatype=Datatype.BYTES, shape=(1,), data=[b"\xff\xd8"]),
    )
    yield dump_response(InferResponse(model_name="digits", model_version="1.0.0", outputs=outputs, id="1"))
    yield dump_request(InferRequest(inputs=outputs, id="2"))
    yield b'{"outputs":[{"name":"a","datatype":"INT64","shape":[2,2],"data":[[1,2],[3,4]]}]}'
    yield b'{"type":"about:blank","title":"Bad Request","detail":"no such model","error":"no"}'


def _vectors() -> Iterator[bytes]:
    pixels = Array(datatype=Datatype.UINT8, shape=(1, 2), data=b"\1\2")
    scores = Array(datatype=Datatype.FP32, shape=(2,), data=bytes(8))
    yield dump_golden((Vector(raw={"image": pixels}, tensors={"image": pixels}, outputs={"scores": scores}),))
    text = Array.of_bytes((2,), [b"hi", b"\xff"])
    yield dump_golden((Vector(raw={"text": text}, tensors={"image": pixels}, outputs={"scores": scores}),))


def _activities() -> Iterator[bytes]:
    values = {
        "polls": {"total": 3, "not_modified": 1},
        "refused": {"blobs": 0, "metadata": 1},
        "last_poll": "2026-01-02T03:04:05Z",
        "last_error": {"at": "2026-01-02T03:04:05Z", "message": "link lost"},
        "standing": "vision/digits: 1.0.0 is live",
    }
    yield json.dumps(values).encode()


def _deltas() -> Iterator[bytes]:
    copy, insert = bytes([COPY, 4, 8]), bytes([INSERT, 3]) + b"abc"
    yield b"i" + copy + insert + bytes([DIFF | 2, 0, 4, 1, 2, 3, 4, END])
    yield b"i" + bytes([DIFF | 1, 1, 2, 255, 0, END])
    yield b"fferry.delta/1\n"


def _texts() -> Iterator[bytes]:
    yield VOCABULARY + b"\xfe" + "Hello worlds! [SEP] na\u00efve \u4e2d\u6587".encode()
    yield b"[UNK]\n[CLS]\n[SEP]\n[PAD]" + b"\xfe" + b"a" * 120


def _images() -> Iterator[bytes]:
    for kind, mode in (("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("JPEG", "RGB"), ("JPEG", "L")):
        stream = BytesIO()
        Image.linear_gradient("L").resize((12, 9)).convert(mode).save(stream, kind)
        yield stream.getvalue()


_SEEDS = {
    "manifest": _manifests,
    "policy": _policies,
    "reports": _batches,
    "condition": _conditions,
    "pattern": lambda: iter([pattern.encode() for pattern in _PATTERNS]),
    "state": _states,
    "record": _records,
    "cloud": _answers,
    "golden": _vectors,
    "spool": lambda: (canonical_json(report_to_json(report)) for report in _reports()),
    "activity": _activities,
    "delta": _deltas,
    "text": _texts,
    "image": _images,
}
