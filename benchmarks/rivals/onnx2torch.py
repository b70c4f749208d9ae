"""onnx2torch 1.5.15, run by PyTorch; see `answering`.

It imports torchvision for two operators, RoiAlign and NonMaxSuppression, whose build on PyPI does not load
beside a CPU build of PyTorch. Where it is not installed, an empty module stands in, and those two fail.
"""

import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

sys.path.pop(0)  # this folder, where modules have the names of the rivals


def _without_torchvision() -> None:
    for name in ("torchvision", "torchvision.ops"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.roi_align = None  # type: ignore[attr-defined]
        sys.modules[name] = module


if importlib.util.find_spec("torchvision") is None:
    _without_torchvision()

import onnx  # noqa: E402
import torch  # noqa: E402
from onnx2torch import convert  # type: ignore[import-not-found]  # noqa: E402


def answers_of(path: Path, inputs: dict[str, Any]) -> list[Any]:
    """Outputs of the module it makes."""
    model = onnx.load(path)
    module = convert(model).eval()
    with torch.no_grad():
        made = module(*(torch.from_numpy(inputs[item.name].copy()) for item in model.graph.input))
    outputs = made if isinstance(made, (list, tuple)) else [made]
    return [output.numpy() for output in outputs]


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))
    from answering import answer  # type: ignore[import-not-found]

    answer(answers_of)
