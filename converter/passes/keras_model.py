"""Opens the source model in safe mode, and traces the function every Keras pass converts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from converter.errors import PassError, Reason, RecipeError
from converter.jobs import Job
from converter.recipe import InputPlan, Recipe, shown_path
from converter.source_file import check_source
from edge_runtime.preprocessing import affine_operands
from ota_contract.preprocessing_steps import Affine, Transpose

__all__ = ["Traced", "open_model", "trace"]

_LINE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The serving function: raw tensors of the signature in, outputs by signature name out."""

    function: Any
    concrete: Any
    signature: Sequence[Any]
    output_names: Sequence[str]
    """In the order of the traced graph's outputs."""


def open_model(job: Job, recipe: Recipe) -> Any:  # noqa: ANN401 - keras is untyped
    """Load the source and check that it is what the recipe describes.

    Raises:
        PassError: It cannot be loaded safely, differs from the recipe, or has NaN among its weights.
    """
    check_source(recipe)  # again, here: the file may have changed since the parent looked
    shown = shown_path(recipe.source)
    try:
        model = keras.saving.load_model(recipe.source, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras raises, the file is at fault
        lines = str(error).strip().splitlines() or [type(error).__name__]
        message = f"Keras cannot open {shown} in safe mode: {lines[0][:_LINE]}"
        raise PassError(job.name, Reason.SOURCE, message) from error
    _check_signature(job, recipe, model)
    for weight in model.weights:
        if not np.isfinite(weight.numpy()).all():
            message = f"{shown}: weight {weight.path} holds NaN or infinity; train the model again"
            raise PassError(job.name, Reason.NOT_FINITE, message)
    return model


def trace(model: Any, recipe: Recipe, *, batch: int | None, as_float: bool = False) -> Traced:  # noqa: ANN401
    """Trace the model with the converter's own preprocessing steps in front.

    Args:
        model: The source.
        recipe: Names the tensors.
        batch: A fixed batch size, or None for any.
        as_float: Take inputs as FP32 and cast them, where a runtime's images are floats.
    """
    signature = [
        tf.TensorSpec(
            (batch if plan.tensor.shape[0] < 0 else plan.tensor.shape[0], *plan.tensor.shape[1:]),
            tf.float32 if as_float else tf.as_dtype(np.dtype(plan.tensor.datatype.dtype)),
            name=plan.tensor.name,
        )
        for plan in recipe.inputs
    ]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator] # no types
    def serve(*tensors: Any) -> Any:  # noqa: ANN401
        fed = [
            _fold(plan, tensor, wanted.dtype)
            for plan, tensor, wanted in zip(recipe.inputs, tensors, model.inputs, strict=True)
        ]
        results = model(fed if len(fed) > 1 else fed[0], training=False)
        results = results if isinstance(results, (list, tuple)) else [results]
        return {tensor.name: result for tensor, result in zip(recipe.outputs, results, strict=True)}

    concrete = serve.get_concrete_function()
    names = list(tf.nest.flatten({tensor.name: tensor.name for tensor in recipe.outputs}))
    return Traced(function=serve, concrete=concrete, signature=signature, output_names=names)


def _fold(plan: InputPlan, tensor: Any, dtype: str) -> Any:  # noqa: ANN401
    if plan.converter_steps:
        tensor = tf.cast(tensor, tf.float32)
    for step in plan.converter_steps:
        if isinstance(step, Transpose):
            tensor = tf.transpose(tensor, step.axes)
            continue
        if not isinstance(step, Affine):  # the recipe lets nothing else through
            raise RecipeError(f"input {plan.tensor.name}: {step.operation.value} is not folded into Keras")
        scale, offset = affine_operands(step)
        tensor = tensor * tf.constant(scale)
        if offset.any():
            tensor = tensor + tf.constant(offset)
    return tf.cast(tensor, dtype)


def _check_signature(job: Job, recipe: Recipe, model: Any) -> None:  # noqa: ANN401
    for what, tensors, found in (
        ("input", [plan.fed for plan in recipe.inputs], model.inputs),
        ("output", list(recipe.outputs), model.outputs),
    ):
        if len(tensors) != len(found):
            message = f"the model has {len(found)} {what}s, {recipe.shown} names {len(tensors)}"
            raise PassError(job.name, Reason.SOURCE, message)
        for tensor, actual in zip(tensors, found, strict=True):
            shape = [-1 if length is None else int(length) for length in actual.shape]
            fits = len(shape) == len(tensor.shape) and all(
                -1 in (wanted, got) or wanted == got for wanted, got in zip(tensor.shape, shape, strict=True)
            )
            if not fits:
                message = (
                    f"the model's {what} {actual.name} has shape {shape}, "
                    f"{recipe.shown} says {tensor.name} has {list(tensor.shape)}"
                )
                raise PassError(job.name, Reason.SOURCE, message)
    for plan, actual in zip(recipe.inputs, model.inputs, strict=True):
        own = np.dtype(actual.dtype)
        if not plan.converter_steps and own != plan.tensor.datatype.dtype:
            message = (
                f"the model takes {actual.name} as {own}, {recipe.shown} says "
                f"{plan.tensor.datatype.value}; add a preprocessing step by the converter"
            )
            raise PassError(job.name, Reason.SOURCE, message)
