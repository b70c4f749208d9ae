"""What a Keras layer holds that is no variable is a constant of the ONNX graph, not an input of it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest


@pytest.mark.parametrize("columns", [3, 200])
def test_a_normalisations_mean_is_no_input(columns: int) -> None:
    """TensorFlow makes a constant of up to 128 values and a placeholder of more; both count as inputs."""
    import keras  # noqa: PLC0415 - seconds, and only here
    import tensorflow as tf  # noqa: PLC0415
    import tf2onnx  # noqa: PLC0415

    from converter.passes.keras_to_onnx import hold_constants  # noqa: PLC0415

    rows = np.random.default_rng(5).normal(3.0, 2.0, (50, columns)).astype(np.float32)
    table = keras.Input((columns,), name="table")
    normalise = keras.layers.Normalization(name="normalise")
    normalise.adapt(rows)
    source = keras.Model(table, keras.layers.Dense(2, name="scores")(normalise(table)))
    signature = [tf.TensorSpec((None, columns), tf.float32, name="table")]
    serve = tf.function(source, input_signature=signature)
    model, _ = tf2onnx.convert.from_function(serve, input_signature=signature, opset=15)
    assert len(model.graph.input) > 1  # else this tests nothing any more
    hold_constants(model, serve.get_concrete_function())
    assert [value.name for value in model.graph.input] == ["table"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"table": rows})
    np.testing.assert_allclose(answers, source.predict(rows, verbose=0), atol=1e-5)
