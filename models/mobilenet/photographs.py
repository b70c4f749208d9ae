"""Photographs of the scans: each digit on coloured paper, turned, lit from a side, more or less faint.

A photograph is 40 pixels high and 32 wide, so that a mix-up of the two shows. What varies in it is drawn
from the generator that is handed in, so equal generators give equal photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.digits.train import INK, Images

__all__ = ["HEIGHT", "WIDTH", "photograph"]

HEIGHT, WIDTH = 40, 32

_TURN = 0.26
"""Radians either way, 15 degrees."""
_SHEAR = 0.15
_ZOOM = (0.85, 1.15)
_SHIFT = 0.12
"""Of half the picture's side, either way."""
_PAPER = (0.45, 1.0)
_CONTRAST = (0.008, 0.9)
"""How much of the paper's light full ink takes: from faded pencil to felt pen, evenly on a log scale."""
_TINT = 0.25
"""How far a colour channel of ink may lie from the others."""
_SHADE = 0.35
"""What a shadow takes from the far side."""
_NOISE = (0.0, 0.001)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conditions:
    """What one photograph each was taken under; the first axis counts photographs."""

    affine: NDArray[np.float32]
    """[n, 2, 3], from the photograph's coordinates to the scan's."""
    paper: NDArray[np.float32]
    """[n, 3, 1, 1]"""
    ink: NDArray[np.float32]
    """[n, 3, 1, 1], the share of light it leaves"""
    light: NDArray[np.float32]
    """[n, 1, height, width]"""
    noise: NDArray[np.float32]
    """[n, 3, height, width]"""


def photograph(scans: Images, generator: np.random.Generator) -> NDArray[np.uint8]:
    """One photograph of each scan, UINT8 [n, height, width, 3].

    Args:
        scans: [n, 8, 8, 1], 0 is paper and `INK` is ink.
        generator: Decides everything that varies.
    """
    drawn = torch.from_numpy(scans.transpose(0, 3, 1, 2).astype(np.float32) / INK)
    taken = _conditions(len(scans), generator)
    size = [len(scans), 1, HEIGHT, WIDTH]
    grid = functional.affine_grid(torch.from_numpy(taken.affine), size, align_corners=False)
    strokes = functional.grid_sample(drawn, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    covered = strokes.clamp(0, 1).numpy()
    light = taken.paper * taken.light * (1 - covered * (1 - taken.ink)) + taken.noise
    pixels = np.rint(np.clip(light, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _conditions(count: int, generator: np.random.Generator) -> _Conditions:
    def between(low: float, high: float, *shape: int) -> NDArray[np.float32]:
        return generator.uniform(low, high, (count, *shape)).astype(np.float32)

    turn, shear = between(-_TURN, _TURN), between(-_SHEAR, _SHEAR)
    zoom, shift = between(*_ZOOM), between(-_SHIFT, _SHIFT, 2)
    upper = np.stack([np.cos(turn) / zoom, shear - np.sin(turn) / zoom, shift[:, 0]], axis=1)
    lower = np.stack([np.sin(turn) / zoom, np.cos(turn) / zoom, shift[:, 1]], axis=1)
    contrast = np.exp(between(*np.log(_CONTRAST), 1, 1, 1)) * between(1 - _TINT, 1, 3, 1, 1)
    sigma = between(*_NOISE, 1, 1, 1)
    return _Conditions(
        affine=np.stack([upper, lower], axis=1).astype(np.float32),
        paper=between(*_PAPER, 3, 1, 1),
        ink=1 - contrast,
        light=1 - _shadow(between(0, 2 * np.pi, 1, 1), between(0, _SHADE, 1, 1))[:, None],
        noise=sigma * generator.standard_normal((count, 3, HEIGHT, WIDTH), dtype=np.float32),
    )


def _shadow(direction: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of light missing, [n, height, width]: none on the near side, `depth` on the far one."""
    y = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[None, :, None]
    x = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, None, :]
    across = (np.cos(direction) * x + np.sin(direction) * y) / np.float32(np.sqrt(2))
    return np.asarray(depth * (across + 1) / 2, np.float32)
