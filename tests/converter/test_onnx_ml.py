"""Operators of `ai.onnx.ml`, written out, answer as ONNX Runtime's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from converter.errors import OperatorRefusedError
from converter.onnx_ml.rewriting import DOMAIN, plain
from edge_runtime.package import open_package
from tests.converter.conftest import Ferry
from tests.converter.onnx_models import answers
from tests.converter.recipes import write_tiny
from tests.converter.sklearn_models import data

CHANCE = np.random.default_rng(3)
VALUES = CHANCE.normal(0, 1, (40, 5)).astype(np.float32)
VALUES[3], VALUES[5, 2] = 0, -999
WHOLE = CHANCE.integers(0, 4, (40, 5))
_TREE = {
    "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1],
    "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
    "nodes_featureids": [0, 0, 3, 0, 0, 2, 0, 0],
    "nodes_truenodeids": [1, 0, 3, 0, 0, 2, 0, 0],
    "nodes_falsenodeids": [2, 0, 4, 0, 0, 1, 0, 0],
    "nodes_values": [float(VALUES[7, 0]), 0.0, float(VALUES[9, 3]), 0.0, 0.0, float(VALUES[11, 2]), 0.0, 0.0],
}
"""Its thresholds are values of the data, where it matters which way equality goes."""
_LEAVES = ([0, 0, 0, 1, 1], [1, 3, 4, 1, 2])


def _modes(first: str, second: str) -> list[str]:
    return [first, "LEAF", second, "LEAF", "LEAF", second, "LEAF", "LEAF"]


def _model(operator: str, *, outputs: Iterable[int], taken: Any = VALUES, **attributes: Any) -> Any:
    """One operator; `outputs` are the types of its outputs, of which the last is answered."""
    kind = helper.np_dtype_to_tensor_dtype(taken.dtype)
    names = [f"out{place}" for place, _ in enumerate(outputs)]
    node = helper.make_node(operator, ["x"], names, domain=DOMAIN, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", kind, ("n", taken.shape[1]))],
        [helper.make_tensor_value_info(names[-1], list(outputs)[-1], None)],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
_ROWS = CHANCE.normal(0, 1, (3, 5)).astype(np.float32)
CASES: dict[str, tuple[Any, Any]] = {
    "scaler": (
        _model("Scaler", outputs=[FLOAT], offset=[0.5, 1, 0, -1, 2], scale=[2.0, 1, 0.25, 3, -1]),
        VALUES,
    ),
    "scaler-of-one": (_model("Scaler", outputs=[FLOAT], offset=[0.5], scale=[3.0]), VALUES),
    "scaler-of-integers": (
        _model("Scaler", taken=WHOLE, outputs=[FLOAT], offset=[0.5], scale=[3.0]),
        WHOLE,
    ),
    "normalizer-L1": (_model("Normalizer", outputs=[FLOAT], norm="L1"), VALUES),
    "normalizer-L2": (_model("Normalizer", outputs=[FLOAT], norm="L2"), VALUES),
    "normalizer-MAX": (_model("Normalizer", outputs=[FLOAT], norm="MAX"), np.abs(VALUES)),
    "binarizer": (_model("Binarizer", outputs=[FLOAT], threshold=0.25), VALUES),
    "imputer": (
        _model(
            "Imputer", outputs=[FLOAT], imputed_value_floats=[1.0, 2, 3, 4, 5], replaced_value_float=-999.0
        ),
        VALUES,
    ),
    "one-hot": (_model("OneHotEncoder", taken=WHOLE, outputs=[FLOAT], cats_int64s=[0, 2, 3]), WHOLE),
    "labels": (
        _model(
            "LabelEncoder", taken=WHOLE, outputs=[FLOAT],
            keys_int64s=[0, 1, 2], values_floats=[0.5, -7.25, 3.0], default_float=9.0,
        ),
        WHOLE,
    ),
    **{
        f"classifier-{kind}": (
            _model(
                "LinearClassifier", outputs=[INT64, FLOAT], coefficients=_ROWS.ravel().tolist(),
                intercepts=[0.1, -0.2, 0.3], classlabels_ints=[4, 2, 9], post_transform=kind,
            ),
            VALUES,
        )
        for kind in ("NONE", "SOFTMAX", "LOGISTIC")
    },
    "classifier-of-one-row": (
        _model(
            "LinearClassifier", outputs=[INT64, FLOAT], coefficients=_ROWS[0].tolist(), intercepts=[0.1],
            classlabels_ints=[0, 1], post_transform="LOGISTIC",
        ),
        VALUES,
    ),
    "regressor": (
        _model(
            "LinearRegressor", outputs=[FLOAT], coefficients=_ROWS[:2].ravel().tolist(),
            intercepts=[1.0, 2.0], targets=2,
        ),
        VALUES,
    ),
    **{
        f"kernel-{kind}": (
            _model(
                "SVMRegressor", outputs=[FLOAT], kernel_type=kind, kernel_params=[0.3, 0.5, 2.0],
                support_vectors=_ROWS.ravel().tolist(), coefficients=[0.5, -1.0, 2.0], rho=[0.25],
                n_supports=3,
            ),
            np.where(VALUES == -999, 0, VALUES),
        )
        for kind in ("LINEAR", "RBF", "POLY", "SIGMOID")
    },
    **{
        f"trees-{first}-{second}": (
            _model(
                "TreeEnsembleRegressor", outputs=[FLOAT], **_TREE, nodes_modes=_modes(first, second),
                target_treeids=[*_LEAVES[0], 1, 1], target_nodeids=[*_LEAVES[1], 1, 2],
                target_ids=[0, 0, 0, 1, 1, 0, 0], target_weights=[0.5, 1.5, -2.0, 4.0, 8.0, 16.0, 0.0],
                n_targets=2, base_values=[0.1, 0.2],
            ),
            VALUES,
        )
        for first, second in (("BRANCH_LEQ", "BRANCH_LT"), ("BRANCH_GT", "BRANCH_GTE"))
    },
    **{
        f"trees-{kind}-of-one-class": (
            _model(
                "TreeEnsembleClassifier", outputs=[INT64, FLOAT], **_TREE,
                nodes_modes=_modes("BRANCH_LEQ", "BRANCH_LEQ"), class_treeids=_LEAVES[0],
                class_nodeids=_LEAVES[1], class_ids=[0] * 5, class_weights=weights,
                classlabels_int64s=[0, 1], post_transform=kind,
            ),
            VALUES,
        )
        for kind, weights in (("NONE", [0.1, 0.2, 0.3, 0.4, 0.5]), ("LOGISTIC", [0.5, 1.5, -2.0, 4.0, -8.0]))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_written_out_answers_as_the_runtimes_own(name: str) -> None:
    model, values = CASES[name]
    written = plain(model)
    assert {node.domain for node in written.graph.node} == {""}
    (expected,), (got,) = answers(model, {"x": values}), answers(written, {"x": values})
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=3e-6)


def test_the_class_is_answered_where_it_is_asked_for() -> None:
    model = CASES["classifier-SOFTMAX"][0]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("out0", INT64, None))
    (expected,), (got,) = answers(model, {"x": VALUES}), answers(plain(model), {"x": VALUES})
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("operator", "attributes", "says"),
    [
        ("SVMClassifier", {"kernel_type": "RBF"}, "op ai.onnx.ml.SVMClassifier (out0): no equal among"),
        ("Binarizer", {}, ""),
        ("Imputer", {"imputed_value_int64s": [1]}, "op ai.onnx.ml.Imputer (out0): it fills in whole numbers"),
        ("LabelEncoder", {"keys_strings": ["a"], "values_floats": [1.0]}, "it maps text, or from or to it"),
        (
            "TreeEnsembleRegressor",
            {**_TREE, "nodes_modes": _modes("BRANCH_EQ", "BRANCH_LEQ"), "n_targets": 1},
            "a node of mode BRANCH_EQ",
        ),
        (
            "TreeEnsembleRegressor",
            {**_TREE, "nodes_modes": _modes("BRANCH_LEQ", "BRANCH_LEQ"), "nodes_truenodeids": [0] * 8},
            "is the child of two",
        ),
        (
            "TreeEnsembleRegressor",
            {**_TREE, "nodes_modes": _modes("BRANCH_LEQ", "BRANCH_LEQ"), "nodes_values": [1.0]},
            "its nodes' attributes differ in length",
        ),
        (
            "TreeEnsembleRegressor",
            {
                **_TREE, "nodes_modes": _modes("BRANCH_LEQ", "BRANCH_LEQ"), "n_targets": 2,
                "target_treeids": [0, 1], "target_nodeids": [1, 1], "target_ids": [0, 1],
                "target_weights": [1.0, 2.0], "base_values": [0.5, 0.0],
            },
            "a base value of a score that a sample may end in no leaf of",
        ),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_refused_by_name(operator: str, attributes: dict[str, Any], says: str) -> None:
    model = _model(operator, outputs=[FLOAT], **attributes)
    if not says:
        assert plain(model)
        return
    with pytest.raises(OperatorRefusedError) as caught:
        plain(model)
    assert says in str(caught.value)


def test_a_model_that_ends_in_dictionaries_is_converted(ferry: Ferry, tmp_path: Path) -> None:
    """As skl2onnx writes classifiers unless told otherwise; the classes are texts in another order."""
    values, targets = data("wine")
    names = np.array(["red", "amber", "white"])
    model = LogisticRegression(max_iter=100).fit(values / 100, names[targets])
    (tmp_path / "case").mkdir()
    path = tmp_path / "case" / "model.onnx"
    path.write_bytes(to_onnx(model, values[:1], target_opset={"": 15, DOMAIN: 3}).SerializeToString())
    labels = model.predict_proba(values / 100).argmax(axis=1)
    recipe = write_tiny(
        tmp_path / "case", path, values / 100, labels, framework="onnx", shape=(-1, 13), classes=3
    )
    recipe.write_text(recipe.read_text().replace('name = "y"', 'name = "output_probability"'))
    done = ferry("convert", recipe, "-o", "package")
    assert done.code == 0, done.err
    (variant,) = open_package(tmp_path / "package")[0].variants
    assert variant.metrics.quality is not None
    assert variant.metrics.quality.value_ppm == 1_000_000
    assert variant.verification.max_abs_error is not None
    assert variant.verification.max_abs_error < 1e-6
