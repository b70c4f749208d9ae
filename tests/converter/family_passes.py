"""Runs passes on models of every family: `python -m tests.converter.family_passes FRAMEWORK MODELS FOLDER`.

FRAMEWORK is `torch`, `keras`, or `onnx`, which goes on with what `torch` made, to Core ML. MODELS holds
`<family>-any` and `<family>-one`, of any batch and of one sample, and `<family>.npz` with samples in the
source's layout and the framework's own answers. For each there comes `<model>/<pass>/`, the job's folder,
with `facts.json` or `refusal.txt`, and for Core ML `outputs.npz`, by the reference evaluator. The process
hides what the passes hide; `FRAMEWORK-modules.json` says what was imported all the same.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from converter.errors import ConverterError
from converter.hidden import hide
from converter.jobs import Job
from converter.passes.prepared import prepared
from converter.recipe import Overrides
from converter.routes import PASSES
from tests.converter.recipes import write_tiny

__all__ = ["PATHS", "SAMPLES", "recipe_of"]

SAMPLES = 4
"""Of the evaluation set, that a model is asked about one by one."""
PATHS = {
    "torch": ("torch_to_onnx", "torch_to_tflite"),
    "keras": ("keras_to_onnx", "keras_to_tflite", "keras_to_coreml"),
    "onnx": ("onnx_to_coreml",),
}
_SUFFIXES = {"torch": ".pt2", "keras": ".keras"}
_TFLITE_ONCE = ("cnn-one",)
"""A file of one sample differs from one of any batch in the recipe alone: one model shows that."""


def recipe_of(source: Path, folder: Path, *, framework: str, **changes: Any) -> Path:
    """A recipe for a model, images in NHWC whatever the source's layout; returns its path."""
    family, _, batch = source.stem.partition("-")
    with np.load(source.parent / f"{family}.npz") as archive:
        raw, labels = archive["samples"], archive["answers"].argmax(axis=-1)
    images = raw.ndim == 4
    if images and framework == "torch":
        raw, changes = (
            np.ascontiguousarray(raw.transpose(0, 2, 3, 1)),
            {"extra": 'layout = "NCHW"', **changes},
        )
    return write_tiny(
        folder,
        source,
        raw,
        labels,
        framework=framework,
        shape=(1 if batch == "one" else -1, *raw.shape[1:]),
        classes=4,
        layout="NHWC" if images else "",
        **changes,
    )


def main(framework: str, models: Path, folder: Path) -> None:
    names = PATHS[framework]
    steps = {step.id: step for step in PASSES if step.id in names}
    for name in {name for step in steps.values() for name in step.hides}:
        hide(name)
    origin = "torch" if framework == "onnx" else framework
    for source in sorted(models.glob(f"*{_SUFFIXES[origin]}")):
        recipe = folder / source.stem / "recipe.toml"
        if framework != "onnx":
            recipe_of(source, recipe.parent, framework=framework)
        for name in names:
            if name == "torch_to_tflite" and source.stem.endswith("-one") and source.stem not in _TFLITE_ONCE:
                continue
            _run(Job(
                name=name,
                folder=recipe.parent / name,
                recipe_path=recipe,
                overrides=Overrides(),
                inputs={"model": recipe.parent / "torch_to_onnx" / "out" / "model.onnx"},
                params=dict(steps[name].params),
            ))  # fmt: skip
    known = ("tensorflow", "torch", "keras", "coremltools")
    (folder / f"{framework}-modules.json").write_text(
        json.dumps([name for name in known if name in sys.modules])
    )


def _run(job: Job) -> None:
    job.out.mkdir(parents=True)
    try:
        facts = importlib.import_module(f"converter.passes.{job.name}").run(job)
    except ConverterError as error:
        (job.folder / "refusal.txt").write_text(str(error))
        return
    (job.folder / "facts.json").write_text(json.dumps(facts))
    if job.name.endswith("_to_coreml"):
        _evaluate(job)


def _evaluate(job: Job) -> None:
    from converter.coreml_reference.evaluator import Evaluator  # noqa: PLC0415 - with coremltools
    from converter.coreml_reference.loading import read_package  # noqa: PLC0415
    from converter.datasets import load_datasets  # noqa: PLC0415

    recipe = job.recipe()
    x = prepared(recipe, load_datasets(recipe).evaluation)["x"].astype(np.float32)
    evaluator = Evaluator(read_package(job.out / "tiny.mlpackage"))
    rows = [evaluator.run({"x": x[row : row + 1]})["y"] for row in range(SAMPLES)]
    np.savez(job.folder / "outputs.npz", np.concatenate(rows).astype(np.float32))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
