"""What passes kept of answers to the evaluation set, compared with the source's by the recipe's metric.

The passes only answer; that one place counts, for named variants, trials of a search and the source alike.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.datasets import Dataset
from converter.passes.answers import EVALUATION, read_answers
from converter.proof.comparison import Comparison, Estimate, compare, quality
from converter.proof.metrics import Labels
from converter.proof.scores import Array, classes_of
from converter.recipe import Recipe

__all__ = ["Evidence", "Rows"]

_MOST_CLASSES = 64
"""In a table of confusions, which grows with their square."""

Rows = NDArray[np.intp]
"""Some of the evaluation samples."""


class Evidence:
    """The source's answers, and what others lose against them."""

    def __init__(self, recipe: Recipe, data: Dataset, reference: Path) -> None:
        """Read the source's answers when they are needed.

        Args:
            recipe: Says what is judged, and how.
            data: The evaluation set.
            reference: Where the pass that asked the source wrote.
        """
        self._recipe = recipe
        self._data = data
        self._reference = reference

    @cached_property
    def source(self) -> Estimate:
        """What the source itself is worth."""
        return quality(self._recipe.goal, source=self._of_source, labels=self._data.labels)

    def compare(self, folder: Path, *, rows: Rows | None = None, looks: int = 1) -> Comparison:
        """What a variant is worth.

        Args:
            folder: Where the pass that evaluated it wrote.
            rows: The samples to count; all by default.
            looks: See `converter.proof.comparison.compare`.
        """
        rows = np.arange(len(self._data)) if rows is None else rows
        labels = self._data.labels
        return compare(
            self._recipe.goal,
            source=self._of_source[rows],
            outputs=self._judged(folder)[rows],
            labels=None if labels is None else labels[rows],
            looks=looks,
        )

    def confusion(self, folder: Path) -> list[list[int]] | None:
        """How often it gave a class (column) where the source gave one (row); None without few classes."""
        outputs = self._judged(folder)
        count = outputs.reshape(len(outputs), -1).shape[1]
        if self._recipe.goal.metric.labels is not Labels.CLASSES or count > _MOST_CLASSES:
            return None
        table = np.zeros((count, count), dtype=np.int64)
        np.add.at(table, (classes_of(self._of_source), classes_of(outputs)), 1)
        rows: list[list[int]] = table.tolist()
        return rows

    @cached_property
    def _of_source(self) -> Array:
        return self._judged(self._reference)

    def _judged(self, folder: Path) -> Array:
        return read_answers(folder, EVALUATION)[self._recipe.outputs[0].name]
