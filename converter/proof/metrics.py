"""The metrics a recipe may be judged by: what each needs, and which way is better.

How they are computed is `converter.proof.scores`'; reading a recipe needs no numpy.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Labels", "Metric"]

_POINT = 100


class Labels(Enum):
    """What a metric needs to know of a sample besides the source's answer."""

    NONE = "none"
    CLASSES = "classes"
    """One whole number a sample: the index of its class."""
    VALUES = "values"
    """The true output: a number for each the model gives."""


class Metric(Enum):
    """How good a model's first output is."""

    ACCURACY = "accuracy"
    TOP5_ACCURACY = "top5_accuracy"
    """The share of samples whose class is among the five best."""
    WITHIN = "within"
    """The share of samples whose first number lies within the goal's tolerance of the true one."""
    F1_MACRO = "f1_macro"
    """Precision and recall of every class, rare ones counting as much as frequent ones."""
    RANK_CORRELATION = "rank_correlation"
    """Spearman's, of the cosines between all pairs of samples with the source's: does it order alike?"""
    MEAN_COSINE = "mean_cosine"
    """Of each answer with the source's."""
    R2 = "r2"
    """Share of the true values' variance explained."""
    NRMSE = "nrmse"
    """Root of the mean squared error, in standard deviations of the true values."""

    @property
    def labels(self) -> Labels:
        """What of the evaluation set it needs."""
        if self in (Metric.RANK_CORRELATION, Metric.MEAN_COSINE):
            return Labels.NONE
        if self in (Metric.R2, Metric.NRMSE, Metric.WITHIN):
            return Labels.VALUES
        return Labels.CLASSES

    @property
    def higher_is_better(self) -> bool:
        """Whether a drop is a loss of it, and not a growth."""
        return self is not Metric.NRMSE

    @property
    def counts(self) -> bool:
        """Whether it is the share of samples that are right: then the interval is one of proportions."""
        return self in (Metric.ACCURACY, Metric.TOP5_ACCURACY, Metric.WITHIN)

    @property
    def verb(self) -> str:
        """What it does where it gets worse."""
        return "drops" if self.higher_is_better else "grows"

    def drop(self, source: float, variant: float) -> float:
        """What the variant loses against the source; below zero where it gains."""
        return source - variant if self.higher_is_better else variant - source

    def shown(self, amount: float) -> str:
        """An amount of it as people say it: shares in points, others as they are."""
        if self.counts or self is Metric.F1_MACRO:
            return f"{amount * _POINT:.3g} points"
        return f"{amount:.3g}"
