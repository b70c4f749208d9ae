"""What tools say of an operator or layer is found in their own words."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from converter.blame import fault_in, texts_of

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])


def _model(operator: str, inputs: list[str], name: str, **attributes: object) -> onnx.ModelProto:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 2], np.zeros(8, np.float32))
    node = helper.make_node(operator, inputs, ["y"], name=name, **attributes)
    graph = helper.make_graph([node], "g", [X], [Y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (_model("MatMul", ["x", "w"], "head/dense"), "op MatMul, layer head/dense"),
        (_model("Wrong", ["x"], "stem/odd"), "op Wrong"),
        (_model("Concat", ["x"], "join"), "op Concat, layer join"),
    ],
    ids=["shapes", "unknown", "attribute"],
)
def test_onnxruntime_names_the_node(model: onnx.ModelProto, expected: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each is of a class of its own
        onnxruntime.InferenceSession(model.SerializeToString())
    assert fault_in(str(caught.value)).startswith(expected)


def test_onnx_names_the_node() -> None:
    with pytest.raises(onnx.shape_inference.InferenceError) as caught:
        onnx.shape_inference.infer_shapes(_model("MatMul", ["x", "w"], "head/dense"), strict_mode=True)
    assert fault_in(str(caught.value)) == "op MatMul, layer head/dense"
    with pytest.raises(onnx.checker.ValidationError) as refused:
        onnx.checker.check_model(_model("Wrong", ["x"], "stem/odd"))
    assert fault_in(str(refused.value)) == "op Wrong, layer stem/odd"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("error: 'tf.Erf' op is neither a custom op nor a flex op", "op tf.Erf"),
        ("Conversion for TF op 'Erfc' not implemented.\n", "op Erfc"),
        ("PyTorch convert function for op 'new_ones' not implemented.", "op new_ones"),
        ("Tensorflow op [model/gelu/Erfc: Erfc] is not supported", "op Erfc, layer model/gelu/Erfc"),
        (
            "No ONNX function found for <OpOverload(op='aten.bincount', overload='default')>. Failure",
            "op aten.bincount",
        ),
        (
            'Exception encountered when calling Conv2D.call().\n\nInput 0 of layer "stem" is incompatible',
            "op Conv2D, layer stem",
        ),
        ("While executing %conv2d : [num_users=1] = call_function[target=torch.ops.aten.conv2d.default](args",
         "op torch.ops.aten.conv2d.default, layer conv2d"),
        ("{{node model/dense/MatMul}} Matrix size-incompatible", "layer model/dense/MatMul"),
        ("no such file", ""),
    ],
)  # fmt: skip
def test_other_tools_words_are_known(text: str, expected: str) -> None:
    assert fault_in(text) == expected


def test_causes_are_looked_at_too() -> None:
    error, cause = ValueError("outer"), RuntimeError("inner")
    error.__cause__, cause.__context__ = cause, error
    assert list(texts_of(error)) == ["outer", "inner"]


@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    assert "\n" not in fault_in(text)
