"""Train the MobileNet: digits on photographs, by inverted residuals too narrow to spare a channel.

  python -m models.mobilenet.train                   a good network, in about a minute of one core
  python -m models.mobilenet.train --epochs 6        a weak one, sooner

Writes the exported PyTorch program and the data sets its recipe names into --out. The scans and their
split are the digits model's; every epoch sees new photographs of the same training scans.

Convolutions decay, batch norms do not, as is usual. Channels that bring little fade until their variance
is next to nothing; their norms then multiply by much, and folding the norms into the weights leaves
neighbouring channels of one convolution with ranges far apart. That is what real MobileNets suffer from
in eight bits, and nothing was done to the weights to bring it about.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.digits.train import CLASSES, Labels, Split, split_scans
from models.mobilenet.network import MobileNet
from models.mobilenet.photographs import photograph

__all__ = ["SPLITS", "accuracy", "main", "photographs", "train", "write"]

_OUT = Path(__file__).resolve().parents[2] / "build" / "mobilenet-model"

SPLITS = ("evaluation", "calibration", "golden")
"""The sets written, with the scans that the digits model has in them."""

_SEEDS = {"evaluation": 7, "calibration": 8, "golden": 9}
_BATCH = 64
_RATE, _WARM_UP = 0.2, 0.2
_MOMENTUM = 0.9
_DECAY = 2e-3
_SMOOTHING = 0.05


def main() -> int:
    """Train, and write the model and its data sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=_OUT, help="folder to write (default build/mobilenet-model)"
    )
    parser.add_argument("--epochs", type=int, default=60, help="passes over the data (default %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of initial weights, order and photographs (default %(default)s)"
    )
    arguments = parser.parse_args()
    # So small a network is quicker on one thread, several times so beside others, and repeats itself.
    torch.set_num_threads(1)
    scans = split_scans()
    model = train(scans["train"], arguments.epochs, arguments.seed)
    sets = {name: photographs(name, scans[name]) for name in SPLITS}
    write(arguments.out, model, sets)
    right, n = accuracy(model, sets["evaluation"]), len(sets["evaluation"][1])
    print(f"{arguments.out}: mobilenet.pt2, accuracy {right:.4f} on {n} evaluation photographs")
    return 0


def photographs(name: str, split: Split) -> Split:
    """One photograph of each scan of a set, UINT8 [n, height, width, 3], always the same."""
    scans, labels = split
    return photograph(scans, np.random.default_rng(_SEEDS[name])), labels


def train(split: Split, epochs: int, seed: int) -> MobileNet:
    """A trained network; the same arguments give the same weights on the same machine."""
    scans, labels = split
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = MobileNet(CLASSES)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # typed without it
    each = len(labels) // _BATCH
    optimiser = _optimiser(model)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, _RATE, total_steps=epochs * each, pct_start=_WARM_UP
    )
    model.train()
    for _ in range(epochs):
        seen = _channels_first(photograph(scans, generator)).contiguous(memory_format=torch.channels_last)
        order = generator.permutation(len(labels))[: each * _BATCH].reshape(each, _BATCH)
        for rows in order:
            logits = model.logits(seen[rows])
            loss = functional.cross_entropy(logits, _classes(labels[rows]), label_smoothing=_SMOOTHING)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return model.eval()


def accuracy(model: MobileNet, split: Split) -> float:
    """The share of photographs it reads right."""
    images, labels = split
    with torch.no_grad():
        return float((model.logits(_channels_first(images)).argmax(1) == _classes(labels)).float().mean())


def write(out: Path, model: MobileNet, sets: Mapping[str, Split]) -> None:
    """Write the exported program, for any number of photographs, and the sets."""
    out.mkdir(parents=True, exist_ok=True)
    example = _channels_first(sets["golden"][0][:2])
    batch = {0: torch.export.Dim("batch", min=1)}
    torch.export.save(torch.export.export(model, (example,), dynamic_shapes=(batch,)), out / "mobilenet.pt2")
    for name, (images, labels) in sets.items():
        np.savez(out / f"{name}.npz", image=images, label=labels)


def _optimiser(model: nn.Module) -> torch.optim.Optimizer:
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": weights, "weight_decay": _DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=_RATE, momentum=_MOMENTUM, nesterov=True)


def _channels_first(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _classes(labels: Labels) -> torch.Tensor:
    return torch.from_numpy(labels.astype(np.int64))


if __name__ == "__main__":
    sys.exit(main())
