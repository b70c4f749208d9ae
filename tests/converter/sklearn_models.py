"""Fitted scikit-learn models on the data it brings along, and recipes to convert them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

__all__ = ["MODELS", "columns_of", "data", "fitted", "write_sklearn_case"]

_LOADERS: Mapping[str, Callable[[], Any]] = {
    "wine": load_wine,
    "cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": lambda: load_diabetes(scaled=False),
}


def _by_columns() -> Any:
    """Numeric columns in groups, in another order than they come, some left alone and some left out."""
    return ColumnTransformer(
        [
            ("standard", StandardScaler(), [7, 2, 5]),
            ("span", make_pipeline(SimpleImputer(), MinMaxScaler()), slice(8, 11)),
            ("robust", RobustScaler(), [0]),
            ("out", "drop", [1, 3]),
        ],
        remainder="passthrough",
    )


MODELS: Mapping[str, tuple[str, Callable[[], Any]]] = {
    "logistic": ("wine", lambda: make_pipeline(StandardScaler(), LogisticRegression())),
    "logistic-binary": ("cancer", lambda: make_pipeline(RobustScaler(), LogisticRegression())),
    "components": (
        "digits",
        lambda: make_pipeline(PCA(12, random_state=0), LogisticRegression(max_iter=300)),
    ),
    "perceptron": ("wine", lambda: make_pipeline(MinMaxScaler(), Perceptron())),
    "descent": ("wine", lambda: make_pipeline(MinMaxScaler(), SGDClassifier(loss="log_loss"))),
    "vectors-binary": ("cancer", lambda: make_pipeline(StandardScaler(), LinearSVC())),
    "bayes": ("wine", lambda: make_pipeline(StandardScaler(), GaussianNB())),
    "mlp": ("digits", lambda: make_pipeline(Normalizer(), MLPClassifier((16,), max_iter=40, random_state=0))),
    "tree": ("digits", lambda: DecisionTreeClassifier(max_depth=6, random_state=0)),
    "forest": ("wine", lambda: RandomForestClassifier(20, random_state=0)),
    "forest-scaled": (
        "wine",
        lambda: make_pipeline(StandardScaler(), RandomForestClassifier(30, random_state=0)),
    ),
    "forest-binary": ("cancer", lambda: RandomForestClassifier(10, max_depth=5, random_state=0)),
    "forest-by-columns": (
        "wine",
        lambda: make_pipeline(_by_columns(), RandomForestClassifier(9, random_state=0)),
    ),
    "boosting": ("wine", lambda: GradientBoostingClassifier(n_estimators=8, random_state=0)),
    "boosting-binary": (
        "cancer",
        lambda: make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=8, random_state=0)),
    ),
    "histograms": ("digits", lambda: HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=6)),
    "histograms-binary": ("cancer", lambda: HistGradientBoostingClassifier(max_iter=6)),
    "weak-trees": ("wine", lambda: AdaBoostClassifier(n_estimators=4, random_state=0)),
    "vote": (
        "wine",
        lambda: VotingClassifier(
            [
                ("line", make_pipeline(StandardScaler(), LogisticRegression())),
                ("tree", DecisionTreeClassifier(max_depth=3, random_state=0)),
            ],
            voting="soft",
        ),
    ),
    "line": ("diabetes", LinearRegression),
    "squares": ("diabetes", lambda: make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge())),
    "kernel": ("diabetes", lambda: make_pipeline(StandardScaler(), SVR(C=100))),
    "mlp-value": (
        "diabetes",
        lambda: make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), max_iter=300, random_state=0)
        ),
    ),
    "forest-value": ("diabetes", lambda: RandomForestRegressor(9, max_depth=8, random_state=0)),
    "extra-value": (
        "diabetes",
        lambda: make_pipeline(StandardScaler(), ExtraTreesRegressor(9, max_depth=8, random_state=0)),
    ),
    "histograms-value": (
        "diabetes",
        lambda: make_pipeline(MinMaxScaler(), HistGradientBoostingRegressor(max_iter=9)),
    ),
}
"""By name, the data and the estimator: linear models, networks, kernels and every kind of tree."""


@cache
def data(name: str) -> tuple[Any, Any]:
    """Columns in FP32 and answers, no row twice, in an order of chance that is always the same."""
    found = _LOADERS[name]()
    values, first = np.unique(found.data.astype(np.float32), axis=0, return_index=True)
    order = np.random.default_rng(7).permutation(len(values))
    return values[order], found.target[first][order]


@cache
def fitted(name: str) -> Any:
    """A model fitted on the second half of its data."""
    which, make = MODELS[name]
    values, targets = data(which)
    return make().fit(values[len(values) // 2 :], targets[len(values) // 2 :])


def columns_of(name: str) -> Any:
    """The columns of a model's data."""
    return data(MODELS[name][0])[0]


def write_sklearn_case(
    folder: Path,
    model: Any,
    which: str,
    *,
    variants: Iterable[tuple[str, str]] = (("onnx", "fp32"),),
    goal: str = "",
) -> Path:
    """Write model, sets and recipe; what was fitted on calibrates, the rest judges. Returns the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, folder / "model.skops")
    values, targets = data(which)
    half = len(values) // 2
    for part, low, high in (
        ("evaluation", 0, half - 12),
        ("golden", half - 12, half),
        ("calibration", half, None),
    ):
        np.savez(folder / f"{part}.npz", x=values[low:high], label=targets[low:high])
    classes = len(np.unique(targets)) if which != "diabetes" else 1
    tables = "".join(f'[[variant]]\nruntime = "{run}"\nprecision = "{kind}"\n' for run, kind in variants)
    path = folder / "recipe.toml"
    path.write_text(
        f"""\
[release]
publisher = "cellar"
model = "tiny"
version = "1.0.0"
counter = 1
license = "MIT"
labels = {[str(index) for index in range(classes)] if classes > 1 else []}
[source]
framework = "sklearn"
path = "model.skops"
[[input]]
name = "x"
datatype = "FP32"
shape = [-1, {values.shape[1]}]
[[output]]
name = "y"
datatype = "FP32"
shape = [-1, {classes}]
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
golden = "golden.npz"
[goal]
{goal or 'metric = "accuracy"'}
max_drop = 0.02
{tables}"""
    )
    return path
