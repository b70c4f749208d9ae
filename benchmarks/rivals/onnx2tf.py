"""onnx2tf 2.6.9 with its `flatbuffer_direct` backend, run by LiteRT; see `answering`.

Inputs keep their shapes (`keep_shape_absolutely_input_names`): else it takes those of four axes for NCHW
images and transposes them. onnxsim, which it would start thrice for a model, has nothing to simplify in one
operator. The TFLite file is left as `<name>.tflite`.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where modules have the names of the rivals

import onnx
import onnx2tf  # type: ignore[import-not-found]
from ai_edge_litert.interpreter import Interpreter


def answers_of(path: Path, inputs: dict[str, Any]) -> list[Any]:
    """Outputs of the file it makes, in the model's order."""
    with tempfile.TemporaryDirectory() as folder:
        model = shutil.copy(path, folder)  # it leaves files beside the model
        onnx2tf.convert(
            input_onnx_file_path=model,
            output_folder_path=folder,
            tflite_backend="flatbuffer_direct",
            keep_shape_absolutely_input_names=list(inputs),
            copy_onnx_input_output_names_to_tflite=True,
            not_use_onnxsim=True,
            verbosity="error",
        )
        made = path.with_suffix(".tflite")
        shutil.copyfile(next(Path(folder).glob("*_float32.tflite")), made)
    interpreter = Interpreter(model_path=str(made))
    interpreter.allocate_tensors()
    for place, detail in enumerate(interpreter.get_input_details()):
        name = _meant(detail["name"], list(inputs), place)
        interpreter.set_tensor(detail["index"], inputs[name].astype(detail["dtype"]))
    interpreter.invoke()
    names = [item.name for item in onnx.load(path).graph.output]
    outputs = {
        _meant(detail["name"], names, place): interpreter.get_tensor(detail["index"])
        for place, detail in enumerate(interpreter.get_output_details())
    }
    return [outputs[name] for name in names]


def _meant(own: str, names: list[str], place: int) -> str:
    """The name of the ONNX model that a tensor of the file stands for."""
    bare = own.removeprefix("serving_default_").partition(":")[0]
    return bare if bare in names else names[place]


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))
    from answering import answer  # type: ignore[import-not-found]

    answer(answers_of)
