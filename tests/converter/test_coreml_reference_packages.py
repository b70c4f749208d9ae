"""Saved mlpackages, evaluated from disk: what the files say, with their rounding, and no more than that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coremltools.proto import MIL_pb2, Model_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.coreml_reference.evaluator import Evaluator
from converter.coreml_reference.loading import read_package
from converter.errors import UnsupportedOperationError
from edge_runtime.errors import InferenceError, ModelLoadError
from tests.converter.coreml_oracles import agree, noise
from tests.converter.coreml_packages import (
    FLOAT,
    HALF,
    MODEL,
    WEIGHTS,
    Builder,
    answers,
    built,
    evaluator,
    saved,
)

X = noise(1, 4, 6, 7)
KERNEL = noise(8, 4, 3, 3, seed=1)


def _rewritten(package: Path, change: Any) -> None:
    model = Model_pb2.Model()
    path = package / MODEL
    model.ParseFromString(path.read_bytes())
    change(model)
    path.write_bytes(model.SerializeToString())


def _operations(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


PROGRAMS: dict[str, tuple[Any, tuple[Any, ...], Any, str]] = {
    "conv": (
        lambda x: Builder.conv(x=x, weight=KERNEL, strides=[2, 1], pad_type="same", dilations=[1, 2]),
        (X,), (1, 8, 3, 7), "iOS16",
    ),
    "conv_transpose": (
        lambda x: Builder.conv_transpose(
            x=x, weight=noise(4, 3, 2, 3), strides=[2, 3], pad_type="custom", pad=[1, 0, 0, 1]
        ),
        (X,), (1, 3, 11, 20), "iOS16",
    ),
    "avg_pool": (
        lambda x: Builder.avg_pool(
            x=x, kernel_sizes=[3, 2], strides=[2, 2], pad_type="custom", pad=[1, 1, 0, 0], ceil_mode=True
        ),
        (X,), (1, 4, 4, 4), "iOS16",
    ),
    "slice_by_index": (
        lambda x: Builder.slice_by_index(
            x=x, begin=[0, 1, -1, 0], end=[1, 0, 0, 5], stride=[1, 1, -2, 2],
            end_mask=[False, True, True, False], squeeze_mask=[True, False, False, False],
        ),
        (X,), (3, 3, 3), "iOS16",
    ),
    "concat": (lambda x, y: Builder.concat(values=[x, y, x], axis=2), (X, X), (1, 4, 18, 7), "iOS16"),
    "lstm": (
        lambda x: Builder.lstm(
            x=x, initial_h=np.zeros((2, 6), np.float32), initial_c=np.zeros((2, 6), np.float32),
            weight_ih=noise(12, 4), weight_hh=noise(12, 3), weight_ih_back=noise(12, 4, seed=1),
            weight_hh_back=noise(12, 3, seed=1), direction="bidirectional", output_sequence=True,
        )[0],
        (noise(5, 2, 4),), (5, 2, 6), "iOS16",
    ),
    "topk": (lambda x: Builder.topk(x=x, k=3, axis=1)[1], (X,), (1, 3, 6, 7), "iOS16"),
    "gather_nd": (
        lambda x: Builder.gather_nd(x=x, indices=np.zeros((1, 2, 2), np.int32), batch_dims=1),
        (X,), (1, 2, 7), "iOS16",
    ),
    "resize": (
        lambda x: Builder.resize(x=x, shape=np.array([9, 5], np.int32), resized_dims=np.uint32(2)),
        (X,), (1, 4, 9, 5), "iOS17",
    ),
    "attention": (
        lambda q: Builder.scaled_dot_product_attention(query=q, key=q, value=q),
        (noise(1, 2, 5, 8),), (1, 2, 5, 8), "iOS18",
    ),
    "argmax": (lambda x: Builder.reduce_argmax(x=x, axis=-1, keep_dims=True), (X,), (1, 4, 6, 1), "iOS16"),
    "one_hot": (
        lambda i: Builder.one_hot(indices=i, one_hot_vector_size=4, axis=1),
        (np.array([[0, 3, 2]], np.int32),), (1, 4, 3), "iOS16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_operations_as_saved_have_the_shape_coremltools_infers(tmp_path: Path, name: str) -> None:
    """Every result is also held against the shape the file declares, or evaluation raises."""
    build, inputs, shape, target = PROGRAMS[name]
    (result,) = answers(saved(built(build, *inputs, target=target), tmp_path), *inputs)
    assert result.shape == shape


def test_weights_come_from_the_file(tmp_path: Path) -> None:
    package = saved(built(lambda x: Builder.conv(x=x, weight=KERNEL), X), tmp_path)
    assert (package / WEIGHTS).stat().st_size > KERNEL.nbytes
    (result,) = answers(package, X)
    windows = np.lib.stride_tricks.sliding_window_view(X[0], (3, 3), axis=(1, 2))
    agree(result[0], np.einsum("chwij,ocij->ohw", windows, KERNEL))


def test_a_condition_chooses_a_branch(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        positive = Builder.greater(x=Builder.reduce_sum(x=x, axes=[0]), y=np.float32(0))
        return Builder.cond(
            pred=positive,
            _true_fn=lambda: Builder.mul(x=x, y=np.float32(2)),
            _false_fn=lambda: Builder.sub(x=x, y=np.float32(1)),
        )

    package = saved(built(build, noise(3)), tmp_path)
    assert answers(package, np.array([1, 2, 3], np.float32))[0].tolist() == [2, 4, 6]
    assert answers(package, np.array([1, 2, -9], np.float32))[0].tolist() == [0, 1, -10]


def test_a_loop_runs_until_its_condition_is_false(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return Builder.while_loop(
            _cond=lambda i, _: Builder.less(x=i, y=np.float32(5)),
            _body=lambda i, total: (Builder.add(x=i, y=np.float32(1)), Builder.mul(x=total, y=np.float32(3))),
            loop_vars=(Builder.reduce_min(x=x, axes=[0]), x),
        )[1]

    package = saved(built(build, noise(2)), tmp_path)
    assert answers(package, np.array([2, 4], np.float32))[0].tolist() == [2 * 27, 4 * 27]


def test_a_loop_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.coreml_reference.evaluator._MOST_ROUNDS", 50)

    def build(x: Any) -> Any:
        return Builder.while_loop(
            _cond=lambda i: Builder.less(x=Builder.reduce_sum(x=i, axes=[0]), y=np.float32(5)),
            _body=lambda i: Builder.mul(x=i, y=np.float32(1)),
            loop_vars=(x,),
        )

    with pytest.raises(InferenceError, match="does not end in 50 rounds"):
        answers(saved(built(build, noise(2)), tmp_path), np.array([1, 2], np.float32))


# Rounding --------------------------------------------------------------------------------------------


def test_half_floats_are_rounded_after_every_operation(tmp_path: Path) -> None:
    """1 + 2⁻¹² is 1 in half floats, so the difference is lost; in single precision it stays."""

    def build(x: Any) -> Any:
        return Builder.mul(
            x=Builder.sub(x=Builder.add(x=x, y=np.float32(2.0**-12)), y=np.float32(1)), y=np.float32(4096)
        )

    x = np.ones(3, np.float32)
    assert answers(saved(built(build, x, precision=FLOAT), tmp_path), x)[0].tolist() == [1, 1, 1]
    assert answers(saved(built(build, x, precision=HALF), tmp_path), x)[0].tolist() == [0, 0, 0]


def test_half_floats_overflow_as_they_do_on_a_device(tmp_path: Path) -> None:
    x = np.full(2, 300.0, np.float32)
    package = saved(built(lambda x: Builder.sqrt(x=Builder.mul(x=x, y=x)), x, precision=HALF), tmp_path)
    assert np.isinf(answers(package, x)[0]).all()


def test_a_sum_within_an_operation_is_not_rounded_on_the_way(tmp_path: Path) -> None:
    """4096 halves of 2⁻¹¹ added one by one in half floats would stop short of 2."""
    x = np.full((1, 8192), 2.0**-12, np.float32)
    package = saved(built(lambda x: Builder.reduce_sum(x=x, axes=[1]), x, precision=HALF), tmp_path)
    assert answers(package, x)[0].tolist() == [2.0]


def test_two_evaluations_are_equal_to_the_bit(tmp_path: Path) -> None:
    package = saved(built(lambda x: Builder.conv(x=x, weight=KERNEL), X, precision=HALF), tmp_path)
    assert answers(package, X)[0].tobytes() == answers(package, X)[0].tobytes()


# What is not known, or not right -----------------------------------------------------------------------


def test_an_operation_not_known_is_named(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return Builder.add(x=x, y=Builder.random_normal(shape=[3], mean=0.0, stddev=1.0))

    with pytest.raises(
        UnsupportedOperationError, match="random_normal: not known to the reference"
    ) as caught:
        evaluator(saved(built(build, noise(3)), tmp_path))
    assert caught.value.operation == "random_normal"


def test_a_model_that_is_no_program_is_refused(tmp_path: Path) -> None:
    package = saved(built(lambda x: Builder.relu(x=x), noise(3)), tmp_path)
    _rewritten(package, lambda model: model.glmRegressor.weights.add())
    with pytest.raises(UnsupportedOperationError, match="glmRegressor: only ML programs"):
        read_package(package)


def test_a_shape_other_than_declared_is_an_error(tmp_path: Path) -> None:
    package = saved(built(lambda x: Builder.relu(x=Builder.exp(x=x)), noise(3)), tmp_path)

    def change(model: Any) -> None:
        (operation,) = (each for each in _operations(model) if each.type == "exp")
        operation.outputs[0].type.tensorType.dimensions[0].constant.size = 4

    _rewritten(package, change)
    with pytest.raises(InferenceError, match=r"exp '.*' gives shape \[3\], the program declares \[4\]"):
        answers(package, noise(3))


def test_an_argument_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    package = saved(built(lambda x: Builder.leaky_relu(x=Builder.exp(x=x), alpha=0.5), noise(3)), tmp_path)

    def change(model: Any) -> None:
        (operation,) = (each for each in _operations(model) if each.type == "leaky_relu")
        del operation.inputs["alpha"]

    _rewritten(package, change)
    with pytest.raises(InferenceError, match=r"leaky_relu '.*' cannot be evaluated: 'alpha'"):
        answers(package, noise(3))


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = built(lambda x: Builder.conv(x=x, weight=KERNEL, bias=noise(8, seed=2)), X, precision=HALF)
    return saved(model, tmp_path_factory.mktemp("convolution"))


@pytest.fixture
def copied(convolution: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(convolution, tmp_path / "copied.mlpackage"))


def test_one_changed_weight_changes_the_answer(convolution: Path, copied: Path) -> None:
    path = copied / WEIGHTS
    data = bytearray(path.read_bytes())
    data[128 + 101] ^= 0x40  # the exponent of a weight
    path.write_bytes(data)
    assert not np.array_equal(answers(copied, X)[0], answers(convolution, X)[0])


@pytest.mark.parametrize(
    ("name", "keep", "message"),
    [
        ("Manifest.json", 40, "Manifest.json names no model"),
        (MODEL, 200, "is not a Core ML model"),
        (MODEL, 0, "holds no model"),
        (WEIGHTS, 200, "ends within the weight"),
        (WEIGHTS, 70, "ends before the weight"),
        (WEIGHTS, 0, "cannot be read as a Core ML weight file"),
    ],
)
def test_a_file_cut_short_is_one_clear_error(copied: Path, name: str, keep: int, message: str) -> None:
    path = copied / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelLoadError, match=message) as caught:
        evaluator(copied)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Manifest.json", MODEL, WEIGHTS])
def test_a_file_missing_is_one_clear_error(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(ModelLoadError, match=r"Manifest\.json|model\.mlmodel|weight\.bin"):
        evaluator(copied)


def test_a_weight_of_another_type_than_said_is_an_error(copied: Path) -> None:
    def change(model: Any) -> None:
        for operation in _operations(model):
            value = operation.attributes["val"]
            if operation.type == "const" and value.WhichOneof("value") == "blobFileValue":
                value.type.tensorType.dataType = MIL_pb2.FLOAT32

    _rewritten(copied, change)
    with pytest.raises(ModelLoadError, match="holds elements of type 1, the model says FLOAT32"):
        evaluator(copied)


def test_the_package_is_not_left(copied: Path) -> None:
    """A manifest or a weight's name must not make the converter read files elsewhere."""
    manifest = json.loads((copied / "Manifest.json").read_text())
    entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    entry["path"] = "../../outside.mlmodel"
    (copied / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelLoadError, match="lies outside the package"):
        evaluator(copied)


def test_weights_outside_the_package_are_not_read(copied: Path) -> None:
    def change(model: Any) -> None:
        for operation in _operations(model):
            value = operation.attributes["val"]
            if value.WhichOneof("value") == "blobFileValue":
                value.blobFileValue.fileName = "@model_path/../../../other.bin"

    _rewritten(copied, change)
    with pytest.raises(ModelLoadError, match="lies outside the package"):
        evaluator(copied)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_program_is_an_error_or_another_program(convolution: Path, copied: Path, data: Any) -> None:
    """No damage raises anything but the errors a caller knows."""
    original = (convolution / MODEL).read_bytes()
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (copied / MODEL).write_bytes(damaged)
    try:
        model = Evaluator(read_package(copied))
        model.run({named.name: X for named in model.program.inputs})
    except (ModelLoadError, UnsupportedOperationError, InferenceError):
        return
