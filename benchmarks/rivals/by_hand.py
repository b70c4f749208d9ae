"""What a script without Ferry does with a Keras model: convert, quantize, run, count, with the tools alone.

    python -m benchmarks.rivals.by_hand SOURCE.keras DATA_FOLDER OUT_FOLDER

The script one writes from the tools' tutorials: TensorFlow's converter with and without a representative
dataset, tf2onnx, ONNX Runtime's static quantization at its defaults for QDQ. Every file answers the
evaluation samples one by one, the source all at once. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

_Arrays = dict[str, Any]


def main() -> int:
    """Convert by hand, and say what it took and gave."""
    source, data, out = (Path(text) for text in sys.argv[1:])
    begun = time.perf_counter()
    import keras  # noqa: PLC0415 - importing is part of the work
    import tensorflow as tf  # noqa: PLC0415

    model = keras.models.load_model(source, compile=False)
    evaluation, calibration = (dict(np.load(data / f"{name}.npz")) for name in ("evaluation", "calibration"))
    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8, name="image")

    @tf.function(input_signature=[spec])  # type: ignore[untyped-decorator] # no types
    def serve(image: Any) -> Any:  # noqa: ANN401
        return model(tf.cast(image, model.inputs[0].dtype), training=False)

    made = {
        "tflite-fp32": _tflite(tf, serve, None),
        "tflite-int8": _tflite(tf, serve, calibration["image"]),
        "onnx-fp32": _onnx(serve, spec, out),
        "onnx-int8": _onnx_int8(out, calibration["image"]),
    }
    pixels, labels = evaluation["image"], evaluation["label"]
    right: dict[str, float] = {"source": float((serve(pixels).numpy().argmax(1) == labels).mean())}
    for name, content in made.items():
        ask = _tflite_runner(content) if name.startswith("tflite") else _onnx_runner(content)
        answers = np.concatenate([ask(pixels[row : row + 1]) for row in range(len(pixels))])
        right[name] = float((answers.argmax(1) == labels).mean())
    figures = {
        "seconds": round(time.perf_counter() - begun, 2),
        "accuracy": {name: round(value, 4) for name, value in right.items()},
        "bytes": {name: len(content) for name, content in made.items()},
        "n": len(pixels),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def _tflite(tf: Any, serve: Any, calibration: Any) -> bytes:  # noqa: ANN401
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()])
    if calibration is not None:

        def samples() -> Iterator[list[Any]]:
            for row in range(len(calibration)):
                yield [calibration[row : row + 1]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
    content: bytes = converter.convert()
    return content


def _onnx(serve: Any, spec: Any, out: Path) -> bytes:  # noqa: ANN401
    import tf2onnx  # noqa: PLC0415

    tf2onnx.convert.from_function(
        serve, input_signature=[spec], opset=15, output_path=str(out / "model.onnx")
    )
    return (out / "model.onnx").read_bytes()


def _onnx_int8(out: Path, calibration: Any) -> bytes:  # noqa: ANN401
    from onnxruntime import quantization  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # no types
        def __init__(self) -> None:
            self._rows = iter(range(len(calibration)))

        def get_next(self) -> _Arrays | None:
            row = next(self._rows, None)
            return None if row is None else {"image": calibration[row : row + 1]}

    ready, quantized = out / "ready.onnx", out / "int8.onnx"
    quantization.shape_inference.quant_pre_process(str(out / "model.onnx"), str(ready))
    quantization.quantize_static(
        str(ready), str(quantized), Reader(), quant_format=quantization.QuantFormat.QDQ
    )
    return quantized.read_bytes()


def _tflite_runner(content: bytes) -> Callable[[Any], Any]:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def ask(image: Any) -> Any:  # noqa: ANN401
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    return ask


def _onnx_runner(content: bytes) -> Callable[[Any], Any]:
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


if __name__ == "__main__":
    sys.exit(main())
