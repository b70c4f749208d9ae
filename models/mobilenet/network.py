"""The network: MobileNetV2's inverted residuals, a hundredth of its size."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["MobileNet"]

_STEM, _HEAD = 8, 32
_EXPANSION = 6
_BLOCKS = ((6, 1), (8, 2), (8, 1), (12, 2), (12, 1))
"""Channels and stride of each inverted residual."""


class MobileNet(nn.Module):
    """Photographs to scores.

    Takes UINT8 [n, 3, height, width], normalises by itself, and gives FP32 probabilities [n, classes].
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, _STEM, 3, stride=2)]
        channels = _STEM
        for wanted, stride in _BLOCKS:
            layers.append(_InvertedResidual(channels, wanted, stride))
            channels = wanted
        self.features = nn.Sequential(*layers, _convolution(channels, _HEAD, 1))
        self.classifier = nn.Linear(_HEAD, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Probabilities of the classes."""
        return torch.softmax(self.logits(image), dim=1)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """What training sees."""
        features = self.features(image.to(torch.float32) / 127.5 - 1.0)
        logits: torch.Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


class _InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project without an activation; add the input where it fits."""

    def __init__(self, channels: int, wanted: int, stride: int) -> None:
        super().__init__()
        inner = channels * _EXPANSION
        self.residual = stride == 1 and channels == wanted
        self.layers = nn.Sequential(
            _convolution(channels, inner, 1),
            _convolution(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, wanted, 1, bias=False),
            nn.BatchNorm2d(wanted),
        )

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layers(tensor)
        return tensor + made if self.residual else made


def _convolution(channels: int, wanted: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, wanted, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(wanted),
        nn.ReLU6(),
    )
