"""Which answers are right by the recipe's metric; their share is what variants are judged by."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from converter.recipe import Goal
    from edge_runtime.port import AnyArray

__all__ = ["Metric", "alike", "magnitudes", "right"]


class Metric(Enum):
    """What a sample's answer must be to count."""

    ACCURACY = "accuracy"
    """The label is the class of the greatest score."""
    WITHIN = "within"
    """The first number lies within `goal.tolerance` of the label."""


def right(goal: Goal, answers: AnyArray, labels: AnyArray) -> NDArray[np.bool_]:
    """Which samples are answered right; answers are [samples, scores], labels one a sample."""
    if goal.metric == Metric.ACCURACY.value:
        return np.asarray(answers.argmax(axis=-1) == labels)
    return np.asarray(np.abs(_first(answers) - labels) <= goal.tolerance)


def alike(goal: Goal, answers: AnyArray, others: AnyArray) -> NDArray[np.bool_]:
    """Which samples are answered in the same way by two models."""
    if goal.metric == Metric.ACCURACY.value:
        return np.asarray(answers.argmax(axis=-1) == others.argmax(axis=-1))
    return np.asarray(np.abs(_first(answers) - _first(others)) <= goal.tolerance)


def magnitudes(answers: dict[str, AnyArray]) -> dict[str, float]:
    """By output, the greatest size of a number in it, at least 1: what differences are relative to."""
    return {name: max(1.0, float(np.abs(array).max(initial=0.0))) for name, array in answers.items()}


def _first(answers: AnyArray) -> NDArray[np.float64]:
    return answers.reshape(len(answers), -1)[:, 0].astype(np.float64)
