"""The record that says which release runs can always be read again, whatever a release made it hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from device_sdk.records import MAX_STATE_BYTES, ModelState, Refusal, Slot, Update, dump_state, parse_state
from ota_contract.errors import ContractError, FormatError, InvalidNameError
from ota_contract.report import UpdateState

SLOT = Slot(
    version="999999999.999999999.999999999-" + ".".join(["a" * 32] * 5),
    counter=2**63 - 1,
    manifest_sha256="1" * 64,
    variant_id="v" * 64,
    rollout="😀" * 64,
)
REFUSAL = Refusal(
    version=SLOT.version, manifest_sha256="2" * 64, rollout="😀" * 64, revision=2**63 - 1, reason="crashed"
)
UPDATE = Update(
    version=SLOT.version,
    manifest_sha256="2" * 64,
    state=UpdateState.FAILED,
    reason="",
    at=datetime(2026, 1, 1, tzinfo=UTC),
    rollout="😀" * 64,
)


@pytest.mark.parametrize(
    "reason",
    ["two\nlines", "\x1b[2J", "half a \ud83d", "x" * 100_000, "😀" * 100_000, "\0" * 5000, '"\\' * 5000],
    ids=["lines", "escape", "surrogate", "long", "wide", "nul", "escaped"],
)
def test_the_longest_record_of_the_worst_reasons_can_be_read_again(reason: str) -> None:
    """A runtime's error of two lines, or a release none of whose many variants fits, once stopped a device:
    what it had written it could not read, so nothing ran and nothing was updated any more.
    """
    refusals = tuple(replace(REFUSAL, revision=number, reason=reason) for number in range(64))
    state = ModelState(
        live=SLOT,
        candidate=SLOT,
        previous=SLOT,
        update=replace(UPDATE, reason=reason, retry_at=UPDATE.at),
        refusals=refusals,
    )
    data = dump_state(state)
    assert len(data) <= MAX_STATE_BYTES
    again = parse_state(data)
    assert (again.live, again.previous) == (SLOT, SLOT)
    assert [refusal.revision for refusal in again.refusals] == list(range(32, 64))
    assert all(refusal.reason.isprintable() for refusal in again.refusals)
    assert dump_state(again) == data


def test_what_could_not_be_read_again_is_not_written() -> None:
    for slot in (replace(SLOT, variant_id="a\nb"), replace(SLOT, counter=2**63), replace(SLOT, version="1")):
        with pytest.raises(ContractError):
            dump_state(ModelState(live=slot))


@pytest.mark.parametrize("version", ["../../../else", "1.0.0/..", "/etc", "1.0.0\\x"])
def test_a_version_in_a_slot_cannot_lead_out_of_the_store(version: str) -> None:
    """It is part of a folder's name; disks lie, and so do backups that are played back."""
    data = dump_state(ModelState(live=replace(SLOT, version="1.0.0")))
    assert b'"1.0.0"' in data
    with pytest.raises((InvalidNameError, FormatError)):
        parse_state(data.replace(b'"1.0.0"', f'"{version}"'.encode()))
