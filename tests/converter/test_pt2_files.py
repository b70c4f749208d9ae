"""A .pt2 file is looked at before PyTorch opens it, as PyTorch runs what it finds."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import SourceError
from converter.pt2.archive import check_pt2, write_safe_copy
from converter.pt2.program import UnsafeProgramError, cleaned_program
from tests.converter.pt2_attacks import (
    ATTACKS,
    CONSTANTS,
    PROGRAM,
    SAMPLES,
    WEIGHTS,
    Members,
    attacked,
    members_of,
    write_members,
)
from tests.packages import REPOSITORY

LEFT_OUT = ("samples", "guard")
"""What conversion does not need is not refused, and is not in the copy."""
REAL = ("constant", "expression", "guard", "object", "old", "samples", "tree", "weight")
"""What PyTorch 2.13 runs. The others are refused without waiting for a version that does."""
SAYS = {
    "weight": "holds '0.weight' as a pickle, which runs code when opened; it was not opened",
    "constant": "holds 'constant' as a pickle, which runs code when opened; it was not opened",
    "object": "holds a pickled object (data/constants/opaque_obj_0); it was not opened; load the model where",
    "script": "holds a pickled object (data/constants/custom_obj_0); it was not opened",
    "old": "was saved by a PyTorch older than 2.9, as pickles; load the model where you trust it",
    "expression": "which is no arithmetic; it was not opened",
    "tree": "takes or returns a 'collections.defaultdict'; use tensors, tuples, lists and dicts of them",
    "system": "calls torch.os.system, which is not one of PyTorch's own tensor operators",
    "library": "calls torch.ops.load_library, which is not one of PyTorch's own",
    "save": "calls torch.ops.aten.save.default, which is not one of PyTorch's own",
    "file": "calls torch.ops.aten.from_file.default, which is not one of PyTorch's own",
    "name": "which is no name; it was not opened",
}


@pytest.fixture(scope="session")
def good(torch_models: Path) -> Members:
    return members_of(torch_models / "mlp-any.pt2")


def _check(path: Path) -> None:
    check_pt2(path, path.read_bytes()[:64], path.name)


def _refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        _check(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _open_all(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.converter.pt2_attacks", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY)


def test_what_pytorch_would_run_is_refused_or_left_out(tmp_path: Path, good: Members) -> None:
    """Each attack is tried on PyTorch itself, to know it is one; then on the copy we give to PyTorch."""
    plain, safe = tmp_path / "plain", tmp_path / "safe"
    plain.mkdir()
    safe.mkdir()
    for attack in ATTACKS:
        path = write_members(plain / f"{attack}.pt2", attacked(good, attack, plain / f"{attack}.trace"))
        if attack in LEFT_OUT:
            _check(path)
            write_safe_copy(path, path.name, safe / path.name)
        else:
            assert SAYS[attack] in _refusal(path)
    assert not list(plain.glob("*.trace"))
    _open_all(safe)
    assert not list(plain.glob("*.trace"))
    _open_all(plain)
    assert sorted(path.stem for path in plain.glob("*.trace")) == list(REAL)


def test_every_exported_family_is_taken(torch_models: Path) -> None:
    for path in sorted(torch_models.glob("*.pt2")):
        _check(path)


def test_the_copy_holds_tensors_and_the_program_and_nothing_else(tmp_path: Path, good: Members) -> None:
    source = write_members(tmp_path / "model.pt2", {**good, "extra/notes.txt": b"secret"})
    write_safe_copy(source, "model.pt2", tmp_path / "copy.pt2")
    copy = members_of(tmp_path / "copy.pt2")
    assert copy[SAMPLES] == b""
    assert {name for name in copy if not name.startswith("data/weights/weight_")} == {
        PROGRAM, WEIGHTS, CONSTANTS, SAMPLES,
        "archive_format", "archive_version", ".data/version", "byteorder",
    }  # fmt: skip
    for name, content in good.items():
        if name.startswith("data/weights/weight_"):
            assert copy[name] == content
    program = json.loads(copy[PROGRAM])
    assert program["guards_code"] == []
    assert all(node["metadata"] == {} for node in program["graph_module"]["graph"]["nodes"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "script",
            "is a TorchScript archive, which runs code when opened; it was not opened; load the model",
        ),
        (
            "weights",
            "is a pickle of torch.save, which runs code when opened; it was not opened; load the model",
        ),
    ],
)
def test_other_files_of_pytorch_are_named(torch_models: Path, name: str, says: str) -> None:
    message = _refusal(torch_models / "odd" / f"{name}.pt2")
    assert says in message
    assert message.endswith("torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("data/aotinductor/model/model.so", "holds compiled code (data/aotinductor/model/model.so)"),
        ("models/other.json", "holds the model 'other.json' besides or instead of one"),
        ("data/weights/weight_0.py", "holds 'data/weights/weight_0.py', which no .pt2 file does"),
        ("../../escaped", "which would be written outside its folder"),
    ],
)
def test_members_that_do_not_belong_are_refused(tmp_path: Path, good: Members, name: str, says: str) -> None:
    assert says in _refusal(write_members(tmp_path / "model.pt2", {**good, name: b"x"}))


@pytest.mark.parametrize("name", [PROGRAM, WEIGHTS, CONSTANTS])
def test_a_file_with_a_part_missing_or_damaged_is_refused(tmp_path: Path, good: Members, name: str) -> None:
    path = tmp_path / "model.pt2"
    write_members(path, {key: value for key, value in good.items() if key != name})
    assert f"is a zip file without {name}, so not a .pt2 file" in _refusal(path)
    for damaged in (b"", b"[]", b"{", b"[" * 100_000, good[name][:-9], b'{"config": {"a": 1}}'):
        assert "model.pt2" in _refusal(write_members(path, {**good, name: damaged}))


def test_missing_bytes_and_bombs_and_old_archives_are_refused(tmp_path: Path, good: Members) -> None:
    path = tmp_path / "model.pt2"
    weight = "data/weights/weight_0"
    write_members(path, {key: value for key, value in good.items() if key != weight})
    assert "is damaged: the bytes of '0.weight' are missing" in _refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/weights/weight_0", bytes(64 * 2**20))
    assert "a zip bomb" in _refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("version", "8.1")
    assert "was saved by a PyTorch older than 2.9, as pickles" in _refusal(path)
    write_members(path, good)
    path.write_bytes(path.read_bytes()[:900])
    assert "is not a readable .pt2 file: not a complete zip archive" in _refusal(path)
    path.write_bytes(b"\x80\x02 or other bytes")
    assert "is not a .pt2 file: it begins with 80 02 20" in _refusal(path)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    path.write_bytes(b"PK\x03\x04" + content)
    _refusal(path)


def _program(good: Members, edit: Callable[[Any], None]) -> Any:
    program = json.loads(good[PROGRAM])
    edit(program)
    return program


@pytest.mark.parametrize(
    "text",
    [
        "s77.__class__",
        "Symbol('s77').is_integer",
        "Symbol('__import__')",
        "(lambda: 1)()",
        "[s77]",
        "'s77'",
        "s77; s77",
        "eval(s77)",
        "s77" + "+s77" * 400,
        "s77\n",
    ],
)
def test_lengths_are_arithmetic(good: Members, text: str) -> None:
    def edit(program: Any) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]["x"]
        values["sizes"][0] = {"as_expr": {"expr_str": text, "hint": None}}

    def place(program: Any) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        first = next(iter(values))
        values["x"] = values[first]
        edit(program)

    with pytest.raises(UnsafeProgramError, match="no arithmetic"):
        cleaned_program(_program(good, place))


@pytest.mark.parametrize(
    "text",
    ["s77", "2*s77 + 1", "Symbol('s77', positive=True, integer=True)", "FloorDiv(s77 - 1, 2)", "Max(1, u0)"],
)
def test_arithmetic_of_lengths_is_taken(good: Members, text: str) -> None:
    def edit(program: Any) -> None:
        node = program["graph_module"]["graph"]["tensor_values"]
        next(iter(node.values()))["sizes"][0] = {"as_expr": {"expr_str": text, "hint": None}}

    assert text in json.dumps(cleaned_program(_program(good, edit)))


def test_what_was_on_a_gpu_comes_to_the_cpu(good: Members) -> None:
    def edit(program: Any) -> None:
        for value in program["graph_module"]["graph"]["tensor_values"].values():
            value["device"] = {"type": "cuda", "index": 0}

    devices = json.dumps(cleaned_program(_program(good, edit)))
    assert "cuda" not in devices
    assert '{"type": "cpu", "index": null}' in devices
