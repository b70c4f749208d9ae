"""The recipe: what to convert, into which variants, judged by what.

A TOML file, parsed once into frozen values. `models/digits/recipe.toml` is a commented example. Paths
in it are relative to it; the command line may replace the version, the source and the data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from converter.errors import RecipeError
from converter.goals import Goal, SearchLimits, read_goal, read_search_limits
from converter.recipe_inputs import InputPlan, read_inputs, read_tensor
from converter.tables import Table, read_toml
from converter.variants import Search, Target, read_targets
from ota_contract.errors import InvalidNameError
from ota_contract.names import ModelName, Version
from ota_contract.preprocessing import InputSpec, Operation
from ota_contract.tensors import MAX_RANK, Datatype, Tensor

__all__ = [
    "DataPaths",
    "Framework",
    "InputPlan",
    "Limits",
    "Overrides",
    "Recipe",
    "load_recipe",
    "shown_path",
]

_MEBIBYTE = 2**20


class Framework(Enum):
    """What the source model was saved by."""

    KERAS = "keras"
    ONNX = "onnx"
    SKLEARN = "sklearn"
    TORCH = "torch"
    SAVEDMODEL = "savedmodel"

    @property
    def shown(self) -> str:
        """As sentences name what runs it."""
        return {
            Framework.KERAS: "Keras",
            Framework.ONNX: "ONNX Runtime",
            Framework.SKLEARN: "scikit-learn",
            Framework.TORCH: "PyTorch",
            Framework.SAVEDMODEL: "TensorFlow",
        }[self]


_FOLDED = {
    Framework.KERAS: (Operation.AFFINE, Operation.TRANSPOSE),
    Framework.ONNX: (Operation.AFFINE, Operation.CAST, Operation.TRANSPOSE),
    Framework.SKLEARN: (Operation.AFFINE, Operation.CAST),
    Framework.TORCH: (Operation.AFFINE, Operation.CAST),
    Framework.SAVEDMODEL: (Operation.AFFINE,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPaths:
    """The labelled sets, each an .npz with one array per input and, where labelled, `label`."""

    calibration: Path
    evaluation: Path
    golden: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one pass may take before it is ended."""

    timeout_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a caller replaces in a recipe; None keeps the recipe's own."""

    version: str | None = None
    counter: int | None = None
    source: Path | None = None
    data: Path | None = None
    """A folder that holds files of the same names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A parsed recipe."""

    shown: str
    """The file as error messages name it."""
    sha256: str
    name: ModelName
    version: str
    counter: int
    floor: int
    license: str
    labels: tuple[str, ...]
    framework: Framework
    source: Path
    made_by: str
    """The command that makes the source and the data, or empty."""
    source_layout: str
    """Axis letters of the source's images, where they are not the recipe's; else empty."""
    inputs: tuple[InputPlan, ...]
    preprocessing: tuple[InputSpec, ...]
    """How raw values become the inputs; steps that are not the device's are marked `folded`."""
    vocabularies: Mapping[str, Path]
    """The files that tokenizers need, by SHA-256."""
    outputs: tuple[Tensor, ...]
    data: DataPaths
    goal: Goal
    limits: Limits
    search: SearchLimits
    targets: tuple[Target, ...]
    """The variants named."""
    searches: tuple[Search, ...]
    """The variants to be found."""


def load_recipe(
    path: Path, overrides: Overrides | None = None, *, values: Mapping[str, Any] | None = None
) -> Recipe:
    """Parse a recipe.

    Args:
        path: Its file; paths in it are relative to the folder it is in.
        overrides: What to replace in it.
        values: What the file holds, where there is no file.

    Raises:
        RecipeError: Missing, malformed, or asking for what this version cannot do.
    """
    shown = shown_path(path)
    keys = ("release", "source", "input", "raw", "output", "data", "goal", "limits", "search", "variant")
    root, content = read_toml(path, shown=shown, keys=keys, values=values)
    try:
        recipe = _recipe_from(root, path, shown, hashlib.sha256(content).hexdigest())
        recipe = _overridden(recipe, overrides or Overrides())
    except InvalidNameError as error:
        raise RecipeError(f"{shown}: {error}") from error
    if recipe.floor > recipe.counter:
        raise RecipeError(f"{shown}: release.floor {recipe.floor} is above the counter {recipe.counter}")
    return recipe


def shown_path(path: Path) -> str:
    """A path as people see it: relative where it lies below the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _recipe_from(root: Table, path: Path, shown: str, sha256: str) -> Recipe:
    release = root.table(
        "release", ("publisher", "model", "version", "counter", "floor", "license", "labels")
    )
    source = root.table("source", ("framework", "path", "made_by", "layout"))
    framework = source.member("framework", Framework)
    data = root.table("data", ("calibration", "evaluation", "golden"))
    folder = path.parent
    targets, searches = read_targets(root)
    inputs = read_inputs(root, folder, _FOLDED[framework])
    return Recipe(
        shown=shown,
        sha256=sha256,
        name=ModelName(release.text("publisher"), release.text("model")),
        version=str(Version.parse(release.text("version"))),
        counter=release.integer("counter", low=1),
        floor=release.integer("floor", 1),
        license=release.text("license"),
        labels=release.texts("labels"),
        framework=framework,
        source=_joined(folder, source.text("path")),
        made_by=source.text("made_by", ""),
        source_layout=_source_layout(source, framework),
        inputs=inputs.plans,
        preprocessing=inputs.preprocessing,
        vocabularies=inputs.vocabularies,
        outputs=tuple(_outputs(root)),
        data=DataPaths(
            calibration=_joined(folder, data.text("calibration")),
            evaluation=_joined(folder, data.text("evaluation")),
            golden=_joined(folder, data.text("golden")),
        ),
        goal=read_goal(root),
        limits=_limits(root),
        search=read_search_limits(root),
        targets=targets,
        searches=searches,
    )


def _overridden(recipe: Recipe, overrides: Overrides) -> Recipe:
    version = str(Version.parse(overrides.version)) if overrides.version else recipe.version
    counter = recipe.counter if overrides.counter is None else overrides.counter
    if counter < 1:
        raise RecipeError(f"{recipe.shown}: counter {counter} is below 1")
    data = recipe.data
    if overrides.data is not None:
        data = DataPaths(
            calibration=overrides.data / data.calibration.name,
            evaluation=overrides.data / data.evaluation.name,
            golden=overrides.data / data.golden.name,
        )
    source = overrides.source or recipe.source
    return replace(recipe, version=version, counter=counter, source=source, data=data)


def _joined(folder: Path, text: str) -> Path:
    return Path(os.path.normpath(folder / text))


def _source_layout(source: Table, framework: Framework) -> str:
    layout = source.text("layout", "")
    if layout and framework is Framework.KERAS:
        source.fail("layout", "Keras models say their layout themselves")
    if layout and framework is Framework.SAVEDMODEL:
        source.fail("layout", "a SavedModel's images have their channels last; say so of the input")
    if layout and framework is Framework.SKLEARN:
        source.fail("layout", "scikit-learn models take columns, which have none")
    if len(set(layout)) != len(layout) or len(layout) > MAX_RANK:
        source.fail("layout", f"use up to {MAX_RANK} different axis letters, such as NCHW")
    return layout


def _outputs(root: Table) -> Iterator[Tensor]:
    tables = root.tables("output", ("name", "datatype", "shape", "layout", "meaning"))
    if not tables:
        root.fail("output", "missing; name at least one [[output]]")
    for table in tables:
        tensor = read_tensor(table)
        if tensor.datatype is not Datatype.FP32:
            table.fail("datatype", "outputs are FP32 in every variant")
        yield tensor


def _limits(root: Table) -> Limits:
    table = root.table("limits", ("timeout_s", "memory_mb"), optional=True)
    return Limits(
        timeout_s=table.number("timeout_s", 600.0, within=(0.1, 86_400.0)),
        memory_bytes=table.integer("memory_mb", 4096, low=1) * _MEBIBYTE,
    )
