"""Weights that coremltools.optimize made small, decompressed by the reference evaluator from the file alone.

The oracle is coremltools' own decompression, and the uncompressed weights where the error is bounded.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import Any

import coremltools.optimize.coreml as cto
import numpy as np
import pytest

from converter.coreml_reference.datatypes import Array, ElementType, unpacked
from tests.converter.coreml_oracles import agree, evaluated, noise
from tests.converter.coreml_packages import FLOAT, HALF, WEIGHTS, Builder, answers, built, saved

KERNEL = noise(16, 32, 3, 3, seed=1)
DENSE = noise(64, 16 * 4, seed=2)
X = noise(1, 32, 4, 4, seed=3)


def _build(x: Any) -> Any:
    convolved = Builder.conv(x=x, weight=KERNEL)
    return Builder.linear(x=Builder.reshape(x=convolved, shape=[1, -1]), weight=DENSE)


@functools.cache
def _model(target: str, precision: Any) -> Any:
    return built(_build, X, target=target, precision=precision)


def _compressed(config: Any, how: Any, target: str, precision: Any = FLOAT) -> Any:
    return how(_model(target, precision), config=cto.OptimizationConfig(global_config=config))


QUANTIZED: dict[str, tuple[dict[str, Any], str, str, float]] = {
    "int8 per channel": (
        {"dtype": "int8", "granularity": "per_channel"}, "iOS16", "constexpr_affine_dequantize", 0.01,
    ),
    "uint8 with zero point": (
        {"dtype": "uint8", "mode": "linear", "granularity": "per_channel"}, "iOS16",
        "constexpr_affine_dequantize", 0.01,
    ),
    "int8 blocks": (
        {"dtype": "int8", "granularity": "per_channel"}, "iOS18", "constexpr_blockwise_shift_scale", 0.01,
    ),
    "int4 blocks of 32": (
        {"dtype": "int4", "granularity": "per_block", "block_size": 32}, "iOS18",
        "constexpr_blockwise_shift_scale", 0.2,
    ),
    "uint4 with offset": (
        {"dtype": "uint4", "mode": "linear", "granularity": "per_block", "block_size": 16}, "iOS18",
        "constexpr_blockwise_shift_scale", 0.2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(QUANTIZED))
@pytest.mark.parametrize("precision", [FLOAT, HALF])
def test_quantized_weights(tmp_path: Path, name: str, precision: Any) -> None:
    arguments, target, operation, error = QUANTIZED[name]
    config = cto.OpLinearQuantizerConfig(**arguments)
    model = _compressed(config, cto.linear_quantize_weights, target, precision)
    # coremltools multiplies in half floats where the evaluator rounds the product once.
    _is_as_decompressed(model, tmp_path, operation, error, near=1e-5 if precision is FLOAT else 5e-3)


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_palettized_weights(tmp_path: Path, target: str, bits: int) -> None:
    """Three bits go across bytes, and are not in the older form."""
    if target == "iOS16" and bits == 3:
        pytest.skip("the older form has no palette of eight")
    config = cto.OpPalettizerConfig(mode="uniform", nbits=bits)
    model = _compressed(config, cto.palettize_weights, target)
    _is_as_decompressed(model, tmp_path, "constexpr_lut_to_dense", 8.0 / 2**bits)


def test_palettes_of_groups_of_channels(tmp_path: Path) -> None:
    config = cto.OpPalettizerConfig(
        mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=4, channel_axis=0
    )
    model = _compressed(config, cto.palettize_weights, "iOS18")
    _is_as_decompressed(model, tmp_path, "constexpr_lut_to_dense", 0.5)


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
def test_sparse_weights(tmp_path: Path, target: str) -> None:
    config = cto.OpMagnitudePrunerConfig(target_sparsity=0.6)
    model = _compressed(config, cto.prune_weights, target)
    _is_as_decompressed(model, tmp_path, "constexpr_sparse_to_dense", 2.0)


@pytest.mark.parametrize("second", ["palette", "integers"])
def test_sparse_weights_made_smaller_still(tmp_path: Path, second: str) -> None:
    """Two operations in a row: the second's values are those the first left."""
    sparse = _compressed(cto.OpMagnitudePrunerConfig(target_sparsity=0.6), cto.prune_weights, "iOS18")
    if second == "palette":
        config: Any = cto.OpPalettizerConfig(mode="uniform", nbits=4)
        model = cto.palettize_weights(
            sparse, config=cto.OptimizationConfig(global_config=config), joint_compression=True
        )
        operation = "constexpr_lut_to_sparse"
    else:
        config = cto.OpLinearQuantizerConfig(dtype="int8", granularity="per_channel")
        model = cto.linear_quantize_weights(
            sparse, config=cto.OptimizationConfig(global_config=config), joint_compression=True
        )
        operation = "constexpr_sparse_blockwise_shift_scale"
    _is_as_decompressed(model, tmp_path, operation, 2.0)


def test_a_palette_of_quantized_entries(tmp_path: Path) -> None:
    palettized = _compressed(cto.OpPalettizerConfig(mode="uniform", nbits=4), cto.palettize_weights, "iOS18")
    config = cto.OpLinearQuantizerConfig(dtype="int8", granularity="per_tensor")
    model = cto.linear_quantize_weights(
        palettized, config=cto.OptimizationConfig(global_config=config), joint_compression=True
    )
    _is_as_decompressed(model, tmp_path, "constexpr_lut_to_dense", 0.5)


def test_one_changed_index_of_a_palette_changes_the_answer(tmp_path: Path) -> None:
    model = _compressed(cto.OpPalettizerConfig(mode="uniform", nbits=4), cto.palettize_weights, "iOS16")
    package = saved(model, tmp_path)
    before = answers(package, X)[0]
    path = package / WEIGHTS
    data = bytearray(path.read_bytes())
    (_, _, _, begin) = struct.unpack_from("<IIQQ", data, _indices_at(model))
    data[begin + 5] ^= 0xF0
    path.write_bytes(data)
    assert not np.array_equal(answers(package, X)[0], before)


def _indices_at(model: Any) -> int:
    """Where the metadata of the first palettized weight's indices is in the weight file."""
    function = model.get_spec().mlProgram.functions["main"]
    for operation in function.block_specializations[function.opset].operations:
        if operation.type == "constexpr_lut_to_dense":
            return int(operation.attributes["indices"].blobFileValue.offset)
    raise AssertionError("no palettized weight")


def _is_as_decompressed(model: Any, folder: Path, operation: str, error: float, near: float = 1e-5) -> None:
    """Equal to the decompressed model, and as near the uncompressed one as the weights allow."""
    kinds = {each.op_type for each in model._mil_program.functions["main"].operations}
    assert operation in kinds
    package = saved(model, folder)
    (got,) = answers(package, X)
    plain = cto.decompress_weights(model)
    (expected,) = answers(saved(plain, folder), X)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got / scale, expected / scale, atol=near)
    (exact,) = answers(saved(_model("iOS16", FLOAT), folder), X)
    assert np.abs(got - exact).max() <= error * scale


# By hand -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("element", "data", "expected"),
    [
        (ElementType.UINT1, b"\x05\x01", [1, 0, 1, 0, 0, 0, 0, 0, 1]),
        (ElementType.UINT2, b"\xe4\x03", [0, 1, 2, 3, 3]),
        (ElementType.UINT3, b"\x88\xc6\xfa", [0, 1, 2, 3, 4, 5, 6, 7]),
        (ElementType.UINT4, b"\x10\xf2", [0, 1, 2, 15]),
        (ElementType.INT4, b"\x81\x7f", [1, -8, -1, 7]),
        (ElementType.UINT6, b"\x01\x20\xfc", [1, 0, 2, 63]),
        (ElementType.INT8, b"\xff\x01", [-1, 1]),
        (ElementType.INT16, b"\x00\x80", [-32768]),
        (ElementType.FLOAT16, b"\x00\x3c", [1.0]),
    ],
)
def test_elements_are_packed_from_the_least_bit_on(element: ElementType, data: bytes, expected: Any) -> None:
    assert unpacked(data, element, len(expected)).tolist() == expected
    with pytest.raises(ValueError, match="do not hold"):
        unpacked(data[:-1], element, len(expected))


def test_vectors_of_a_palette_lie_along_their_axis() -> None:
    """The example of MIL's documentation, both of its cases."""
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]])
    lut = np.array([10, 11, 12, 20, 21, 22]).reshape(1, 1, 1, 2, 3)
    a, b = [10, 11, 12], [20, 21, 22]
    last = evaluated("constexpr_lut_to_dense", indices=indices, lut=lut, vector_axis=2)
    assert last.tolist() == [[a + a, b + a], [b + b, a + a]]
    middle = evaluated("constexpr_lut_to_dense", indices=indices, lut=lut, vector_axis=1)
    first = np.array([[a, a], [b, a]]).transpose(0, 2, 1).reshape(6, 2)
    assert middle[0].tolist() == first.tolist()


def test_a_palette_for_each_group() -> None:
    """The first example of MIL's documentation."""
    indices = np.array([[2, 3], [3, 0], [1, 0], [3, 0], [2, 1], [0, 3]])
    lut = np.array([1.0, 5.0, 9.0, 13.0, 2.0, 10.0, 18.0, 26.0]).reshape(2, 1, 4, 1)
    got = evaluated("constexpr_lut_to_dense", indices=indices, lut=lut)
    assert got.tolist() == [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]


def test_a_constant_kept_narrower_is_the_same_number(tmp_path: Path) -> None:
    half = KERNEL.astype(np.float16)

    def build(x: Any) -> Any:
        return Builder.conv(x=x, weight=Builder.constexpr_cast(source_val=half, output_dtype="fp32"))

    wide = built(lambda x: Builder.conv(x=x, weight=half.astype(np.float32)), X)
    expected = answers(saved(wide, tmp_path), X)[0]
    narrow = built(build, X)
    assert "constexpr_cast" in {each.op_type for each in narrow._mil_program.functions["main"].operations}
    np.testing.assert_array_equal(answers(saved(narrow, tmp_path), X)[0], expected)


def test_activations_are_quantized_to_the_even_step_and_clipped() -> None:
    x = np.array([[-9.0, 0.25, 0.75], [1.25, 30.0, 100.0]], np.float32)
    common: dict[str, Any] = {"scale": np.array([0.5, 2.0]), "zero_point": np.array([3, -1]), "axis": 0}
    steps = evaluated("quantize", input=x, output_dtype="int8", **common)
    assert steps.tolist() == [[-15, 3, 5], [0, 14, 49]]
    back: Array = evaluated("dequantize", input=steps.astype(np.int8), **common)
    assert back.tolist() == [[-9, 0, 1], [2, 30, 100]]
    assert evaluated("quantize", input=x * 100, scale=0.5, output_dtype="uint8").max() == 255
    agree(evaluated("dequantize", input=np.array([4, -4]), scale=0.25), [1.0, -1.0])
