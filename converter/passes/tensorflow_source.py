"""Opens what TensorFlow computes, a Keras model or a SavedModel, as a function that can be traced."""

from __future__ import annotations

from typing import Any

from converter.jobs import Job
from converter.passes.keras_model import open_model
from converter.passes.saved_model import open_saved_model
from converter.recipe import Framework, Recipe

__all__ = ["open_source"]


def open_source(job: Job, recipe: Recipe) -> Any:  # noqa: ANN401 - TensorFlow publishes no types
    """The source, for `keras_model.trace`."""
    if recipe.framework is Framework.SAVEDMODEL:
        return open_saved_model(job, recipe)
    return open_model(job, recipe)
