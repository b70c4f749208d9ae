"""The program of a .pt2 file as JSON, rewritten so that loading it runs nothing.

`torch.export.load` trusts its JSON: it evaluates shape expressions and guards as Python, looks operators
up by getattr from `torch` on (`torch.os.system` is one, then), imports modules that tree
specifications name, and pastes names into source code it compiles. So every string here is of a closed
form, or the program is refused; what conversion does not need (guards, stack traces, where a node came
from) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["UnsafeProgramError", "cleaned_program"]

_WORDS = re.compile(r"[\w.:\-]{0,500}", re.ASCII)
_EQUATION = re.compile(r"[a-zA-Z.,\->\s]{0,500}", re.ASCII)  # of einsum; PyTorch quotes it in its code
_ATEN = re.compile(r"torch\.ops\.aten\.\w+\.\w+", re.ASCII)
_WRITES_FILES = ("save", "from_file")
"""Operators of ATen that open a file by name."""
_ASSERTIONS = "torch.ops.aten._assert_"
_SCALARS = frozenset(
    f"_operator.{name}"
    for name in ("getitem", "add", "sub", "mul", "floordiv", "truediv", "mod", "neg",
                 "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_")
) | frozenset(
    ("math.ceil", "math.floor", "math.trunc", "torch.sym_int", "torch.sym_float", "torch.sym_max",
     "torch.sym_min", "torch.sym_not", "torch.sym_sum", "torch.sym_ite")
)  # fmt: skip
_WRAPPERS = ("torch.ops.higher_order.wrap_with_set_grad_enabled", "torch.ops.higher_order.wrap_with_autocast")
"""What `torch.no_grad` and `torch.autocast` inside a model become."""
_DIALECTS = ("", "ATEN", "TRAINING")
_EXPRESSION = re.compile(r"(?:[A-Za-z_]\w*|\d+(?:\.\d+)?|[-+*/%(),<>=&|~]| )*", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SYMBOL = re.compile(r"[suz]f?\d{1,9}", re.ASCII)
_QUOTED_SYMBOL = re.compile(r"Symbol\('([suz]f?\d{1,9})'(?:, [a-z_]+=(?:True|False))*\)", re.ASCII)
_FUNCTIONS = frozenset(
    ("FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt",
     "CeilDiv", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt", "RoundToInt", "ToFloat",
     "Identity", "Add", "Mul", "Pow", "Max", "Min", "Eq", "Ne", "Integer", "Rational",
     "true", "false", "True", "False")
)  # fmt: skip
_MAX_EXPRESSION = 1000
_TREES = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
_TREE_CONTEXT = re.compile(r'null|\[(?:"[\w.\- ]{0,100}"(?:, )?)*\]', re.ASCII)
_TREE_DEPTH = 32
_ACCELERATORS = ("cuda", "mps", "xpu")
_UNSUPPORTED = {
    "as_custom_obj": "a script object",
    "as_operator": "an operator as an argument",
    "as_token": "an effect token",
}


class UnsafeProgramError(Exception):
    """Why a program is not loaded; translated by whoever knows which file it is of."""


def cleaned_program(value: object) -> dict[str, Any]:
    """A program with what is needed to convert it, all of closed forms, on the CPU.

    Args:
        value: The file's JSON, not verified.

    Raises:
        UnsafeProgramError: Something in it could run code, or is not known to be harmless.
    """
    program = _mapping(value, "the program")
    module = _mapping(program.get("graph_module"), "graph_module")
    dialects = [item for item in _sequence(program.get("verifiers"), "verifiers") if item not in _DIALECTS]
    if dialects:
        raise UnsafeProgramError(
            f"is of the dialect {str(dialects[0])[:40]!r}; export it by torch.export.export"
        )
    calls = _sequence(module.get("module_call_graph"), "module_call_graph")
    kept = {
        **program,
        "guards_code": [],  # Python source, which would be run
        "torch_version": "",
        "graph_module": {
            **module,
            "module_call_graph": calls[:1],  # the rest tells where modules were, for unflattening
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
    }
    return _mapping(_cleaned(kept, ""), "the program")


def _cleaned(value: object, key: str) -> object:
    """A copy, each part by the rule for its key."""
    if isinstance(value, Mapping):
        return _cleaned_mapping(value)
    if isinstance(value, list):
        return [_cleaned(item, key) for item in value]
    if isinstance(value, str):
        _RULES.get(key, _check_word)(value)
    return value


def _cleaned_mapping(value: Mapping[object, object]) -> dict[str, object]:
    copy: dict[str, object] = {}
    target = value.get("target")
    if isinstance(target, str):
        _check_target(target)
        value = {**value, "metadata": {}}
        if target.startswith(_ASSERTIONS):
            value = {**value, "inputs": _without_texts(value.get("inputs"))}
    if value.get("type") in _ACCELERATORS and "index" in value:
        value = {**value, "type": "cpu", "index": None}
    for name, item in value.items():
        if not isinstance(name, str):
            raise UnsafeProgramError("has a key that is no text")
        _check_word(name)
        if name in _UNSUPPORTED or (name == "custom_obj_values" and item):
            raise UnsafeProgramError(
                f"holds {_UNSUPPORTED.get(name, 'a script object')}, which could run code"
            )
        copy[name] = _cleaned(item, name)
    return copy


def _without_texts(arguments: object) -> object:
    """An assertion's arguments without its message, which is free text."""
    if not isinstance(arguments, list):
        return arguments
    return [
        {**item, "arg": {"as_string": ""}}
        if isinstance(item, Mapping) and isinstance(item.get("arg"), Mapping) and "as_string" in item["arg"]
        else item
        for item in arguments
    ]


def _check_target(target: str) -> None:
    """An operator, looked up from `torch` on, and called."""
    known = _ATEN.fullmatch(target) and target.split(".")[3] not in _WRITES_FILES
    if known or target in _SCALARS or target in _WRAPPERS:
        return
    shown = re.sub(r"[^\w.:#]", "?", target)[:80]
    raise UnsafeProgramError(
        f"calls {shown}, which is not one of PyTorch's own tensor operators; build the model of those"
    )


def _check_word(text: str) -> None:
    if not _WORDS.fullmatch(text):
        raise UnsafeProgramError(f"holds the text {text[:40]!r}, which is no name")


def _check_argument(text: str) -> None:
    if not _WORDS.fullmatch(text) and not _EQUATION.fullmatch(text):
        raise UnsafeProgramError(f"holds the text {text[:40]!r}, which is no name")


def _check_expression(text: str) -> None:
    """PyTorch gives it to sympy, which evaluates it as Python: lengths, arithmetic, and few functions."""
    bare = _QUOTED_SYMBOL.sub(r"\1", text[: _MAX_EXPRESSION + 1])
    known = all(_SYMBOL.fullmatch(name) or name in _FUNCTIONS for name in _NAME.findall(bare))
    if len(text) > _MAX_EXPRESSION or not _EXPRESSION.fullmatch(bare) or not known:
        raise UnsafeProgramError(f"has the length {text[:40]!r}, which is no arithmetic")


def _check_tree(text: str) -> None:
    """How arguments nest; other types than these would be imported by name."""
    try:
        version, root = json.loads(text)
        bad = next((item for item in _trees(root) if not _harmless(item)), None)
    except (ValueError, TypeError, RecursionError) as error:
        raise UnsafeProgramError("has a damaged tree of arguments") from error
    if version != 1 or bad is not None:
        kind = str(bad.get("type") if isinstance(bad, Mapping) else version)[:60]
        raise UnsafeProgramError(f"takes or returns a {kind!r}; use tensors, tuples, lists and dicts of them")


def _trees(root: object, depth: int = 0) -> Iterator[object]:
    yield root
    if isinstance(root, Mapping) and depth < _TREE_DEPTH:
        for child in root["children_spec"]:
            yield from _trees(child, depth + 1)
    elif depth >= _TREE_DEPTH:
        raise ValueError("too deep")


def _harmless(item: object) -> bool:
    if not isinstance(item, Mapping) or item.keys() != {"type", "context", "children_spec"}:
        return False
    if item["type"] is None:
        return item["context"] is None and not item["children_spec"]
    return item["type"] in _TREES and bool(_TREE_CONTEXT.fullmatch(str(item["context"])))


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnsafeProgramError(f"is damaged: {what} is missing")
    return value


def _sequence(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise UnsafeProgramError(f"is damaged: {what} is missing")
    return value


_RULES: dict[str, Callable[[str], None]] = {
    "as_string": _check_argument,
    "as_strings": _check_argument,
    "expr_str": _check_expression,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
}
