"""Whatever bytes arrive, a parser answers with a value or with the contract's own error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota_contract.documents import canonical_json
from ota_contract.errors import ContractError
from ota_contract.golden import dump_golden, parse_golden
from ota_contract.inference_protocol import dump_request, dump_response, parse_request, parse_response
from ota_contract.manifest import dump_release, parse_release
from ota_contract.policy import parse_policy, policy_to_json
from ota_contract.report import dump_batch, parse_batch
from tests.ota_contract.contract_strategies import (
    batches,
    infer_requests,
    infer_responses,
    json_values,
    policies,
    releases,
    vectors,
)

Parser = Callable[[bytes], Any]


def parse_policy_bytes(data: bytes) -> Any:
    try:
        custom = json.loads(data)
    except (ValueError, RecursionError):
        return None  # python-tuf's own business
    return parse_policy(custom)


DOCUMENTS: dict[str, tuple[Parser, st.SearchStrategy[bytes]]] = {
    "manifest": (parse_release, releases().map(dump_release)),
    "golden": (parse_golden, vectors().map(lambda vector: dump_golden((vector,)))),
    "reports": (parse_batch, batches().map(dump_batch)),
    "policy": (parse_policy_bytes, policies().map(policy_to_json).map(canonical_json)),
    "request": (parse_request, infer_requests().map(dump_request)),
    "response": (parse_response, infer_responses().map(dump_response)),
}

# Values that parsers trip over, put in the place of good ones.
POISON: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**63,
        10**400,
        -(10**400),
        1e308,
        0.5,
        "",
        "x" * 5000,
        "\ud800",
        "\0",
        "../../etc/passwd",
        "１",
        "ä",
        [],
        [[]],
        {},
        {"": ""},
        {"$gt": 1},
        [None],
        [{}],
        [1.5],
        [10**400],
    ]
)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_arbitrary_bytes_are_refused(kind: str) -> None:
    parse, _ = DOCUMENTS[kind]

    @given(st.binary(max_size=300) | json_values().map(canonical_json))
    def fuzz(data: bytes) -> None:
        with contextlib.suppress(ContractError):
            parse(data)

    fuzz()


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_with_flipped_bytes_is_read_or_refused(kind: str) -> None:
    parse, documents = DOCUMENTS[kind]

    @settings(max_examples=40)
    @given(documents, st.data())
    def fuzz(document: bytes, data: st.DataObject) -> None:
        mutated = bytearray(document)
        for _ in range(data.draw(st.integers(1, 3))):
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(mutated)) | st.just(len(mutated)))
        with contextlib.suppress(ContractError):
            parse(bytes(mutated[:cut]))

    fuzz()


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_with_one_wrong_value_is_read_or_refused(kind: str) -> None:
    parse, documents = DOCUMENTS[kind]

    @settings(max_examples=60)
    @given(documents, st.data())
    def fuzz(document: bytes, data: st.DataObject) -> None:
        value = json.loads(document)
        places = list(_places(value))
        container, key = data.draw(st.sampled_from(places))
        container[key] = data.draw(POISON)
        with contextlib.suppress(ContractError):
            parse(json.dumps(value).encode())

    fuzz()


def _places(value: Any) -> Any:
    """Every (container, key) below a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(items):
        yield value, key
        yield from _places(child)
