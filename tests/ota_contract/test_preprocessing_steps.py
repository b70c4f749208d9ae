"""The steps of a manifest: read back, bounded, and refused where they mean nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from ota_contract.documents import canonical_json, reader_of
from ota_contract.errors import FormatError
from ota_contract.manifest import FileRole, dump_release, parse_release
from ota_contract.preprocessing import input_spec_from
from ota_contract.preprocessing_json import step_from, step_to_json
from ota_contract.preprocessing_steps import (
    PARAMETERS,
    Operation,
    Step,
)
from ota_contract.tensors import Array, Datatype, Tensor
from tests.ota_contract.contract_strategies import decodes, steps
from tests.ota_contract.release_samples import VOCABULARY, WORDS, sample_release, text_release

MEL: dict[str, Any] = {
    "operation": "log_mel",
    "sample_rate": 8000,
    "frame_length": 100,
    "frame_step": 50,
    "fft_length": 128,
    "mels": 5,
    "f_min": 0,
    "f_max": 4000,
    "floor": 1e-6,
}
RESIZE: dict[str, Any] = {
    "operation": "resize",
    "height": 2,
    "width": 3,
    "filter": "bilinear",
    "antialias": True,
}
WORDPIECE: dict[str, Any] = {
    "operation": "wordpiece",
    "vocabulary": "0" * 64,
    "casing": "cased",
    "length": 8,
    "input_ids": "ids",
}


@given(steps() | decodes())
def test_a_step_is_read_back(step: Step) -> None:
    written = json.loads(canonical_json(step_to_json(step)))
    assert step_from(reader_of(written, what="step")) == step
    assert written.keys() <= {"operation", "folded", *PARAMETERS[step.operation]}


def test_every_operation_has_a_parser_and_parameters() -> None:
    assert set(PARAMETERS) == set(Operation)
    assert all(PARAMETERS.values())


def test_one_number_is_written_as_manifests_had_it_before_channels() -> None:
    read = step_from(reader_of({"operation": "affine", "scale": 2, "offset": [1, 0.5]}, what="step"))
    assert step_to_json(read) == {"operation": "affine", "folded": False, "scale": 2.0, "offset": [1.0, 0.5]}


@pytest.mark.parametrize("operation", ["", "sharpen", "Decode", "exec", 7, None])
def test_an_unknown_operation_is_refused(operation: Any) -> None:
    """Never skipped: what a device does not do, the model would not have been judged on."""
    document = json.loads(dump_release(sample_release()))
    document["preprocessing"][0]["steps"][0] = {"operation": operation, "folded": True}
    with pytest.raises(FormatError, match="operation"):
        parse_release(canonical_json(document))


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ({"operation": "reshape", "shape": [-1, -1]}, "at most one dimension"),
        ({"operation": "cast", "datatype": "BYTES"}, "nothing is cast to BYTES"),
        ({"operation": "affine", "scale": []}, "0 items, expected 1"),
        ({"operation": "affine", "scale": [1.0, "2"], "offset": 0}, "unexpected string"),
        ({"operation": "affine", "scale": [1, 2], "offset": [1, 2, 3]}, "3 channels, but the scale has 2"),
        ({"operation": "affine", "scale": 1, "offset": 0, "axis": 1}, "outside -8…-1"),
        ({"operation": "affine", "scale": [1] * 4097, "offset": 0}, "4097 items"),
        ({"operation": "transpose", "axes": [0, 2, 2]}, "no order of axes"),
        ({"operation": "transpose", "axes": [1, 0]}, "no order of axes that begins with the batch's"),
        ({"operation": "transpose", "axes": []}, "no order of axes"),
        ({"operation": "decode", "colour": "rgb", "max_pixels": 2**26 + 1}, "outside 1…67108864"),
        ({"operation": "decode", "colour": "rgb", "folded": True}, "no graph decodes"),
        ({"operation": "decode", "colour": "cmyk"}, "none of rgb, bgr, gray"),
        ({**RESIZE, "height": 0}, "outside 1…4096"),
        ({**RESIZE, "filter": "nearest"}, "smooths nothing"),
        ({**RESIZE, "filter": "lanczos", "antialias": False}, "with antialias only"),
        ({**RESIZE, "pad": 256}, "outside 0…255"),
        ({"operation": "crop", "height": 4097, "width": 1}, "outside 1…4096"),
        ({"operation": "fit_length", "length": 2**24 + 1}, "outside 1"),
        ({**MEL, "fft_length": 64}, "64 is shorter than a frame of 100"),
        ({**MEL, "f_max": 4000.5}, "do not lie in 0…4000"),
        ({**MEL, "f_min": 4000}, "do not lie in"),
        ({**MEL, "f_min": -1}, "do not lie in"),
        ({**MEL, "floor": 0}, "no logarithm"),
        ({**MEL, "power": 3}, "outside 1…2"),
        ({**MEL, "mels": 513}, "outside 1…512"),
        ({**MEL, "window": "blackman"}, "none of hann"),
        ({**WORDPIECE, "length": 1}, "outside 2…8192"),
        ({**WORDPIECE, "vocabulary": "../vocab.txt"}, "64 lower-case hexadecimal digits"),
        ({**WORDPIECE, "attention_mask": "ids"}, "not distinct names"),
        ({**WORDPIECE, "input_ids": ""}, "not distinct names"),
        ({**WORDPIECE, "datatype": "FP32"}, "INT32 or INT64"),
        ({**WORDPIECE, "folded": True}, "no graph reads text"),
    ],
)
def test_what_is_out_of_bounds_is_refused(step: dict[str, Any], why: str) -> None:
    with pytest.raises(FormatError, match=why):
        step_from(reader_of(step, what="step"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"raw_datatype": "UINT8"}, "BYTES, and nothing else, begin with one"),
        ({"steps": []}, "BYTES, and nothing else, begin with one"),
        ({"steps": [RESIZE, {"operation": "decode", "colour": "rgb"}]}, "begin with one"),
        ({"steps": [WORDPIECE, {"operation": "decode", "colour": "rgb"}]}, "begin with one"),
        ({"steps": [WORDPIECE, {"operation": "fit_length", "length": 3}]}, "nothing follows a wordpiece"),
        ({"raw_shape": [-1, 2]}, "BYTES have one axis"),
        ({"tolerance": -0.5}, "below zero"),
    ],
)
def test_steps_that_cannot_follow_each_other_are_refused(changes: dict[str, Any], why: str) -> None:
    value = {"input": "x", "raw_datatype": "BYTES", "raw_shape": [-1], "steps": [WORDPIECE], **changes}
    with pytest.raises(FormatError, match=why):
        input_spec_from(reader_of(value, what="spec"))


def test_a_tokenizer_with_its_vocabulary_is_read_back() -> None:
    release = parse_release(dump_release(text_release()))
    assert release == text_release()
    assert VOCABULARY in list(release.files())
    assert [(tensor.name, tensor.datatype) for tensor in release.raw_inputs] == [("text", Datatype.BYTES)]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"assets": ()}, "needs vocabulary .*, which is not among the assets"),
        ({"assets": (replace(VOCABULARY, sha256="1" * 64),)}, "which is not among the assets"),
        (
            {"assets": (VOCABULARY, replace(VOCABULARY, path="other", sha256="1" * 64))},
            "asset 1+ is used by no preprocessing",
        ),
        ({"assets": (replace(VOCABULARY, role=FileRole.PART),)}, "has the role part"),
        ({"assets": (replace(VOCABULARY, length_bytes=2**23 + 1),)}, "is longer than 8388608 bytes"),
        ({"assets": (replace(VOCABULARY, path="release.json"),)}, "the manifest's own place"),
        (
            {"inputs": (Tensor(name="ids", datatype=Datatype.INT32, shape=(-1, 8)),)},
            "makes ids as INT64 .* says INT32",
        ),
        (
            {"inputs": (Tensor(name="ids", datatype=Datatype.INT64, shape=(-1, 9)),)},
            r"says INT64 of shape \[-1, 9\]",
        ),
    ],
)
def test_a_missing_or_foreign_vocabulary_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(FormatError, match=why):
        dump_release(text_release(**changes))


def test_a_raw_value_by_another_inputs_name_is_refused() -> None:
    spec = replace(text_release().preprocessing[0], input="ids")
    step = replace(WORDS, input_ids="tokens")
    inputs = tuple(Tensor(name=name, datatype=Datatype.INT64, shape=(-1, 8)) for name in ("ids", "tokens"))
    with pytest.raises(FormatError, match="by the name of another input, ids"):
        dump_release(text_release(preprocessing=(replace(spec, steps=(step,)),), inputs=inputs))


def test_a_models_tensor_is_not_bytes() -> None:
    document = json.loads(dump_release(sample_release()))
    document["inputs"][0]["datatype"] = "BYTES"
    with pytest.raises(FormatError, match="a model's tensors are not BYTES"):
        parse_release(canonical_json(document))


@pytest.mark.parametrize("data", [b"\1", b"\5\0\0\0abc", b"\0\0\0\0", b"\1\0\0\0a\1"])
def test_bytes_that_do_not_fill_their_shape_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        Array(datatype=Datatype.BYTES, shape=(2,), data=data)
