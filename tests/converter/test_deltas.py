"""Deltas between really converted models: exact, smaller than comparing bytes, and never in the way."""

from __future__ import annotations

import io
import lzma
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as tflite
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from converter.deltas.making import make_delta
from converter.deltas.package import add_deltas
from converter.deltas.weights import tensors_in
from converter.errors import DeltaRefusedError
from edge_runtime.package import open_package
from ota_contract.delta import apply_delta
from ota_contract.manifest import Delta, Release, dump_release
from ota_contract.names import parse_model
from tests.converter.conftest import Ferry
from tests.packages import digits_package
from tests.support.deltas import pad
from tests.support.tiny import TinyRelease, write_package

MODELS = {
    "onnx-fp32": "variants/onnx-fp32/model.onnx",
    "onnx-int8": "variants/onnx-int8/model.onnx",
    "tflite-fp32": "variants/tflite-fp32/model.tflite",
    "tflite-int8": "variants/tflite-int8/model.tflite",
    "coreml-fp16": "variants/coreml-fp16/digits.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
}


@pytest.fixture(scope="module")
def retrained(session: Path) -> Path:
    """Another network of the same layers and one more, trained from the start: the hardest case there is.

    benchmarks/delta.py measures training that goes on, which is what deltas are for.
    """
    return digits_package(session, gain_table=True)


def applied(base: bytes, delta: bytes, length: int) -> bytes:
    out = io.BytesIO()
    apply_delta(io.BytesIO(base), io.BytesIO(delta), out, max_bytes=length)
    return out.getvalue()


def exact(base: bytes, target: bytes, *, knows_models: bool = True) -> int:
    """Make a delta, check it, and return its length."""
    delta = make_delta(base, target, knows_models=knows_models)
    assert applied(base, delta, len(target)) == target
    return len(delta)


def nudged(data: bytes, share: float, *, only: str = "") -> bytes:
    """A model file whose weights moved as a little more training moves them."""
    random = np.random.default_rng(5)
    changed = bytearray(data)
    for tensor in tensors_in(data):
        if tensor.width == 4 and only in tensor.name:
            weights = np.frombuffer(data, "<f4", tensor.length // 4, tensor.offset)
            moved = weights * (1 + random.normal(0, share, len(weights))).astype(np.float32)
            changed[tensor.offset : tensor.end] = moved.astype("<f4").tobytes()
    return bytes(changed)


@pytest.mark.parametrize("variant", MODELS)
def test_knowing_models_saves_an_eighth_of_what_comparing_bytes_costs(
    package: Path, retrained: Path, variant: str
) -> None:
    """And more against sending the file compressed; both measured here, on the same files."""
    base, target = ((folder / MODELS[variant]).read_bytes() for folder in (package, retrained))
    ours, generic = exact(base, target), exact(base, target, knows_models=False)
    assert ours < 7 / 8 * generic
    assert ours < 7 / 8 * len(lzma.compress(target, preset=9))


def test_small_moves_of_weights_cost_little(package: Path) -> None:
    """A hundredth of a percent: 11 of 24 bits of a weight stay."""
    base = (package / MODELS["onnx-fp32"]).read_bytes()
    assert exact(base, nudged(base, 1e-4)) < 0.5 * len(base)


def test_layers_that_stayed_cost_nothing(package: Path) -> None:
    base = (package / MODELS["tflite-fp32"]).read_bytes()
    target = nudged(base, 1e-2, only="scores_1/MatMul")
    assert exact(base, target) < 2560 + 200  # that layer's weights and no more


def test_weights_are_found_again_where_the_graph_has_grown(package: Path) -> None:
    """Every offset shifts by an odd number of bytes, and a name changes."""
    base = (package / MODELS["onnx-fp32"]).read_bytes()
    target = nudged(base, 1e-4)
    model = onnx.load_from_string(target)
    model.graph.doc_string = "a longer text than before" * 5
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "w32":
                node.input[index] = "renamed"
    for tensor in model.graph.initializer:
        if tensor.name == "w32":
            tensor.name = "renamed"
    shifted: bytes = model.SerializeToString(deterministic=True)
    assert shifted.count(b"renamed") == 2
    assert exact(base, shifted) < exact(base, target) + 400


def test_a_tensor_with_a_row_added_keeps_the_others() -> None:
    random = np.random.default_rng(1)
    table = random.integers(-128, 128, (300, 64), dtype=np.int8)
    grown = np.concatenate([table[:100], random.integers(-128, 128, (1, 64), dtype=np.int8), table[100:]])
    old, new = (
        onnx.helper.make_model(
            onnx.helper.make_graph([], "g", [], [], [numpy_helper.from_array(array, "table")])
        ).SerializeToString()
        for array in (table, grown)
    )
    assert exact(old, new) < 400


@pytest.mark.parametrize("width", [2, 4])
def test_raw_weights_of_an_unknown_file_are_told_by_their_bytes(width: int) -> None:
    random = np.random.default_rng(3)
    weights = random.normal(0, 0.1, 20_000)
    moved = weights * (1 + random.normal(0, 1e-3, len(weights)))
    base, target = (array.astype(f"<f{width}").tobytes() for array in (weights, moved))
    ours = exact(base + b"end", target + b"end")
    assert ours < 0.9 * exact(base + b"end", target + b"end", knows_models=False)


def test_two_models_with_nothing_in_common_cost_no_more_than_the_file_compressed() -> None:
    random = np.random.default_rng(4)
    base, target = (random.normal(0, 1, 20_000).astype("<f4").tobytes() for _ in range(2))
    assert exact(base, target) < len(lzma.compress(target)) + 100


def test_the_tensors_of_an_onnx_file_are_those_onnx_reads(package: Path) -> None:
    for variant in ("onnx-fp32", "onnx-int8"):
        data = (package / MODELS[variant]).read_bytes()
        expected = {
            (tensor.name, array.tobytes(), array.itemsize)
            for tensor in onnx.load_from_string(data).graph.initializer
            # Numbers of varying length, which some writers use for zero points, are left to bytes.
            if (array := numpy_helper.to_array(tensor)).nbytes >= 64 and not tensor.int32_data
        }
        found = {(item.name, data[item.offset : item.end], item.width) for item in tensors_in(data)}
        assert found == expected


def test_the_tensors_of_a_tflite_file_are_those_its_schema_reads(package: Path) -> None:
    for variant, width in (("tflite-fp32", 4), ("tflite-int8", 1)):
        data = (package / MODELS[variant]).read_bytes()
        model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(data, 0))
        expected = {
            (tensor.name.decode(), bytes(model.buffers[tensor.buffer].data))
            for tensor in model.subgraphs[0].tensors
            if model.buffers[tensor.buffer].data is not None and len(model.buffers[tensor.buffer].data) >= 64
        }
        assert {(item.name, data[item.offset : item.end]) for item in tensors_in(data)} == expected
        assert {item.width for item in tensors_in(data) if "MatMul" in item.name} == {width}


def test_the_tensors_of_a_core_ml_file_are_nearly_all_of_it(package: Path) -> None:
    data = (package / MODELS["coreml-fp16"]).read_bytes()
    tensors = tensors_in(data)
    assert sum(tensor.length for tensor in tensors) > 0.98 * len(data)
    assert {tensor.width for tensor in tensors} == {2}
    onnx_weights = onnx.load(package / MODELS["onnx-fp32"]).graph.initializer
    largest = max((numpy_helper.to_array(item) for item in onnx_weights), key=np.size)
    halves = np.sort(largest.astype("<f2"), axis=None)
    ours = max(tensors, key=lambda tensor: tensor.length)
    assert np.array_equal(np.sort(np.frombuffer(data, "<f2", ours.length // 2, ours.offset)), halves)


@given(
    at=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12), cut=st.integers(0, 4000)
)
@settings(max_examples=60)
@pytest.mark.parametrize("variant", MODELS)
def test_a_damaged_model_is_compared_as_bytes(
    package: Path, variant: str, at: list[tuple[int, int]], cut: int
) -> None:
    base = (package / MODELS[variant]).read_bytes()[:4000]
    target = bytearray(base)
    for place, value in at:
        target[place % len(target)] = value
    tensors_in(bytes(target[:cut]))
    exact(base, bytes(target[:cut] or b"x"))


@given(base=st.binary(max_size=300), target=st.binary(min_size=1, max_size=300))
def test_any_file_from_any_other(base: bytes, target: bytes) -> None:
    exact(base, target)


@given(
    pieces=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 120)), min_size=1, max_size=30),
    other=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 120)), min_size=1, max_size=30),
)
def test_files_of_the_same_parts_in_another_order(
    pieces: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    """Moved, repeated and dropped parts, as graphs have them."""
    stock = np.random.default_rng(0).bytes(10 * 120)
    base, target = (
        b"".join(stock[120 * which : 120 * which + length] for which, length in parts)
        for parts in (pieces, other)
    )
    exact(base, target)


def test_ten_thousand_parts_in_another_order_are_found_in_a_second_not_in_an_hour() -> None:
    """Looking a part up must not cost a look at the whole file; the suite's time limit is the judge."""
    random = np.random.default_rng(6)
    parts = random.integers(0, 256, (10_000, 40), dtype=np.uint8)
    target = random.permutation(parts).tobytes()
    assert exact(parts.tobytes(), target, knows_models=False) < len(target) / 10


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copied(package: Path, folder: Path) -> Path:
    for name, data in contents(package).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_the_command_adds_deltas_and_inspect_shows_them(
    package: Path, retrained: Path, tmp_path: Path, ferry: Ferry
) -> None:
    new = copied(retrained, tmp_path / "new")
    before = contents(new)
    done = ferry("delta", new, "--from", package)
    assert (done.code, done.err.count("bytes")) == (0, 7)
    assert "7 deltas of vision/digits 1.0.0" in done.out
    release, _ = open_package(new)
    assert all(delta.file.length_bytes <= 0.8 * _target(release, delta) for delta in release.deltas)
    after = contents(new)
    made = {delta.file.path for delta in release.deltas}
    assert all(path.startswith("deltas/") for path in made)
    assert set(after) == set(before) | made
    assert {name for name in before if after[name] != before[name]} == {"release.json"}
    assert dump_release(replace(release, deltas=())) == before["release.json"]
    shown = ferry("inspect", new).out
    assert "INSTEAD OF" in shown
    assert shown.count("variants/") == 6
    assert ferry("delta", new, "--from", package, "--json").code == 0
    assert contents(new) == after, "the second run made other bytes"


def _target(release: Release, delta: Delta) -> int:
    return next(file.length_bytes for file in release.files() if file.sha256 == delta.target_sha256)


def tiny(folder: Path, **options: object) -> Path:
    write_package(folder, TinyRelease(**options))  # type: ignore[arg-type]
    return folder


def test_a_delta_that_saves_too_little_is_not_kept(tmp_path: Path, ferry: Ferry) -> None:
    """Random bytes of another seed have nothing in common, and little files are not worth a delta."""
    old = tiny(tmp_path / "old", padding_bytes=50_000)
    new = tiny(tmp_path / "new", version="1.1.0", counter=2, seed=1, padding_bytes=50_000)
    done = ferry("delta", new, "--from", old)
    assert done.code == 0
    assert done.out.count("it saves too little") == 2
    release, _ = open_package(new)
    assert [delta.target_sha256 for delta in release.deltas] == [release.golden.file.sha256]
    assert ferry("delta", new, "--from", new).out.endswith("there is nothing to make\n")


def test_deltas_of_an_earlier_call_are_replaced(tmp_path: Path, ferry: Ferry) -> None:
    old, mid = (tiny(tmp_path / str(seed), seed=seed, padding_bytes=9000) for seed in (0, 1))
    new = copied(mid, tmp_path / "new")
    for folder, byte in ((old, b"a"), (new, b"b")):
        pad(folder, byte * 4000 + np.random.default_rng(9).bytes(9000))
    assert ferry("delta", new, "--from", old).code == 0
    first = {delta.base_sha256 for delta in open_package(new)[0].deltas}
    pad(mid, b"c" * 4000 + np.random.default_rng(9).bytes(9000))
    assert ferry("delta", new, "--from", mid).code == 0
    release, _ = open_package(new)
    assert {delta.base_sha256 for delta in release.deltas}.isdisjoint(first)
    assert len(list((new / "deltas").iterdir())) == len(release.deltas) == 1  # no golden vectors: the same
    both = ferry("delta", new, "--from", old, "--from", mid, "--from", old)
    assert both.code == 0
    assert len(open_package(new)[0].deltas) == 3  # two of the file, one of the golden vectors of `old`


def test_packages_that_do_not_belong_together_are_refused(tmp_path: Path, ferry: Ferry) -> None:
    new = tiny(tmp_path / "new", version="1.1.0", counter=2)
    other = tiny(tmp_path / "other", model="vision/letters")
    before = contents(new)
    with pytest.raises(DeltaRefusedError, match="a package of vision/letters"):
        add_deltas(new, [other])
    for argument, says in ((other, "vision/letters"), (tmp_path, "not a package")):
        done = ferry("delta", new, "--from", argument)
        assert done.code == 1
        assert says in done.err
        assert done.err.count("\n") == 1
    assert contents(new) == before
    assert parse_model("vision/letters") == open_package(other)[0].name


def test_an_interruption_leaves_the_package_as_it_was(
    package: Path, retrained: Path, tmp_path: Path, ferry: Ferry, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = copied(retrained, tmp_path / "new")
    before = contents(new)
    made = 0

    def interrupted(base: bytes, target: bytes) -> bytes:
        nonlocal made
        made += 1
        if made == 3:
            raise KeyboardInterrupt
        return make_delta(base, target)

    monkeypatch.setattr("converter.deltas.making.make_delta", interrupted)
    assert ferry("delta", new, "--from", package).code == 130
    assert contents(new) == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_delta_that_would_make_another_file_is_not_written(
    package: Path, retrained: Path, tmp_path: Path, ferry: Ferry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the maker must not reach a fleet."""
    new = copied(retrained, tmp_path / "new")
    before = contents(new)
    monkeypatch.setattr(
        "converter.deltas.making.make_delta", lambda base, target: make_delta(base, target[:-1] + b"?")
    )
    done = ferry("delta", new, "--from", package)
    assert done.code == 1
    assert "makes another file" in done.err
    assert contents(new) == before
