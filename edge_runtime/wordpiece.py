"""BERT's tokenizer: cleaning, splitting, and the greedy longest match of WordPiece, in plain Python.

It gives the numbers HuggingFace's `tokenizers` gives, with `BertNormalizer`, `BertPreTokenizer`, `WordPiece`
and BERT's special tokens; as there, a special token written in a text is that token.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from edge_runtime.characters import is_accent, is_ideograph, is_punctuation, is_removed, is_space
from edge_runtime.errors import InputError, PackageError
from edge_runtime.port import AnyArray
from ota_contract.preprocessing_steps import MAX_TEXT_BYTES, MAX_VOCABULARY_BYTES, Casing, WordPiece

__all__ = ["Tokenizer"]

_UNKNOWN, _FIRST, _LAST, _PADDING = "[UNK]", "[CLS]", "[SEP]", "[PAD]"
_SPECIAL = (_UNKNOWN, _FIRST, _LAST, _PADDING, "[MASK]")
_CONTINUED = "##"
_LONGEST_WORD = 100
_MAX_ENTRIES = 500_000
"""Four times BERT's for a hundred languages; short entries would else fill hundreds of megabytes."""


class Tokenizer:
    """One vocabulary, ready to number texts; safe to use from several threads."""

    def __init__(self, step: WordPiece, vocabulary: bytes) -> None:
        """Read a vocabulary: UTF-8, one entry a line, numbered from 0.

        Raises:
            PackageError: It is too long, no UTF-8, has an entry twice, or lacks one of BERT's own.
        """
        self._step = step
        self._ids = _read(vocabulary)
        special = [token for token in _SPECIAL if token in self._ids]
        self._special = re.compile("|".join(map(re.escape, special)))
        self._frame = tuple(self._ids[token] for token in (_UNKNOWN, _FIRST, _LAST, _PADDING))

    def numbers(self, texts: Sequence[bytes]) -> dict[str, AnyArray]:
        """The inputs of the step for a batch of texts, each of shape `[batch, length]`.

        Raises:
            InputError: A text is too long or no UTF-8.
        """
        step = self._step
        _, first, last, padding = self._frame
        ids = np.full((len(texts), step.length), padding, step.datatype.dtype)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            found = [first, *self._tokens(_decoded(text))[: step.length - 2], last]
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        made = {
            step.input_ids: ids,
            step.attention_mask: mask,
            step.token_type_ids: np.zeros_like(ids),
        }
        return {name: array for name, array in made.items() if name}

    def _tokens(self, text: str) -> list[int]:
        found: list[int] = []
        begin = 0
        for match in self._special.finditer(text):
            found += self._plain(text[begin : match.start()])
            found.append(self._ids[match[0]])
            begin = match.end()
        return found + self._plain(text[begin:])

    def _plain(self, text: str) -> list[int]:
        cleaned = _normalised(text, uncased=self._step.casing is Casing.UNCASED)
        return [number for word in _words(cleaned) for number in self._pieces(word)]

    def _pieces(self, word: str) -> list[int]:
        """The longest entry that begins the word, then the longest that goes on, or the unknown alone."""
        ids, pieces, begin = self._ids, [], 0
        if len(word) > _LONGEST_WORD:
            return [self._frame[0]]
        while begin < len(word):
            prefix = _CONTINUED if begin else ""
            for end in range(len(word), begin, -1):
                number = ids.get(prefix + word[begin:end])
                if number is not None:
                    break
            else:
                return [self._frame[0]]
            pieces.append(number)
            begin = end
        return pieces


def _read(vocabulary: bytes) -> dict[str, int]:
    if len(vocabulary) > MAX_VOCABULARY_BYTES:
        raise PackageError(f"vocabulary: {len(vocabulary)} bytes, at most {MAX_VOCABULARY_BYTES} are read")
    if vocabulary.count(b"\n") > _MAX_ENTRIES:
        raise PackageError(f"vocabulary: more than {_MAX_ENTRIES} entries")
    try:
        lines = vocabulary.decode().split("\n")
    except UnicodeDecodeError as error:
        raise PackageError(f"vocabulary: not UTF-8: {error}") from error
    entries = [line.rstrip() for line in (lines if lines[-1] else lines[:-1])]
    ids = {entry: number for number, entry in enumerate(entries)}
    if len(ids) != len(entries):
        raise PackageError(f"vocabulary: {len(entries) - len(ids)} entries appear twice")
    for token in (_UNKNOWN, _FIRST, _LAST, _PADDING):
        if token not in ids:
            raise PackageError(f"vocabulary: it has no {token}")
    return ids


def _decoded(text: bytes) -> str:
    if len(text) > MAX_TEXT_BYTES:
        raise InputError(f"a text of {len(text)} bytes; at most {MAX_TEXT_BYTES} are read")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"a text is not UTF-8: {error}") from error


def _normalised(text: str, *, uncased: bool) -> str:
    cleaned = "".join(map(_cleaned, text))
    if not uncased:
        return cleaned
    apart = unicodedata.normalize("NFD", cleaned)
    # Character by character: Python's own `lower` of a whole word ends it in ς.
    return "".join(map(_lowered, apart))


@functools.lru_cache(maxsize=8192)
def _cleaned(char: str) -> str:
    """What stays of a character: itself, a space, itself between spaces, or nothing."""
    if is_space(char):
        return " "
    if is_removed(char):
        return ""
    return f" {char} " if is_ideograph(char) else char


@functools.lru_cache(maxsize=8192)
def _lowered(char: str) -> str:
    return "" if is_accent(char) else char.lower()


def _words(text: str) -> Iterator[str]:
    """Words, and every punctuation mark by itself."""
    for word in text.split(" "):
        begin = 0
        for index, char in enumerate(word):
            if _stands_alone(char):
                if index > begin:
                    yield word[begin:index]
                yield char
                begin = index + 1
        if begin < len(word):
            yield word[begin:]


_stands_alone = functools.lru_cache(maxsize=8192)(is_punctuation)
