from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_runtime.arrays import to_array
from edge_runtime.errors import GoldenMismatchError, InferenceError, InputError
from edge_runtime.golden_check import check_golden
from edge_runtime.port import AnyArray, LoadedModel
from ota_contract.errors import FormatError
from ota_contract.golden import dump_golden, parse_golden
from ota_contract.manifest import Runtime, Tolerance
from tests.edge_runtime.conftest import Package
from tests.edge_runtime.tiny_models import golden_vectors


class Wrong:
    """A model whose answers are changed on their way."""

    accelerator = "cpu"

    def __init__(self, model: LoadedModel, change: Any) -> None:
        self._model = model
        self._change = change

    def run(self, inputs: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        changed: dict[str, AnyArray] = self._change(self._model.run(inputs))
        return changed

    def close(self) -> None:
        self._model.close()


def check(package: Package, model: LoadedModel, golden: bytes | None = None) -> int:
    variant = package.variant(Runtime.ONNX)
    return check_golden(model, package.release, variant, golden or golden_vectors(), folder=package.folder)


def with_vector(**changes: Any) -> bytes:
    first, *rest = parse_golden(golden_vectors())
    return dump_golden((replace(first, **changes), *rest))


def test_a_good_variant_passes_every_vector(package: Package, model: LoadedModel) -> None:
    assert check(package, model) == 2


def test_an_answer_beyond_the_tolerance_is_refused_and_by_how_much(
    package: Package, model: LoadedModel
) -> None:
    wrong = Wrong(model, lambda outputs: {"scores": outputs["scores"] + np.float32(0.5)})
    with pytest.raises(GoldenMismatchError, match=r"vector 0: output scores is off by 0\.5, at most 0\.01"):
        check(package, wrong)


def test_an_answer_at_the_tolerance_passes(package: Package, model: LoadedModel) -> None:
    variant = replace(package.variant(Runtime.ONNX), tolerances=(Tolerance(output="scores", max_abs=0.5),))
    near = Wrong(model, lambda outputs: {"scores": outputs["scores"] + np.float32(0.5)})
    assert check_golden(near, package.release, variant, golden_vectors(), folder=package.folder) == 2


def test_preprocessing_that_differs_is_refused(package: Package, model: LoadedModel) -> None:
    """The first level: a raw value that becomes another tensor than it did at conversion."""
    raw = {"image": to_array(np.zeros((1, 2, 2), np.uint8))}
    with pytest.raises(GoldenMismatchError, match="vector 0: preprocessing of image differs"):
        check(package, model, with_vector(raw=raw))


def test_a_tensor_without_its_raw_value_is_refused(package: Package, model: LoadedModel) -> None:
    with pytest.raises(InputError, match="raw input image is missing"):
        check(package, model, with_vector(raw={}))


def test_an_answer_of_another_shape_than_the_golden_one_is_refused(
    package: Package, model: LoadedModel
) -> None:
    outputs = {"scores": to_array(np.zeros((1, 3), np.float32))}
    with pytest.raises(GoldenMismatchError, match=r"has shape \[1, 2\], not \[1, 3\]"):
        check(package, model, with_vector(outputs=outputs))


def test_shapes_that_numpy_would_stretch_are_refused(package: Package, model: LoadedModel) -> None:
    outputs = {"scores": to_array(np.zeros((1, 1), np.float32))}
    with pytest.raises(GoldenMismatchError, match="has shape"):
        check(package, model, with_vector(outputs=outputs))


def test_a_golden_answer_of_nan_is_not_close_to_anything(package: Package, model: LoadedModel) -> None:
    outputs = {"scores": to_array(np.full((1, 2), np.nan, np.float32))}
    with pytest.raises(GoldenMismatchError, match="off by nan"):
        check(package, model, with_vector(outputs=outputs))


def test_a_missing_golden_answer_is_refused(package: Package, model: LoadedModel) -> None:
    with pytest.raises(GoldenMismatchError, match="vector 0 lacks output scores"):
        check(package, model, with_vector(outputs={}))


def test_nan_in_the_answer_is_an_inference_error(package: Package, model: LoadedModel) -> None:
    broken = Wrong(model, lambda outputs: {"scores": outputs["scores"] * np.float32(np.nan)})
    with pytest.raises(InferenceError, match="NaN"):
        check(package, broken)


def test_fewer_vectors_than_the_manifest_says_are_refused(package: Package, model: LoadedModel) -> None:
    with pytest.raises(GoldenMismatchError, match="holds 1 vectors, the manifest says 2"):
        check(package, model, golden_vectors(1))


def test_a_malformed_golden_file_is_a_format_error(package: Package, model: LoadedModel) -> None:
    for golden in (b"{}", b"\xff", json.dumps({"format": "ferry.golden/9"}).encode()):
        with pytest.raises(FormatError):
            check(package, model, golden)
