"""Exports small PyTorch models as their users do: `python -m tests.converter.torch_models FOLDER`.

Each family as `<name>-any.pt2`, of any batch, some as `<name>-one.pt2`, of one sample, with samples and the
eager model's own answers beside it; images are of unequal sides. `odd/` holds what nobody should convert.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["FAMILIES", "main"]

CLASSES = 4
SAMPLES = 40
ONES = ("cnn", "lstm")
"""Exported for one sample, too."""


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.answer = nn.Linear(16, CLASSES)

    def forward(self, x: Any) -> Any:
        x = nn.functional.max_pool2d(self.second(torch.relu(self.norm(self.first(x)))), 2)
        return torch.softmax(self.answer(x.flatten(1)), -1)


class Inverted(nn.Module):
    """A block of MobileNetV2: expand, filter each channel alone, project."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 2 * width
        self.residual = stride == 1 and width == out
        self.layers = nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Any) -> Any:
        return x + self.layers(x) if self.residual else self.layers(x)


def mobile() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        Inverted(8, 8, 1),
        Inverted(8, 12, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(12, CLASSES),
        nn.Softmax(-1),
    )


class Transformer(nn.Module):
    """A vision transformer: patches, a class token, attention, LayerNorm, exact GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(8)
        self.answer = nn.Linear(8, CLASSES)

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        return torch.softmax(self.answer(self.norm(self.layers(x))[:, 0]), -1)


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], *, both: bool = False) -> None:
        super().__init__()
        self.layer = kind(5, 6, batch_first=True, bidirectional=both)
        self.answer = nn.Linear(12 if both else 6, CLASSES)

    def forward(self, x: Any) -> Any:
        return torch.softmax(self.answer(self.layer(x)[0][:, -1]), -1)


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(7, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Linear(16, CLASSES), nn.Softmax(-1)
    )


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cnn": (Convolution, (3, 8, 6)),
    "mobile": (mobile, (3, 8, 6)),
    "transformer": (Transformer, (3, 8, 6)),
    "lstm": (lambda: Recurrent(nn.LSTM), (4, 5)),
    "gru": (lambda: Recurrent(nn.GRU, both=True), (4, 5)),
    "mlp": (perceptron, (7,)),
}


def settled(model: nn.Module) -> nn.Module:
    """With statistics as training leaves them, in the mode that answers."""
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.get_buffer("running_mean").normal_(0, 0.3)
            part.get_buffer("running_var").uniform_(0.5, 2)
    return model.eval()


class Counting(nn.Module):
    """A model that changes while it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = perceptron()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Any) -> Any:
        self.get_buffer("count").add_(1)
        return self.inner(x) + self.count


def main(folder: Path) -> None:
    torch.manual_seed(5)
    (folder / "odd").mkdir(parents=True)
    batch = torch.export.Dim("batch", min=1, max=1024)
    for name, (make, shape) in FAMILIES.items():
        model = settled(make())
        samples = torch.randn(SAMPLES, *shape)
        export(model, folder / f"{name}-any.pt2", samples[:2], dynamic_shapes=({0: batch},))
        if name in ONES:
            export(model, folder / f"{name}-one.pt2", samples[:1])
        with torch.inference_mode():
            np.savez(folder / f"{name}.npz", samples=samples.numpy(), answers=model(samples).numpy())
    _export_odd(folder / "odd")


def export(model: nn.Module, path: Path, *example: torch.Tensor, **options: Any) -> None:
    torch.export.save(torch.export.export(model, example, **options), path)


def _export_odd(folder: Path) -> None:
    example = torch.randn(1, 7)
    broken = settled(perceptron())
    with torch.no_grad():
        broken[0].weight[2, 3] = torch.nan  # type: ignore[index]
    export(broken, folder / "nan.pt2", example)
    export(settled(Counting()), folder / "counting.pt2", example)
    export(perceptron().train(), folder / "training.pt2", torch.randn(4, 7))
    export(nn.Sequential(nn.Dropout(0.5), nn.Linear(7, CLASSES)), folder / "dropout.pt2", example)
    export(settled(perceptron()).bfloat16(), folder / "bfloat16.pt2", example.bfloat16())
    export(
        settled(perceptron()),
        folder / "many.pt2",
        torch.randn(4, 7),
        dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},),
    )
    torch.jit.save(torch.jit.script(settled(perceptron())), folder / "script.pt2")
    torch.save(perceptron().state_dict(), folder / "weights.pt2")
    torch.save(perceptron().state_dict(), folder / "old.pt2", _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
