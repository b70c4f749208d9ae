"""docs/release-format.md says what the code does: its examples are read by the real parsers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import TargetFile

from edge_runtime.arrays import from_array
from ota_contract import (
    device,
    golden,
    inference_protocol,
    manifest,
    policy,
    preprocessing,
    preprocessing_steps,
    report,
    tensors,
)
from ota_contract.conditions import _CHECKS, _GROUPS
from ota_contract.documents import MAX_DEPTH, canonical_json, reader_of
from ota_contract.golden import dump_golden, parse_golden
from ota_contract.manifest import FileRole, Release, dump_release, parse_release
from ota_contract.names import publisher_role, release_target, rollout_role, rollout_target
from ota_contract.patterns import MAX_PATTERN, MAX_STEPS, MAX_SUBJECT
from ota_contract.policy import Policy, parse_policy, policy_to_json

DOCUMENT = (Path(__file__).parents[2] / "docs" / "release-format.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```json ([\w./]+)\n(.*?)^```$", DOCUMENT)
LABELS = (
    "example",
    "ferry.release/1",
    "preprocessing",
    "ferry.golden/1",
    "tuf.targets",
    "ferry.policy/1",
    "ferry.reports/1",
    "inference.request",
    "inference.response",
)


def example(label: str) -> bytes:
    (text,) = (text for name, text in BLOCKS if name == label)
    return str(text).strip().encode()


def canonical(label: str) -> bytes:
    return canonical_json(json.loads(example(label)))


@pytest.fixture(scope="module")
def release() -> Release:
    return parse_release(example("ferry.release/1"))


@pytest.fixture(scope="module")
def rollout_policy() -> Policy:
    return parse_policy(json.loads(example("ferry.policy/1")))


def test_every_example_is_labelled_and_tested_here() -> None:
    assert tuple(label for label, _ in BLOCKS) == LABELS
    assert DOCUMENT.count("```json") == len(LABELS)


def test_canonical_json_is_the_bytes_shown() -> None:
    (shown,) = re.findall(r"(?m)^((?:[0-9a-f]{2} )+[0-9a-f]{2})$", DOCUMENT)
    data = bytes.fromhex(shown)
    assert canonical("example") == data
    assert f"is these {len(data)} bytes" in DOCUMENT


def test_the_manifest_has_the_canonical_bytes_it_is_said_to_have(release: Release) -> None:
    data = dump_release(release)
    assert canonical("ferry.release/1") == data
    assert f"it has {len(data)} bytes with the SHA-256\n`{hashlib.sha256(data).hexdigest()}`" in DOCUMENT


def test_the_golden_vectors_are_the_bytes_the_manifest_names(release: Release) -> None:
    data = example("ferry.golden/1")
    (vector,) = parse_golden(data)
    assert dump_golden((vector,)) == data
    assert (release.golden.file.length_bytes, release.golden.vectors) == (len(data), 1)
    assert release.golden.file.sha256 == hashlib.sha256(data).hexdigest()
    scores = vector.outputs["scores"]
    assert f"is `{scores.data.hex(' ')}`" in DOCUMENT
    assert from_array(scores).tolist() == [[0.25, 0.75]]


def test_the_preprocessing_is_read_back_whole() -> None:
    """Every key of the example is one the parser knows, and every parameter of a step is explained."""
    shown = json.loads(example("preprocessing"))
    specs = [preprocessing.input_spec_from(reader_of(item, what="example")) for item in shown]
    assert [preprocessing.input_spec_to_json(spec) for spec in specs] == shown
    for operation, parameters in preprocessing_steps.PARAMETERS.items():
        (row,) = re.findall(rf"(?m)^\| `{operation.value}` \| (.*) \|$", DOCUMENT)
        for parameter in parameters:
            assert re.search(rf"\b{parameter}\b", row), (operation, parameter)
    assert "up to 2²⁶ |" in DOCUMENT
    assert preprocessing_steps.MAX_PIXELS == 2**26


def test_bytes_have_the_form_shown() -> None:
    array = tensors.Array.of_bytes((1,), [b"hi"])
    assert f"`{array.data.hex(' ')}`, in base64 `{base64.b64encode(array.data).decode()}`" in DOCUMENT


def test_the_targets_are_those_of_the_examples(release: Release) -> None:
    targets = json.loads(example("tuf.targets"))
    signed, ruled = release_target(release.name, release.version), rollout_target(release.name)
    assert list(targets) == [signed, ruled]
    TargetFile.from_dict(dict(targets[signed]), signed).verify_length_and_hashes(dump_release(release))
    empty = TargetFile.from_dict(dict(targets[ruled]), ruled)
    empty.verify_length_and_hashes(b"")
    assert parse_policy(empty.custom).name == release.name
    for role in (publisher_role("p"), rollout_role("p")):
        assert f"| `{role.removesuffix('p')}<publisher>` |" in DOCUMENT


def test_the_policy_is_read_back_and_pins_the_manifest(release: Release, rollout_policy: Policy) -> None:
    assert canonical_json(policy_to_json(rollout_policy)) == canonical("ferry.policy/1")
    candidate = rollout_policy.rules[0].candidate
    assert candidate is not None
    assert candidate.manifest_sha256 == hashlib.sha256(dump_release(release)).hexdigest()
    assert (candidate.version, candidate.counter) == (release.version, release.counter)


def test_the_reports_are_read_back() -> None:
    batch = report.parse_batch(example("ferry.reports/1"))
    assert report.dump_batch(batch) == canonical("ferry.reports/1")
    assert [type(item.content) for item in batch.reports] == [report.Transition, report.Window]


def test_the_inference_examples_are_messages_of_the_protocol(release: Release) -> None:
    request = inference_protocol.parse_request(example("inference.request"))
    response = inference_protocol.parse_response(example("inference.response"))
    assert json.loads(inference_protocol.dump_request(request)) == json.loads(example("inference.request"))
    assert json.loads(inference_protocol.dump_response(response)) == json.loads(example("inference.response"))
    assert release.inputs[0].admits(request.inputs[0].shape)
    assert release.outputs[0].admits(response.outputs[0].shape)


def test_every_key_of_a_manifest_is_explained() -> None:
    document = json.loads(example("ferry.release/1"))
    for keys in (document.keys() - {"format"}, document["variants"][0].keys()):
        for key in keys:
            assert re.search(rf"(?m)^\| .*`{key}`.* \|", DOCUMENT), key


@pytest.mark.parametrize(
    "kind",
    [
        manifest.Runtime,
        manifest.VerificationStatus,
        tensors.Datatype,
        policy.Strategy,
        preprocessing_steps.Operation,
        preprocessing_steps.Colour,
        preprocessing_steps.Orientation,
        preprocessing_steps.ResizeFilter,
        preprocessing_steps.ResizeMode,
        preprocessing_steps.Window,
        preprocessing_steps.MelScale,
        preprocessing_steps.FilterNorm,
        preprocessing_steps.LogScale,
        preprocessing_steps.Casing,
        report.UpdateState,
        report.AnsweredBy,
        report.FallbackCause,
    ],
)
def test_every_word_of_a_closed_set_is_named(kind: Any) -> None:
    for member in kind:
        assert f"`{member.value}`" in DOCUMENT, member


def test_every_role_and_operator_and_attribute_is_named() -> None:
    for role in FileRole:
        assert role.value in DOCUMENT
    (operators,) = re.findall(r"Operators are `([^`]+)`", DOCUMENT)
    (groups,) = re.findall(r"and `([^`]+)` around rules", DOCUMENT)
    assert set(operators.split()) == _CHECKS.keys()
    assert set(groups.split()) == {*_GROUPS, "$not"}
    for name in device.condition_attributes(device.Attributes(device_id="a")):
        assert re.search(rf"(?m)^\| .*`{name}`", DOCUMENT), name


def test_the_bounds_are_those_of_the_code() -> None:
    kibi, mebi = 1024, 1024 * 1024
    for format_, bound in (
        (manifest.FORMAT, f"{manifest.MAX_MANIFEST_BYTES // kibi} KiB"),
        (golden.FORMAT, f"{golden.MAX_GOLDEN_BYTES // mebi} MiB"),
        (report.FORMAT, f"{report.MAX_BATCH_BYTES // kibi} KiB"),
    ):
        assert re.search(rf"(?m)^\| .* \| `{format_}` \| {bound} \|$", DOCUMENT), format_
    assert f"Open Inference Protocol v2 | {inference_protocol.MAX_MESSAGE_BYTES // mebi} MiB" in DOCUMENT
    assert f"deeper than {MAX_DEPTH}" in DOCUMENT
    assert f"up to {report.MAX_REPORTS} reports" in DOCUMENT
    assert f"at most {MAX_PATTERN}\ncharacters" in DOCUMENT
    assert (MAX_STEPS, MAX_SUBJECT) == (10_000_000, 256)
    assert "ten\nmillion steps at worst on 256 characters" in DOCUMENT
