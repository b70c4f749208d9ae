"""Writes the page about ONNX's operators: `python -m tests.converter.onnx_operator_page FIGURES PAGE`.

FIGURES is what `benchmarks.onnx_operators` measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.passes.onnx_source import MAX_OPSET
from tests.converter.onnx_operator_cases import FOLDED, Report, operators_of_onnx

__all__ = ["page"]

_OURS = {"coreml": "Core ML", "tflite": "TFLite"}
_SHOWN = {
    "coreml": "Ferry → Core ML, reference evaluator of MIL",
    "tflite": "Ferry → TFLite, LiteRT",
    "torch": "the same importer's PyTorch module",
    "onnx2torch": "onnx2torch 1.5.15, PyTorch module",
    "onnx2tf": "onnx2tf 2.6.9 `flatbuffer_direct`, LiteRT",
}
_INTRODUCTION = """\
# ONNX operators for Core ML and TFLite

<!-- Written by `python -m tests.converter.onnx_operator_page FIGURES docs/onnx-operators.md`, from what
`python -m benchmarks.onnx_operators` measured. -->

How each operator of opsets 13 to {opset} fares, by onnx's own tests of operators. A number counts tests
whose mlpackage or TFLite file, saved and read again, gives the stated answers in FP32: the mlpackage in the
reference evaluator of MIL, which proves what the program means and not what Apple's compiler makes of it; the
TFLite file in LiteRT, as devices run it. No test here ran on Apple hardware.

Shapes are fixed. Tensors have at most five axes in Core ML, six in TFLite. Floats of 16 and 64 bits are
computed in the variant's precision, whole numbers in 32 bits. Whatever a test covers or not, a result of
another shape or kind than ONNX infers is refused."""
_COMPARISON = """
## Beside other importers

The same {tests} tests for everybody: every test of one operator, up to opset {opset}, about numbers devices
have. Windows, gates, sizes and scales are inside the model, the rest is fed, as the tests have it: also the
weights of Conv, Gemm and normalisations, which ours take and others may not.
*Wrong* counts models that were made and answer otherwise; of ours they are named below.
"""
_RULES = """
Others were run in environments of their own. onnx2torch imports torchvision for RoiAlign and
NonMaxSuppression, which does not load beside a CPU build of PyTorch; an empty module stood in for it. It
refuses operators whose version in the test's opset it does not list. onnx2tf was told to keep the inputs'
shapes, and ran without onnxsim, which has nothing to simplify in one operator; where its answer is right with
the channels put second, it counts as right."""


def page(figures: Mapping[str, Any]) -> str:
    """The page, from everybody's reports."""
    reports: Mapping[str, Report] = figures["reports"]
    ours = {name: reports[name] for name in _OURS}
    lines = [_INTRODUCTION.format(opset=MAX_OPSET)]
    groups = {name: report["groups"] for name, report in ours.items()}
    for group in groups["coreml"]:
        lines += [
            "",
            f"## {group}",
            "",
            "| operator | Core ML | TFLite | refused uses |",
            "|---|---|---|---|",
        ]
        names = sorted({*groups["coreml"][group], *groups["tflite"][group]})
        lines += [_row(name, group, ours) for name in names]
    lines += ["", "## Computed beforehand", ""]
    lines += [f"{', '.join(FOLDED)}: they follow from the fixed shapes; what is left of them is refused."]
    lines += _comparison(figures)
    for name, shown in _OURS.items():
        known = {operator for group in groups[name].values() for operator in group}
        refused = sorted(operators_of_onnx() - known - {*FOLDED})
        lines += ["", f"## Refused by name for {shown}", "", f"{', '.join(refused)}."]
    return "\n".join(lines) + "\n"


def _row(name: str, group: str, ours: Mapping[str, Report]) -> str:
    counts = [
        str(len(report["verified"].get(name, ())) or "not yet") if name in report["groups"][group] else "–"
        for report in ours.values()
    ]
    return f"| {name} | {' | '.join(counts)} | {'; '.join(_refused_uses(name, ours)).replace('|', '/')} |"


def _refused_uses(name: str, ours: Mapping[str, Report]) -> Iterator[str]:
    """What all refuse, and then what one does."""
    reasons = {target: set(report["refused"].get(name, ())) for target, report in ours.items()}
    shared = set.intersection(*reasons.values())
    yield from sorted(shared)
    for target, own in reasons.items():
        alone = sorted(own - shared - {"not in the table"})
        yield from (f"{_OURS[target]}: {reason:.100}" for reason in alone)


def _comparison(figures: Mapping[str, Any]) -> Iterator[str]:
    reports: Mapping[str, Report] = figures["reports"]
    yield _COMPARISON.format(tests=figures["tests"], opset=MAX_OPSET)
    yield "| importer | agree | wrong | refused |"
    yield "|---|---|---|---|"
    for name, report in reports.items():
        agree, wrong = _count(report, "verified"), _count(report, "wrong")
        yield f"| {_SHOWN[name]} | {agree} | {wrong} | {figures['tests'] - agree - wrong} |"
    yield _RULES
    ours = {test for tests in reports["tflite"]["verified"].values() for test in tests}
    for name in set(reports) & {"onnx2torch", "onnx2tf"}:
        ahead = _ahead(reports[name], ours)
        if ahead:
            yield f"\nTests that {name} passes and our TFLite files do not: {ahead}."
    lines = [line for target in _OURS for found in reports[target]["wrong"].values() for line in found]
    yield f"\nOur models that answer otherwise: {'; '.join(lines) or 'none'}."


def _count(report: Report, key: str) -> int:
    return sum(map(len, report[key].values()))


def _ahead(report: Report, ours: set[str]) -> str:
    found = {
        operator: sum(test not in ours for test in tests) for operator, tests in report["verified"].items()
    }
    return ", ".join(f"{operator} {count}" for operator, count in sorted(found.items()) if count)


def main(figures: Path, out: Path) -> None:
    out.write_text(page(json.loads(figures.read_text())))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
