"""The page about the reference evaluator names exactly the operations it knows, and those it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import coremltools  # noqa: F401 - fills the registry
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

from converter.coreml_reference.operations import CONTROL, GROUPS, OPERATIONS
from tests.packages import REPOSITORY

PAGE = (REPOSITORY / "docs" / "coreml-reference.md").read_text()
MIL = frozenset(SSAOpRegistry.core_ops) - {"_const_symbolic"}
"""Every operation that coremltools can write, of every version."""


def _rows() -> Iterator[tuple[str, set[str]]]:
    for group, cell in re.findall(r"^\| ([^|]+) \| (`[^|]+`) \|$", PAGE, re.MULTILINE):
        yield group, set(re.findall(r"`(\w+)`", cell))


def test_the_page_lists_every_operation_in_its_group() -> None:
    rows = dict(_rows())
    assert rows.pop("Control") == set(CONTROL)
    assert rows.pop("Not known") == MIL - {*OPERATIONS, *CONTROL}
    assert rows == {group: set(operations) for group, operations in GROUPS.items()}
    assert f"{len(MIL & {*OPERATIONS, *CONTROL})} of the {len(MIL)} operations" in PAGE


def test_no_operation_is_in_two_groups_or_of_our_own_making() -> None:
    assert sum(len(group) for group in GROUPS.values()) == len(OPERATIONS)
    assert set(OPERATIONS) <= MIL


def test_every_operation_is_named_in_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_coreml_reference_*.py"))
    assert [name for name in OPERATIONS if f'"{name}"' not in tests] == []
