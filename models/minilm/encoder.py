"""The encoder: BERT as all-MiniLM-L6-v2 has it, from token ids to one unit vector a sentence.

Written out here, so that the exported graph holds what is needed and no more: no dropout, no cache, no
masks of other shapes, and mean pooling and normalisation inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Encoder", "Sizes", "encoder_from"]

_MASKED = -1e4
"""Added to scores of padding: exp of it is 0, and half floats can hold it."""
_LEAST_TOKENS = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes of a BERT encoder."""

    vocabulary: int
    positions: int
    types: int
    width: int
    heads: int
    layers: int
    inner: int
    epsilon: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Sizes:
        """From the names of a `config.json`."""
        return cls(
            vocabulary=config["vocab_size"],
            positions=config["max_position_embeddings"],
            types=config["type_vocab_size"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            layers=config["num_hidden_layers"],
            inner=config["intermediate_size"],
            epsilon=config["layer_norm_eps"],
        )


class Encoder(nn.Module):
    """Sentences to unit vectors.

    Takes INT32 or INT64 [n, length] thrice: ids, a mask of 1 for tokens and 0 for padding, and types.
    Gives FP32 [n, width], each of length 1.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = _Embeddings(sizes)
        self.layers = nn.ModuleList(_Layer(sizes) for _ in range(sizes.layers))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """The mean over the tokens that are no padding, scaled to length 1."""
        kept = attention_mask.to(torch.float32)
        bias = ((1.0 - kept) * _MASKED)[:, None, None, :]
        hidden: torch.Tensor = self.embeddings(input_ids, token_type_ids)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        weight = kept[:, :, None]
        mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=_LEAST_TOKENS)
        return functional.normalize(mean, dim=1)


class _Embeddings(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.width)
        self.token_type_embeddings = nn.Embedding(sizes.types, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)

    def forward(self, ids: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        # A slice of the table, not a look-up by constants: the length is fixed when the graph is made.
        positions = self.position_embeddings.weight[: ids.shape[1]]
        made: torch.Tensor = self.norm(
            self.word_embeddings(ids) + self.token_type_embeddings(types) + positions
        )
        return made


class _Layer(nn.Module):
    """Attention and a feed-forward network, each added to its input and normalised."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query = nn.Linear(sizes.width, sizes.width)
        self.key = nn.Linear(sizes.width, sizes.width)
        self.value = nn.Linear(sizes.width, sizes.width)
        self.attended = nn.Linear(sizes.width, sizes.width)
        self.attended_norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.inner = nn.Linear(sizes.width, sizes.inner)
        self.outer = nn.Linear(sizes.inner, sizes.width)
        self.outer_norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            self._split(projection(hidden)) for projection in (self.query, self.key, self.value)
        )
        scale = query.shape[-1] ** -0.5
        weights = torch.softmax(query @ key.transpose(2, 3) * scale + bias, dim=-1)
        attended = (weights @ value).transpose(1, 2).flatten(2)
        hidden = self.attended_norm(hidden + self.attended(attended))
        made: torch.Tensor = self.outer_norm(hidden + self.outer(functional.gelu(self.inner(hidden))))
        return made

    def _split(self, tensor: torch.Tensor) -> torch.Tensor:
        """[n, length, width] to [n, heads, length, width of a head]."""
        count, length, width = tensor.shape
        return tensor.reshape(count, length, self.heads, width // self.heads).transpose(1, 2)


_NAMES = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attended",
    "attention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "inner",
    "output.dense": "outer",
    "output.LayerNorm": "outer_norm",
}
"""Where a layer's weights are in a BERT checkpoint, and here."""


def encoder_from(sizes: Sizes, weights: Mapping[str, torch.Tensor]) -> Encoder:
    """An encoder with the weights of a BERT checkpoint.

    Raises:
        RuntimeError: A weight is missing or has another shape.
    """
    renamed = {}
    for name, tensor in weights.items():
        if name.startswith("embeddings.") and not name.endswith("position_ids"):
            renamed[name.replace("LayerNorm", "norm")] = tensor
        elif name.startswith("encoder.layer."):
            index, rest = name.removeprefix("encoder.layer.").split(".", 1)
            place, kind = rest.rsplit(".", 1)
            renamed[f"layers.{index}.{_NAMES[place]}.{kind}"] = tensor
    encoder = Encoder(sizes)
    encoder.load_state_dict(renamed)
    return encoder.eval()
