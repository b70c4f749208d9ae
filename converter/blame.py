"""Finds in a tool's error which operator or layer of the model is at fault.

Every tool says it in words of its own. What is found goes into the one line a person reads; where nothing
is found, nothing is said, and the log has the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["fault_in", "texts_of"]

_MOST_TEXT = 100_000
_NAME = r"[\w./:;%+\- ]{1,200}?"

_BOTH = tuple(
    re.compile(pattern)
    for pattern in (
        # ONNX Runtime: running a node, loading a model, missing kernels
        r"while running (?P<op>\w+) node\. Name:'(?P<layer>[^']{0,200})'",
        rf"Node:? ?\((?P<layer>{_NAME})\) Op ?\((?P<op>\w+)\)",
        r"implementation for (?P<op>\w+)\(\d+\) node with name '(?P<layer>[^']{0,200})'",
        r"In Node, \(\"(?P<layer>[^\"]{0,200})\", (?P<op>\w+), ",
        # onnx: shape inference and the checker
        rf"\(op_type: ?(?P<op>\w+), node name: (?P<layer>{_NAME})\)",
        rf"Bad node spec for node\. Name: (?P<layer>{_NAME}) OpType: (?P<op>\w+)",
        # coremltools
        r"[Oo]p \"(?P<layer>[^\"]{1,200})\" \(op_type: (?P<op>\w+)\)",
        # tf2onnx
        rf"Tensorflow op \[(?P<layer>{_NAME}): (?P<op>\w+)\] is not supported",
        # torch.export and torch.onnx, of a node of the exported program
        rf"%(?P<layer>\w+) : .{{0,400}}?call_function\[target=(?P<op>{_NAME})\]",
    )
)
_OP = tuple(
    re.compile(pattern)
    for pattern in (
        r"'(?P<op>(?:tf|tfl)\.\w+)' op ",  # MLIR: no such op, or a use of it the converter has no words for
        r"(?:No Op registered for|Fatal error:) (?P<op>[\w.:]+)(?: with domain_version| is not a registered)",
        r"[Cc]onver(?:t function|sion) for (?:TF |PyTorch )?op '(?P<op>[\w.:]+)' not implemented",
        r"No (?:ONNX function|decompositions?) found for <OpOverload\(op='(?P<op>[\w.:]+)'",
        r"op_type: ?(?P<op>\w+)",
        r"(?:calling|when calling) (?P<op>\w+)\.call\(\)",  # Keras
        r"\b(?P<op>aten[.:]+\w+(?:\.\w+)?)",
    )
)
_LAYER = tuple(
    re.compile(pattern)
    for pattern in (
        r"\{\{node (?P<layer>[^}]{1,200})\}\}",  # TensorFlow
        r"[Ll]ayer (?P<quote>['\"])(?P<layer>[^'\"]{1,200})(?P=quote)",  # Keras
        r"Detected at node '?(?P<layer>[\w./]{1,200})'? defined at",
        r"[Nn]ode name: (?P<layer>[\w./:-]{1,200})",
    )
)


def fault_in(text: str) -> str:
    """`op Conv, layer stem/conv` or a part of it, or an empty text."""
    text = text[:_MOST_TEXT]
    for pattern in _BOTH:
        if found := pattern.search(text):
            return _said(found["op"], found["layer"])
    return _said(_first(_OP, text, "op"), _first(_LAYER, text, "layer"))


def texts_of(error: BaseException) -> Iterator[str]:
    """What an error says, and what those say that caused it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield str(current)
        current = current.__cause__ or current.__context__


def _first(patterns: tuple[re.Pattern[str], ...], text: str, group: str) -> str:
    found = (pattern.search(text) for pattern in patterns)
    return next((match[group] for match in found if match), "")


def _said(op: str, layer: str) -> str:
    parts = [f"op {op.strip()}" if op.strip() else "", f"layer {layer.strip()}" if layer.strip() else ""]
    return ", ".join(part for part in parts if part)
