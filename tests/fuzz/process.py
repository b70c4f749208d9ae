"""The fuzzing process: instruments the parsers, then gives itself to libFuzzer, which ends it.

`python -m tests.fuzz` starts it; it is not run by hand.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

_OURS = ["ota_contract", "device_sdk"]
_OF_RUNTIME = [f"edge_runtime.{name}" for name in ("arrays", "characters", "images", "wordpiece")]
with atheris.instrument_imports(include=_OURS + _OF_RUNTIME):
    from tests.fuzz.harness import Harness
    from tests.fuzz.mutation import mutate_json
    from tests.fuzz.seeds import dictionary, seeds
    from tests.fuzz.targets import TARGETS

_ADDRESS_SPACE_BYTES = 2 * 2**30
"""Of which the interpreter, numpy and the fuzzer map a good part before anything is run."""
_MAX_INPUT_BYTES = 64 * 1024
_HANG_S = 20
_BYTES_ALONE = 0.3
"""Share of mutations that know nothing of JSON."""


def main() -> None:
    """Fuzz; the process ends in here."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--findings", type=Path, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, seed in enumerate(seeds(arguments.target)):
        (arguments.corpus / f"seed-{number}").write_bytes(seed)
    tokens = dictionary(arguments.target)
    words = arguments.findings / "words"
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in tokens))
    options = {
        "max_total_time": arguments.seconds,
        "seed": arguments.seed,
        "max_len": _MAX_INPUT_BYTES,
        "timeout": _HANG_S,
        "rss_limit_mb": 0,  # RLIMIT_AS is the bound
        "dict": words,
        "artifact_prefix": f"{arguments.findings}/",
        "print_final_stats": 1,
        "use_value_profile": 1,
    }
    argv = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(arguments.corpus)]
    harness = Harness(TARGETS[arguments.target])
    mutate = _mutator([word for word in map(_text, tokens) if word]) if harness.target.is_json else None
    atheris.Setup(argv, harness.check, **({"custom_mutator": mutate} if mutate else {}))
    atheris.Fuzz()


def _mutator(words: list[str]) -> Callable[[bytes, int, int], bytes]:
    """Mutates bytes or, mostly, the value they spell."""

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311 - the fuzzer's own seed, so that a run can be repeated
        mutated = mutate_json(data, words, random) if random.random() > _BYTES_ALONE else None
        if mutated is None or len(mutated) > max_size:
            return bytes(atheris.Mutate(data, max_size))
        return mutated

    return mutate


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


def _text(token: bytes) -> str:
    try:
        value = json.loads(token)
    except ValueError:
        return ""
    return value if isinstance(value, str) else ""


if __name__ == "__main__":
    main()
