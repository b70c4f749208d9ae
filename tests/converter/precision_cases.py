"""Float models of all runtimes, passes that change their precision here, and their answers."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converter.jobs import Job
from converter.nodes import Pass
from converter.passes.prepared import samples
from converter.processes import run_job
from converter.recipe import Limits, Overrides, load_recipe
from converter.routes import PASSES
from converter.variants import LayerRule, Options, Precision
from ota_contract.manifest import Runtime
from tests.converter.onnx_models import encoder, write_case
from tests.packages import RECIPE

__all__ = [
    "FILES",
    "FLOATS",
    "Case",
    "Made",
    "answers",
    "digits_case",
    "encoder_case",
    "made",
    "precisions_of",
    "size_of",
    "step_for",
]

FLOATS = {
    Runtime.ONNX: Precision.FP32,
    Runtime.TFLITE: Precision.FP32,
    Runtime.COREML: Precision.FP16,
}
"""What the passes of each runtime begin at."""
FILES = {Runtime.ONNX: "model.onnx", Runtime.TFLITE: "model.tflite"}
_LIMITS = Limits(timeout_s=120, memory_bytes=4 * 2**30)
_WIDTH = 64
_ANSWERS = 100
"""Samples at most; the evaluator takes milliseconds for each."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model in its float form for each runtime, with its recipe and data."""

    recipe: Path
    overrides: Overrides
    files: Mapping[Runtime, Path]


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a pass made."""

    file: Path
    facts: Mapping[str, Any]


def digits_case(model: Path, package: Path) -> Case:
    """The convolutional network of `models/digits`, from its package."""
    return Case(
        recipe=RECIPE,
        overrides=Overrides(source=model / "digits.keras", data=model),
        files={
            runtime: package / "variants" / f"{runtime.value}-{precision.value}" / _name(runtime, "digits")
            for runtime, precision in FLOATS.items()
        },
    )


def encoder_case(folder: Path, *, there: bool) -> Case:
    """A transformer's encoder over token ids, converted here to the float form of each runtime."""
    recipe = folder / "recipe.toml"
    if not there:
        tokens = np.random.default_rng(3).integers(0, 11, (60, 5))
        write_case(folder, encoder(width=_WIDTH), tokens, shape=(-1, 5), datatype="INT64")
    case = Case(
        recipe=recipe,
        overrides=Overrides(),
        files={runtime: folder / runtime.value / "out" / _name(runtime, "tiny") for runtime in FLOATS},
    )
    if not there:
        _run(case, step_for(Runtime.ONNX, Precision.FP32, name="onnx_to_onnx"), None, folder / "onnx")
        for name in ("onnx_to_tflite", "onnx_to_coreml"):
            step = next(step for step in PASSES if step.id == name)
            runtime = Runtime(step.target.format.value)
            _run(case, step, case.files[Runtime.ONNX], folder / runtime.value)
    return case


def precisions_of(runtime: Runtime) -> tuple[Precision, ...]:
    """All that begin at the runtime's float file."""
    return tuple(step.target.precision for step in PASSES if _lowers(step, runtime))


def step_for(runtime: Runtime, precision: Precision, *, name: str = "") -> Pass:
    """The pass from a runtime's float file, or the one of a name."""
    return next(
        step
        for step in PASSES
        if (step.id == name or not name)
        and step.target.precision is precision
        and (name or _lowers(step, runtime))
    )


def made(
    case: Case,
    runtime: Runtime,
    precision: Precision,
    folder: Path,
    *,
    rules: Iterable[LayerRule] = (),
    options: Options | None = None,
) -> Made:
    """Run a pass in this process, as its own process would."""
    step = step_for(runtime, precision)
    stated = options or Options(rules=tuple(rules))
    job = _job(case, step, case.files[runtime], folder, stated)
    job.out.mkdir(parents=True)
    facts = importlib.import_module(f"converter.passes.{step.code}").run(job)
    return Made(file=next(job.out.iterdir()), facts=facts)


def answers(case: Case, runtime: Runtime, made_: Made) -> Any:
    """The first output for each evaluation sample, from the runtime that devices have."""
    recipe = load_recipe(case.recipe, case.overrides)
    from converter.datasets import load_datasets  # noqa: PLC0415

    name = recipe.inputs[0].tensor.name
    given = [sample[name] for sample in samples(recipe, load_datasets(recipe).evaluation)][:_ANSWERS]
    run = {Runtime.ONNX: _onnx, Runtime.TFLITE: _tflite, Runtime.COREML: _coreml}[runtime]
    return np.concatenate(run(made_.file, name, given))


def size_of(file: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    if file.is_file():
        return file.stat().st_size
    return sum(path.stat().st_size for path in file.rglob("*") if path.is_file())


def _name(runtime: Runtime, model: str) -> str:
    return FILES.get(runtime, f"{model}.mlpackage")


def _lowers(step: Pass, runtime: Runtime) -> bool:
    return step.source.format is step.target.format and step.target.format.runtime is runtime


def _run(case: Case, step: Pass, model: Path | None, folder: Path) -> None:
    run_job(_job(case, step, model, folder, Options()), limits=_LIMITS, cancelled=threading.Event())


def _job(case: Case, step: Pass, model: Path | None, folder: Path, options: Options) -> Job:
    return Job(
        name=step.code,
        folder=folder,
        recipe_path=case.recipe,
        overrides=case.overrides,
        inputs={} if model is None else {"model": model},
        params={**step.params, **options.params()},
        hides=step.hides,
    )


def _onnx(file: Path, name: str, given: list[Any]) -> list[Any]:
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads that spin take the core of another test
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return [session.run(None, {name: value})[0] for value in given]


def _tflite(file: Path, name: str, given: list[Any]) -> list[Any]:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    del name
    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    results = []
    for value in given:
        interpreter.set_tensor(taken["index"], value.astype(taken["dtype"]))
        interpreter.invoke()
        results.append(interpreter.get_tensor(answer["index"]))
    return results


def _coreml(file: Path, name: str, given: list[Any]) -> list[Any]:
    from converter.coreml_reference.evaluator import Evaluator  # noqa: PLC0415
    from converter.coreml_reference.loading import read_package  # noqa: PLC0415
    from converter.coreml_reference.runtime import feature  # noqa: PLC0415

    program = read_package(file)
    evaluator = Evaluator(program)
    return [
        np.asarray(next(iter(evaluator.run({name: feature(program, name, value)}).values())))
        for value in given
    ]
