"""scikit-learn models answer the same as ONNX, Core ML and TFLite files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skl2onnx
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from converter.errors import RouteError
from converter.onnx_ml.rewriting import DOMAIN, TREES, plain
from converter.passes.onnx_cleaning import folded
from converter.passes.sklearn_columns import column_sources, raw_thresholds
from converter.passes.sklearn_model import answers as estimator_answers
from converter.passes.sklearn_to_onnx import exported
from edge_runtime.package import open_package
from ota_contract.manifest import VerificationStatus
from tests.converter.conftest import Ferry
from tests.converter.import_trap import trap_imports
from tests.converter.onnx_models import answers
from tests.converter.sklearn_models import MODELS, columns_of, data, fitted, write_sklearn_case
from tests.packages import REPOSITORY, made_once

ROWS = 6
OPSET = 15
AGREEMENT = 4e-6
"""Of FP32 sums in another order, relative to the greatest answer or 1."""


ELSEWHERE = (
    "bayes", "boosting-binary", "components", "forest-scaled", "histograms-value",
    "kernel", "logistic-binary", "mlp", "tree", "vote",
)  # fmt: skip
"""One of each family: conversions for other runtimes take seconds."""


def _difference(got: Any, expected: Any) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))


def _exported(name: str) -> Any:
    return exported(fitted(name), OPSET)


@pytest.mark.parametrize("name", MODELS)
def test_an_onnx_file_answers_as_scikit_learn(name: str) -> None:
    """On every row, those it was fitted on too: trees' thresholds lie between them, and so do test rows."""
    values = columns_of(name)
    (got,) = answers(_exported(name), {"columns": values})
    expected = estimator_answers(fitted(name), values)
    assert _difference(got, expected) < AGREEMENT
    assert (got.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize("name", MODELS)
def test_no_operator_of_the_ml_domain_is_left(name: str) -> None:
    values = columns_of(name)
    model = folded(plain(_exported(name)))
    assert not {node.domain for node in model.graph.node} - {""}
    (got,) = answers(model, {"columns": values})
    assert _difference(got, estimator_answers(fitted(name), values)) < AGREEMENT


def test_onnx_keeps_its_own_trees() -> None:
    model = plain(_exported("forest"), keep=frozenset(TREES))
    assert [(node.domain, node.op_type) for node in model.graph.node] == [(DOMAIN, "TreeEnsembleClassifier")]


def test_a_forest_behind_a_scaler_decides_as_scikit_learn_does() -> None:
    """Operator by operator the scaler rounds otherwise, and rows on a threshold go down the other branch."""
    model, values = fitted("forest-scaled"), columns_of("forest-scaled")
    expected = estimator_answers(model, values)
    naive = skl2onnx.to_onnx(
        model, values[:1], options={id(model[-1]): {"zipmap": False}}, target_opset={"": OPSET, DOMAIN: 3}
    )
    assert _difference(answers(naive, {"X": values})[1], expected) > 1e-2
    kept = _exported("forest-scaled")
    assert {node.op_type for node in kept.graph.node} == {"TreeEnsembleClassifier"}
    assert _difference(answers(kept, {"columns": values})[0], expected) < AGREEMENT


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=12, unique=True),
    st.floats(-4, 4, width=32),
    st.sampled_from([StandardScaler, MinMaxScaler]),
)
def test_a_raw_threshold_separates_what_the_scaled_one_does(
    column: list[float], threshold: float, kind: type[Any]
) -> None:
    front = kind().fit(np.array(column, np.float64)[:, np.newaxis])
    sources = column_sources(front, 1)
    assert sources is not None
    (raw,) = raw_thresholds(front, sources, 1, np.array([0]), np.array([threshold], np.float32))
    near = [raw]
    for way in (np.float32(-np.inf), np.float32(np.inf)):
        value = raw
        for _ in range(3):
            value = np.nextafter(value, way)
            near.append(value)
    values = np.array([*near, *column], np.float32)[:, np.newaxis]
    scaled = front.transform(values)[:, 0]
    np.testing.assert_array_equal(scaled <= np.float32(threshold), values[:, 0] <= raw)


@pytest.mark.parametrize("loss", ["poisson", "gamma"])
def test_a_loss_that_skl2onnx_gets_wrong_is_refused(loss: str) -> None:
    values, targets = data("diabetes")
    model = HistGradientBoostingRegressor(max_iter=2, loss=loss).fit(values, targets)
    with pytest.raises(
        RouteError, match="skl2onnx leaves out the exponential of HistGradientBoostingRegressor"
    ):
        exported(model, OPSET)


def test_what_is_missing_may_be_marked_by_a_whole_number() -> None:
    values, targets = data("wine")
    holes = values.copy()
    holes[::5, 3] = -1
    model = make_pipeline(SimpleImputer(missing_values=-1), StandardScaler(), GaussianNB()).fit(
        holes, targets
    )
    (got,) = answers(plain(exported(model, OPSET)), {"columns": holes})
    assert _difference(got, estimator_answers(model, holes)) < AGREEMENT


def test_what_mixes_columns_is_not_taken_into_thresholds() -> None:
    values, _ = data("wine")
    assert column_sources(make_pipeline(StandardScaler(), PCA(3)).fit(values), values.shape[1]) is None


@pytest.fixture(scope="session")
def elsewhere(session: Path) -> Path:
    """Every model in plain operators, and what Core ML and TFLite make of it."""
    with made_once(session, "sklearn-elsewhere") as (folder, there):
        if not there:
            for script in ("coreml_answers", "tflite_answers"):
                part = folder / script
                part.mkdir(parents=True)
                for name in ELSEWHERE:
                    onnx.save(plain(_exported(name)), part / f"{name}.onnx")
                    rows = columns_of(name)[: ROWS if script == "coreml_answers" else 1]
                    np.savez(part / f"{name}.inputs.npz", columns=rows)
                command = [sys.executable, "-m", f"tests.converter.{script}", str(part)]
                environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
                subprocess.run(command, check=True, capture_output=True, env=environment, cwd=REPOSITORY)
    return folder


@pytest.mark.parametrize("script", ["coreml_answers", "tflite_answers"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_runtimes_answer_as_scikit_learn(elsewhere: Path, script: str, name: str) -> None:
    part = elsewhere / script
    assert not (part / f"{name}.refusal.txt").exists()
    with np.load(part / f"{name}.inputs.npz") as archive:
        expected = estimator_answers(fitted(name), archive["columns"])
    with np.load(part / f"{name}.outputs.npz") as archive:
        (got,) = (archive[key] for key in archive.files)
    assert _difference(got, expected) < 2 * AGREEMENT


def test_a_forest_is_converted_without_tensorflow_and_torch(
    ferry: Ferry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap_imports(tmp_path, monkeypatch, ("tensorflow", "keras", "tf2onnx", "torch"))
    variants = [("onnx", "fp32"), ("coreml", "fp16")]
    recipe = write_sklearn_case(tmp_path / "case", fitted("forest-by-columns"), "wine", variants=variants)
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 0, done.err
    release, _ = open_package(tmp_path / "package")
    assert release.source.framework == "sklearn"
    assert {variant.verification.status for variant in release.variants} == {VerificationStatus.PASSED}
    errors = {variant.id: variant.verification.max_abs_error for variant in release.variants}
    assert errors["onnx-fp32"] is not None
    assert errors["onnx-fp32"] < 1e-6
    assert errors["coreml-fp16"] is not None
    assert errors["coreml-fp16"] < 2e-3, "half floats round leaves, and no decision"
    assert "scikit-learn" in release.variant("onnx-fp32").verification.how


def test_a_regressor_is_judged_by_values_within_a_tolerance(ferry: Ferry, tmp_path: Path) -> None:
    goal = 'metric = "within"\ntolerance = 60.0'
    recipe = write_sklearn_case(tmp_path / "case", fitted("histograms-value"), "diabetes", goal=goal)
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 0, done.err
    quality = open_package(tmp_path / "package")[0].variant("onnx-fp32").metrics.quality
    assert quality is not None
    values, targets = data("diabetes")
    judged = slice(0, len(values) // 2 - 12)
    found = estimator_answers(fitted("histograms-value"), values[judged])[:, 0]
    assert quality.metric == "within"
    assert quality.value_ppm == pytest.approx(1e6 * (np.abs(found - targets[judged]) <= 60).mean(), abs=1)
