"""A result is found again under exactly what it depends on: each part counts, and nothing else."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from converter.caching import code, environment
from converter.caching.code import code_digest, modules_of
from converter.caching.environment import distributions_of, environment_of
from converter.caching.keys import Inputs, covers, inputs_state, key_of, plain
from converter.caching.sources import files_of_source
from converter.datasets import load_datasets
from converter.errors import DataError
from converter.host import Host
from converter.jobs import Job
from converter.pass_recipe import EVERYTHING, Reads, recipe_for
from converter.recipe import Overrides, load_recipe
from tests.converter.onnx_models import mlp
from tests.converter.recipes import write_tiny

ROWS = np.random.default_rng(3).normal(size=(24, 7)).astype(np.float32)
LABELS = np.arange(24) % 4
SOURCE = frozenset({Reads.SOURCE})


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose source keeps its weights in a file beside it."""
    folder = tmp_path / "case"
    folder.mkdir()
    onnx.save(
        mlp(),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    (folder / "notes.txt").write_text("no part of the model")
    return write_tiny(folder, folder / "model.onnx", ROWS, LABELS, framework="onnx", shape=(-1, 7), classes=4)


def _key(path: Path, *, reads: frozenset[Reads] = EVERYTHING, **changes: Any) -> str:
    recipe = load_recipe(path)
    state = inputs_state(recipe)
    job = Job(
        name="onnx_to_onnx",
        folder=path.parent / "job",
        recipe_path=path,
        overrides=Overrides(),
        inputs={},
        params={"opset": 15},
        needs=("onnx",),
        reads=reads,
    )
    return key_of(replace(job, **changes), Inputs(recipe, load_datasets(recipe), state))


def test_the_same_job_has_the_same_key(recipe: Path) -> None:
    assert len(_key(recipe)) == 64
    assert _key(recipe) == _key(recipe)


def test_where_files_lie_does_not_count(recipe: Path, tmp_path: Path) -> None:
    before = _key(recipe)
    moved = tmp_path / "elsewhere"
    recipe.parent.rename(moved)
    text = (moved / "recipe.toml").read_text().replace(str(tmp_path / "case"), str(moved))
    (moved / "recipe.toml").write_text(text)
    assert _key(moved / "recipe.toml") == before


@pytest.mark.parametrize(
    ("found", "replaced"),
    [
        ('version = "1.0.0"', 'version = "2.0.0"'),
        ("counter = 1", "counter = 9"),
        ('license = "MIT"', 'license = "CC-BY-4.0"'),
        ("max_drop = 0.05", "max_drop = 0.5"),
        ('precision = "fp32"', 'precision = "int8"'),
        ("[release]", "# a remark\n[release]"),
        ("[goal]", "[limits]\nmemory_mb = 999\n[goal]"),
    ],
)
def test_what_a_pass_cannot_see_does_not_count(recipe: Path, found: str, replaced: str) -> None:
    before = _key(recipe)
    text = recipe.read_text()
    assert found in text
    recipe.write_text(text.replace(found, replaced))
    assert _key(recipe) == before


@pytest.mark.parametrize(
    ("found", "replaced"),
    [
        ('model = "tiny"', 'model = "other"'),
        ("shape = [-1, 7]", "shape = [1, 7]"),
        (
            "preprocessing = []",
            'preprocessing = [{ operation = "affine", scale = 2.0, offset = 0.0, by = "converter" }]',
        ),
        ('labels = ["0",', 'labels = ["zero",'),
    ],
)
def test_what_a_pass_reads_of_the_recipe_counts(recipe: Path, found: str, replaced: str) -> None:
    before = _key(recipe)
    text = recipe.read_text()
    assert found in text
    recipe.write_text(text.replace(found, replaced))
    assert _key(recipe) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "onnx_to_onnx_int8"},
        {"params": {"opset": 16}},
        {"hides": ("torch",)},
        {"needs": ("onnx", "onnxruntime")},
    ],
)
def test_a_changed_job_counts(recipe: Path, changes: dict[str, Any]) -> None:
    assert _key(recipe, **changes) != _key(recipe)


def test_the_files_an_earlier_pass_made_count(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "a").write_bytes(b"one")
    before = _key(recipe, inputs={"model": folder})
    (folder / "a").write_bytes(b"two")
    changed = _key(recipe, inputs={"model": folder})
    (folder / "a").rename(folder / "b")
    assert len({before, changed, _key(recipe, inputs={"model": folder})}) == 3


def test_every_file_of_the_source_counts(recipe: Path) -> None:
    """Weights beside an ONNX file are part of it, though its own bytes stay the same."""
    folder = recipe.parent
    assert files_of_source(folder / "model.onnx") == (folder / "model.onnx", folder / "weights.bin")
    before = _key(recipe, reads=SOURCE)
    (folder / "notes.txt").write_text("changed")
    assert _key(recipe, reads=SOURCE) == before
    weights = bytearray((folder / "weights.bin").read_bytes())
    weights[5] ^= 1
    (folder / "weights.bin").write_bytes(weights)
    assert _key(recipe, reads=SOURCE) != before


@pytest.mark.parametrize("name", ["calibration", "evaluation", "golden"])
def test_a_set_counts_for_those_who_read_it(recipe: Path, name: str) -> None:
    own = frozenset({Reads(name)})
    before, others = _key(recipe, reads=own), _key(recipe, reads=EVERYTHING - own)
    with np.load(recipe.parent / f"{name}.npz") as archive:
        arrays = dict(archive)
    np.savez_compressed(recipe.parent / f"{name}.npz", **arrays)
    assert _key(recipe, reads=own) == before, "the same values, packed otherwise"
    arrays["x"][0, 0] += 1
    np.savez(recipe.parent / f"{name}.npz", **arrays)
    assert _key(recipe, reads=own) != before
    assert _key(recipe, reads=EVERYTHING - own) == others


def test_a_pass_cannot_read_what_it_does_not_state(recipe: Path) -> None:
    seen = recipe_for(load_recipe(recipe), frozenset({Reads.CALIBRATION}))
    sets = load_datasets(seen)
    assert len(sets.calibration) == 8
    with pytest.raises(DataError, match="does not say that it reads the evaluation set"):
        sets.evaluation  # noqa: B018
    assert not seen.source.exists()
    assert (seen.version, seen.targets) == ("0.0.0", ())


def test_a_file_changed_meanwhile_is_noticed(recipe: Path) -> None:
    parsed = load_recipe(recipe)
    inputs = Inputs(parsed, load_datasets(parsed), inputs_state(parsed))
    assert inputs.unchanged
    (recipe.parent / "weights.bin").write_bytes(b"other")
    assert not inputs.unchanged


def test_versions_of_what_is_required_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real installed distribution that requires another; the other is upgraded."""
    for name, requires in (("outer-tool", "inner_tool>=1 ; python_version > '3'"), ("inner-tool", "")):
        _install(tmp_path, name, "1.0", requires)
    monkeypatch.syspath_prepend(str(tmp_path))
    environment._installed.cache_clear()
    before = distributions_of(["outer-tool"])
    assert (before["outer-tool"], before["inner-tool"]) == ("1.0", "1.0")
    assert before["numpy"] == np.__version__
    _install(tmp_path, "inner-tool", "1.1", "")
    environment._installed.cache_clear()
    assert distributions_of(["outer-tool"])["inner-tool"] == "1.1"
    assert distributions_of(["not-there"])["not-there"] is None


def _install(site: Path, name: str, version: str, requires: str) -> None:
    for old in site.glob(f"{name.replace('-', '_')}-*.dist-info"):
        (old / "METADATA").unlink()
        old.rmdir()
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requires}"] if requires else []
    (folder / "METADATA").write_text("\n".join([*lines, ""]))


def test_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment_of(("numpy",), {"HOME": "/a"})
    assert environment_of(("numpy",), {"HOME": "/b"}) == before
    assert environment_of(("numpy",), {"HOME": "/a", "TF_ENABLE_ONEDNN_OPTS": "1"}) != before
    monkeypatch.setattr(environment, "this_host", lambda: Host(cpu="Other", isa="x86_64 avx512_vnni"))
    assert environment_of(("numpy",), {"HOME": "/a"}) != before


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody's own that imports in every way there is."""
    folder = tmp_path / "site" / "foreign_passes"
    (folder / "deep").mkdir(parents=True)
    files = {
        "__init__.py": "def lazily():\n    import foreign_passes.unused\n",
        "unused.py": "",
        "entry.py": (
            "from typing import TYPE_CHECKING\n"
            "from . import beside\nfrom .deep.down import thing\n"
            "if TYPE_CHECKING:\n    import foreign_passes.typed\n"
            "def run(job):\n    import foreign_passes.late\n    load('foreign_passes.named')\n"
        ),
        "beside.py": "import converter.intervals\n",
        "late.py": "",
        "named.py": "",
        "typed.py": "",
        "deep/__init__.py": "",
        "deep/down.py": "from .. import beside\nthing = 1\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(folder.parent))
    for function in (code._source, code._root, code._imported, code._file_digest):
        function.cache_clear()
    return folder


@pytest.mark.usefixtures("package")
def test_all_that_a_module_runs_is_its_code() -> None:
    own = {name for name in modules_of("foreign_passes.entry") if name.startswith("foreign")}
    inner = {"beside", "deep", "deep.down", "entry", "late", "named"}
    assert own == {"foreign_passes", *(f"foreign_passes.{name}" for name in inner)}
    assert "converter.intervals" in modules_of("foreign_passes.entry")
    assert "foreign_passes" not in sys.modules, "nothing of it was imported"


@pytest.mark.parametrize(
    ("name", "counts"), [("late.py", True), ("deep/down.py", True), ("typed.py", False), ("unused.py", False)]
)
def test_a_changed_line_of_code_counts(package: Path, name: str, counts: bool) -> None:  # noqa: FBT001
    before = code_digest("foreign_passes.entry")
    with (package / name).open("a") as stream:
        stream.write("changed = True\n")
    code._file_digest.cache_clear()
    code._imported.cache_clear()
    assert (code_digest("foreign_passes.entry") != before) == counts


def test_code_the_key_does_not_hold_is_noticed(package: Path, recipe: Path) -> None:
    job = Job(
        name="foreign_passes.entry",
        folder=package,
        recipe_path=recipe,
        overrides=Overrides(),
        inputs={},
        params={},
    )
    assert covers(job, ["json", "numpy", "foreign_passes.late", "converter.jobs", "__main__"])
    assert not covers(job, ["foreign_passes.unused"])
    assert not covers(job, ["converter.conversion"])


@pytest.mark.parametrize("value", [object(), np.zeros(2), {"a": [b"bytes"]}])
def test_what_has_no_form_has_no_key(value: object) -> None:
    with pytest.raises(TypeError, match="a key cannot hold a"):
        plain(value)


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_an_empty_or_missing_source_is_no_crash(recipe: Path, change: Callable[[Path], object]) -> None:
    change(recipe.parent / "model.onnx")
    assert files_of_source(recipe.parent / "model.onnx") == (recipe.parent / "model.onnx",)


def test_several_conversions_may_read_code_at_once() -> None:
    """CPython 3.11 fails to parse in two threads at a time where garbage is collected in between."""
    paths = sorted(Path(code.__file__).parents[1].glob("*.py"))
    read = code._imported.__wrapped__
    before = gc.get_threshold(), sys.getswitchinterval()

    def collected(*_: object) -> None:
        sum(range(50))  # gives the other threads their turn in the middle of a parse

    gc.callbacks.append(collected)
    gc.set_threshold(50)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda path: read(f"converter.{path.stem}", path), paths * 6))
    finally:
        gc.callbacks.remove(collected)
        gc.set_threshold(*before[0])
        sys.setswitchinterval(before[1])
    assert len(found) == 6 * len(paths)
