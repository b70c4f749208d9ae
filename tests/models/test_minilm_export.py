"""The sentence encoder is BERT's, its graph takes any batch, and no sentence is in two sets."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from converter.passes.torch_source import max_batch
from models.minilm.encoder import Encoder, Sizes, encoder_from
from models.minilm.export import LENGTH, export_encoder, load_encoder, weights_folder, write_sentences
from models.minilm.sentences import SPLITS, sentences_of, split_sentences

SMALL = Sizes(vocabulary=101, positions=LENGTH, types=2, width=24, heads=3, layers=2, inner=48, epsilon=1e-12)

PACKAGES_HERE = ("sklearn",)
"""Reading all of scipy takes seconds, and shows nothing more."""


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return sentences_of(PACKAGES_HERE)


@pytest.fixture
def tokens() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three sentences of 5, 64 and 1 tokens."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, SMALL.vocabulary, (3, LENGTH), generator=generator)
    mask = (torch.arange(LENGTH) < torch.tensor([5, LENGTH, 1])[:, None]).to(torch.int64)
    return ids * mask, mask, torch.zeros_like(ids)


def test_the_encoder_is_berts(tokens: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    """Against an implementation that is not ours, with random weights under a checkpoint's names."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=SMALL.vocabulary,
        max_position_embeddings=SMALL.positions,
        hidden_size=SMALL.width,
        num_attention_heads=SMALL.heads,
        num_hidden_layers=SMALL.layers,
        intermediate_size=SMALL.inner,
    )
    torch.manual_seed(4)
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    ids, mask, types = tokens
    ours = encoder_from(Sizes.of(config.to_dict()), theirs.state_dict())
    with torch.no_grad():
        hidden = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        expected = torch.nn.functional.normalize(mean)
        torch.testing.assert_close(ours(*tokens), expected, atol=1e-6, rtol=0)


def test_a_checkpoint_that_lacks_a_weight_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Missing key"):
        encoder_from(SMALL, {})


def test_padding_does_not_speak(tokens: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    ids, mask, types = tokens
    encoder = Encoder(SMALL).eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(ids + (1 - mask), mask, types), encoder(ids, mask, types))


def test_the_exported_program_takes_any_batch(
    tmp_path: Path, tokens: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
) -> None:
    encoder = Encoder(SMALL).eval()
    export_encoder(encoder, tmp_path / "encoder.pt2")
    program = torch.export.load(tmp_path / "encoder.pt2")
    assert max_batch(program, "encoder.pt2") is None  # the converter refuses what takes no single sample
    module = program.module()
    with torch.no_grad():
        torch.testing.assert_close(module(*tokens), encoder(*tokens))
        torch.testing.assert_close(module(*(part[:1] for part in tokens)), encoder(*tokens)[:1])


def test_no_sentence_is_in_two_sets(sentences: list[str]) -> None:
    splits = split_sentences(sentences)
    assert {name: len(kept) for name, kept in splits.items()} == SPLITS
    for one, other in itertools.combinations(splits, 2):
        assert not set(splits[one]) & set(splits[other])


def test_a_sentence_more_moves_no_other(sentences: list[str]) -> None:
    """Another version of a package may take a set's last sentence, and carries none into another set."""
    before = split_sentences(sentences)
    after = split_sentences(sorted([*sentences, "Say something that no package says."], reverse=True))
    for one, other in itertools.permutations(SPLITS, 2):
        assert not set(before[one]) & set(after[other])


def test_sentences_are_prose_and_always_the_same(sentences: list[str]) -> None:
    assert sentences == sentences_of(PACKAGES_HERE)
    assert len(sentences) == len(set(sentences)) > sum(SPLITS.values())
    for sentence in sentences:
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert len(sentence.split()) >= 5


def test_too_few_sentences_are_refused(sentences: list[str]) -> None:
    with pytest.raises(ValueError, match="for the evaluation set, 200 are needed"):
        split_sentences(sentences[:20])


def test_sentences_are_written_as_plain_bytes(tmp_path: Path, sentences: list[str]) -> None:
    write_sentences(tmp_path / "set.npz", sentences[:3])
    with np.load(tmp_path / "set.npz", allow_pickle=False) as archive:
        assert [text.decode() for text in archive["text"].tolist()] == sentences[:3]


def test_the_real_weights_know_what_is_alike() -> None:
    """Where they are installed: `requirements/minilm.lock` is no part of the development environment."""
    try:
        folder = weights_folder()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    from tokenizers import Tokenizer  # noqa: PLC0415 - comes with what exports to TFLite

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    texts = ["A man rides a horse.", "Someone is riding a pony.", "The matrix has no inverse."]
    found = tokenizer.encode_batch(texts)
    ids, mask = (torch.tensor([getattr(item, part) for item in found]) for part in ("ids", "attention_mask"))
    with torch.no_grad():
        vectors = load_encoder(folder)(ids, mask, torch.zeros_like(ids))
    alike, apart = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    assert alike > 0.5
    assert apart < 0.2
