"""The tokenizer against HuggingFace's `tokenizers`, by every code point, by real texts and by any text."""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Reference
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from edge_runtime.errors import InputError, PackageError
from edge_runtime.preprocessing import prepare
from edge_runtime.wordpiece import _normalised, _words
from ota_contract.preprocessing import InputSpec
from ota_contract.preprocessing_steps import MAX_TEXT_BYTES, MAX_VOCABULARY_BYTES, Casing, WordPiece
from ota_contract.tensors import Datatype

DOCS = Path(__file__).parents[2] / "docs"
LENGTH = 48
CASINGS = list(Casing)
TEXTS = (
    "",
    " \t\r\n ",
    "Hello, World! Don't panic: it's 3.14159 (approximately).",
    "Übergrößenträger, naïve café, ŒUVRE, Ångström, İstanbul, ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ",
    "東京都は日本の首都です。 北京欢迎你！ 서울특별시 中english混合",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "مرحبا بالعالم — שָׁלוֹם עוֹלָם — नमस्ते दुनिया — สวัสดีชาวโลก",
    "a\u0000b\ufffdc\u200bd\u00ade\u0085f\u2028g\u3000h\u00a0i\u000bj",
    "emoji 👩\u200d👩\u200d👧 🇩🇪 ☃️ ½ ² ﬁ Ⅷ ™ $€£¥ ^`~|<=>+",
    "[CLS] special [SEP] tokens [MASK] in [PAD] text [UNK] [sep] [CLSx [ SEP]",
    "x" * 100 + " " + "x" * 101 + " " + "é" * 101,
    "unknown\U0001f600glued e\u0301\u0301 \u0301 leading mark",
)


@pytest.fixture(scope="module")
def vocabulary() -> bytes:
    """Trained on the project's own pages and the texts above, so that words are split in earnest."""
    trainer = BertWordPieceTokenizer(lowercase=False, strip_accents=False)
    pages = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
    texts = iter([*pages, *TEXTS, *map(str.lower, pages)])
    trainer.train_from_iterator(texts, vocab_size=3_000, show_progress=False)
    entries = sorted(trainer.get_vocab().items(), key=lambda item: int(item[1]))
    return "".join(f"{token}\n" for token, _ in entries).encode()


@pytest.fixture(scope="module")
def references(vocabulary: bytes) -> dict[Casing, Any]:
    ids = {token: number for number, token in enumerate(vocabulary.decode().split("\n")[:-1])}
    found = {}
    for casing in Casing:
        reference = BertWordPieceTokenizer(vocab=ids, lowercase=casing is Casing.UNCASED)
        reference.enable_truncation(LENGTH)
        reference.enable_padding(length=LENGTH, pad_id=ids["[PAD]"])
        found[casing] = reference
    return found


def spec(vocabulary: bytes, casing: Casing = Casing.UNCASED, **changes: Any) -> InputSpec:
    values: dict[str, Any] = {
        "vocabulary": hashlib.sha256(vocabulary).hexdigest(),
        "casing": casing,
        "length": LENGTH,
        "input_ids": "ids",
        "attention_mask": "mask",
        "token_type_ids": "types",
    }
    step = WordPiece(**{**values, **changes})
    return InputSpec(input="text", raw_datatype=Datatype.BYTES, raw_shape=(-1,), steps=(step,))


def numbers(vocabulary: bytes, texts: Any, casing: Casing = Casing.UNCASED, **changes: Any) -> dict[str, Any]:
    made = spec(vocabulary, casing, **changes)
    return prepare([made], {"text": texts}, {made.steps[0].vocabulary: vocabulary})  # type: ignore[attr-defined]


def same(vocabulary: bytes, reference: Reference, texts: list[str], casing: Casing) -> None:
    got = numbers(vocabulary, texts, casing)
    for row, found in enumerate(reference.encode_batch(texts)):
        assert got["ids"][row].tolist() == found.ids, texts[row]
        assert got["mask"][row].tolist() == found.attention_mask, texts[row]
        assert got["types"][row].tolist() == found.type_ids, texts[row]


@pytest.mark.parametrize("casing", CASINGS)
def test_real_texts_have_the_librarys_numbers(
    vocabulary: bytes, references: dict[Casing, Any], casing: Casing
) -> None:
    lines = [line for path in sorted(DOCS.glob("*.md")) for line in path.read_text().splitlines()]
    assert len(lines) > 1_000
    same(vocabulary, references[casing], [*TEXTS, *lines], casing)


def _texts() -> st.SearchStrategy[str]:
    """Any letters this Python knows, and those that are treated apart often."""
    known = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\U00011938")
    often = st.sampled_from([*"aAéÉßİΣ  \t-'.,[]中國ー\u0301\u200d\u00ad#", "[SEP]", "[MASK]", "##ing"])
    return st.lists(known | often, max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(_texts(), st.sampled_from(CASINGS))
def test_any_text_has_the_librarys_numbers(
    vocabulary: bytes, references: dict[Casing, Any], text: str, casing: Casing
) -> None:
    same(vocabulary, references[casing], [text], casing)


def _chunks() -> Iterator[str]:
    """Planes 0 to 2 and the tags; of the rest, a few ideographs and private use, every 17th."""
    points = [number for number in range(0x30000) if not 0xD800 <= number < 0xE000]
    points += [*range(0x30000, sys.maxunicode + 1, 17), *range(0xE0000, 0xE0200), sys.maxunicode]
    for begin in range(0, len(points), 4096):
        yield "".join(map(chr, points[begin : begin + 4096]))


@pytest.mark.parametrize("casing", CASINGS)
def test_every_code_point_is_cleaned_as_the_library_does(casing: Casing) -> None:
    """Except letters younger than this Python's Unicode, and one vowel sign of 2020 that it takes apart."""
    reference = BertNormalizer(lowercase=casing is Casing.UNCASED)

    def differs(text: str) -> bool:
        return reference.normalize_str(text) != _normalised(text, uncased=casing is Casing.UNCASED)

    different = [
        char
        for chunk in _chunks()
        if differs("".join(f"a{char}b " for char in chunk))
        for char in chunk
        if differs(f"a{char}b")
    ]
    assert {char for char in different if unicodedata.category(char) != "Cn"} <= {"\U00011938"}
    assert len(different) < 100


def test_every_code_point_is_set_apart_as_the_library_does() -> None:
    reference, cleaner = BertPreTokenizer(), BertNormalizer(lowercase=False)
    for chunk in _chunks():
        text = cleaner.normalize_str("".join(f"a{char}b " for char in chunk))
        assert [word for word, _ in reference.pre_tokenize_str(text)] == list(_words(text))


def test_only_the_inputs_asked_for_are_made_in_the_type_asked_for(vocabulary: bytes) -> None:
    got = numbers(
        vocabulary, "hello", attention_mask="", token_type_ids="", datatype=Datatype.INT32, length=5
    )
    assert list(got) == ["ids"]
    assert (got["ids"].dtype, got["ids"].shape) == (np.int32, (1, 5))


def test_bytes_text_and_lists_of_them_are_one(vocabulary: bytes) -> None:
    one = numbers(vocabulary, "naïve")["ids"]
    for raw in (b"na\xc3\xafve", ["naïve"], np.array(["naïve"]), np.array(["naïve".encode()], object)):
        np.testing.assert_array_equal(numbers(vocabulary, raw)["ids"], one)
    assert numbers(vocabulary, [])["ids"].shape == (0, LENGTH)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"\xff", "a text is not UTF-8"),
        ("\ud800", "a text cannot be written as UTF-8"),
        ("a" * (MAX_TEXT_BYTES + 1), "a text of 1048577 bytes; at most 1048576"),
        (7, "expected bytes or text, got int"),
        (np.zeros(2), "expected bytes or text, got ndarray"),
        ([b"a", None], "expected bytes or text, got NoneType"),
    ],
)
def test_what_is_no_text_within_bounds_is_refused(vocabulary: bytes, text: Any, why: str) -> None:
    with pytest.raises(InputError, match=f"raw input text: {why}"):
        numbers(vocabulary, text)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", r"it has no \[UNK\]"),
        (b"[UNK]\n[CLS]\n[SEP]\n", r"it has no \[PAD\]"),
        (b"[UNK]\n[CLS]\n[SEP]\n[PAD]\na\na\n", "1 entries appear twice"),
        (b"\xff", "not UTF-8"),
        (b"a\n" * 500_001, "more than 500000 entries"),
        (bytes(MAX_VOCABULARY_BYTES + 1), "8388609 bytes, at most 8388608"),
    ],
)
def test_what_is_no_vocabulary_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(PackageError, match=f"vocabulary: {why}"):
        numbers(content, "a")


def test_a_missing_vocabulary_is_named(vocabulary: bytes) -> None:
    made = spec(vocabulary)
    with pytest.raises(PackageError, match=f"vocabulary {hashlib.sha256(vocabulary).hexdigest()} is missing"):
        prepare([made], {"text": "a"})
