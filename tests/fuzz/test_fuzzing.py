"""Every target is fuzzed for a few seconds, each in a process of its own; longer runs are made by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ota_contract.errors import FormatError
from tests.fuzz.harness import BYTES, Harness
from tests.fuzz.seeds import dictionary, seeds
from tests.fuzz.targets import TARGETS, PromiseBrokenError, Target

ROOT = Path(__file__).parents[2]
SECONDS = 2


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_input_makes_a_parser_do_worse_than_refuse(target: str) -> None:
    """The fuzzer's seed is fixed; how far it comes in the time is the machine's."""
    command = [sys.executable, "-m", "tests.fuzz", target, f"--seconds={SECONDS}", "--seed=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found" in done.stdout


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_target_has_seeds_that_hold_and_words(target: str) -> None:
    harness = Harness(TARGETS[target], weigh_every=1)
    assert seeds(target)
    assert len(dictionary(target)) > 20
    for seed in seeds(target):
        harness.check(seed)


def fail(kind: type[BaseException]) -> Any:
    def run(_: bytes) -> None:
        raise kind("planted")

    return run


def eat(_: bytes) -> None:
    bytearray(2 * BYTES)


def dawdle(_: bytes) -> None:
    sum(range(2_000_000))


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (fail(ValueError), ValueError),
        (fail(RecursionError), RecursionError),
        (fail(MemoryError), MemoryError),
        (eat, PromiseBrokenError),
    ],
)
def test_the_harness_notices_what_must_not_be(
    run: Any, expected: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(expected):
        Harness(Target(run=run), weigh_every=1).check(b"\x01input")
    assert "01696e707574" in capsys.readouterr().err  # the input, to be tried again


def test_the_harness_notices_what_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.harness.SECONDS", 0.01)
    with pytest.raises(PromiseBrokenError, match="it took"):
        Harness(Target(run=dawdle)).check(b"")


def test_a_refusal_is_what_a_parser_is_for() -> None:
    Harness(Target(run=fail(FormatError)), weigh_every=1).check(b"")


def test_a_finding_ends_the_command_and_is_printed(tmp_path: Path) -> None:
    """End to end: a parser with a planted fault is found out, in a process as in any other run."""
    planted = tmp_path / "sitecustomize.py"
    planted.write_text(
        "import ota_contract.golden as golden\n"
        "genuine = golden.parse_golden\n"
        "def parse(data):\n"
        "    if b'null' in data: raise KeyError('planted')\n"
        "    return genuine(data)\n"
        "golden.parse_golden = parse\n"
    )
    command = [sys.executable, "-m", "tests.fuzz", "golden", "--seconds=20"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "FOUND KeyError: 'planted'" in done.stdout
    assert "as text: b'" in done.stdout
