"""Changes a good .pt2 file into one that leaves a trace when it is opened or used.

`python -m tests.converter.pt2_attacks FOLDER` opens each `<attack>.pt2` there as PyTorch's users do, so that
a test can see which attacks are real; it must not be called by anything that trusts its files.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["ATTACKS", "attacked", "members_of", "write_members"]

PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"
Members = dict[str, bytes]


class Touch:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def members_of(path: Path) -> Members:
    """The members of a .pt2 file, without the folder they are in."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a .pt2 file; returns its path."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return path


def attacked(members: Mapping[str, bytes], attack: str, trace: Path) -> Members:
    """A copy of a file's members that would touch `trace`."""
    changed = dict(members)
    ATTACKS[attack](changed, trace)
    return changed


def _code(trace: Path) -> str:
    return f"__import__('pathlib').Path('{trace}').touch()"


def _edited(members: Members, name: str, edit: Callable[[Any], None]) -> None:
    value = json.loads(members[name])
    edit(value)
    members[name] = json.dumps(value).encode()


def _pickled(trace: Path) -> bytes:
    """As `torch.load` opens it: the protocol before zip archives, whose first pickle is loaded first."""
    return pickle.dumps(Touch(trace), protocol=2)


def _samples(members: Members, trace: Path) -> None:
    members[SAMPLES] = _pickled(trace)


def _weight(members: Members, trace: Path) -> None:
    def edit(table: Any) -> None:
        next(iter(table["config"].values())).update(use_pickle=True, path_name="weight_900")

    _edited(members, WEIGHTS, edit)
    members["data/weights/weight_900"] = _pickled(trace)


def _constant(prefix: str) -> Callable[[Members, Path], None]:
    def change(members: Members, trace: Path) -> None:
        def edit(table: Any) -> None:
            entry = {"path_name": f"{prefix}0", "is_param": False, "use_pickle": True, "tensor_meta": None}
            table["config"]["constant"] = entry

        _edited(members, CONSTANTS, edit)
        members[f"data/constants/{prefix}0"] = _pickled(trace)

    return change


def _old_weights(members: Members, trace: Path) -> None:
    members["data/weights/model.pt"] = _pickled(trace)


def _expression(members: Members, trace: Path) -> None:
    text = members[PROGRAM].decode()
    before = text.index('"expr_str": "') + len('"expr_str": "')
    end = text.index('"', before)
    members[PROGRAM] = f"{text[:before]}({_code(trace)} or 3){text[end:]}".encode()


def _guard(members: Members, trace: Path) -> None:
    _edited(members, PROGRAM, lambda program: program.update(guards_code=[f"{_code(trace)} is None"]))


def _tree(members: Members, trace: Path) -> None:
    """A module beside the file is imported, which touches the trace beside it."""
    (trace.parent / "planted.py").write_text(
        f"from pathlib import Path\nPath({str(trace)!r}).touch()\nmade = dict\n"
    )
    context = {"default_factory_module": "planted", "default_factory_name": "made", "dict_context": "[]"}
    tree = [1, {"type": "collections.defaultdict", "context": context, "children_spec": []}]

    def edit(program: Any) -> None:
        program["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps(tree)

    _edited(members, PROGRAM, edit)


def _call(target: str, **text: str) -> Callable[[Members, Path], None]:
    def change(members: Members, trace: Path) -> None:
        def edit(program: Any) -> None:
            arguments = [
                {"name": name, "arg": {"as_string": value.format(trace=trace)}, "kind": 1}
                for name, value in text.items()
            ]
            node: dict[str, Any] = {
                "target": target,
                "inputs": arguments,
                "outputs": [],
                "metadata": {},
                "is_hop_single_tensor_return": None,
                "name": "extra",
            }
            program["verifiers"] = []
            program["graph_module"]["graph"]["nodes"].insert(0, node)

        _edited(members, PROGRAM, edit)

    return change


def _name(members: Members, trace: Path) -> None:
    """A name that ends the function PyTorch writes, and goes on."""
    text = members[PROGRAM].decode()
    members[PROGRAM] = text.replace('"softmax"', json.dumps(f"softmax = ({_code(trace)}); softmax")).encode()


ATTACKS: dict[str, Callable[[Members, Path], None]] = {
    "samples": _samples,
    "weight": _weight,
    "constant": _constant("tensor_"),
    "object": _constant("opaque_obj_"),
    "script": _constant("custom_obj_"),
    "old": _old_weights,
    "expression": _expression,
    "guard": _guard,
    "tree": _tree,
    "system": _call("torch.os.system", command="touch {trace}"),
    "library": _call("torch.ops.load_library", path="{trace}"),
    "save": _call("torch.ops.aten.save.default", item="text", filename="{trace}"),
    "file": _call("torch.ops.aten.from_file.default", filename="{trace}"),
    "name": _name,
}
"""By the place of the code in the file."""


def main(folder: Path) -> None:
    import torch  # noqa: PLC0415 - tests import this module, and have no need of PyTorch

    sys.path.insert(0, str(folder))
    for path in sorted(folder.glob("*.pt2")):
        with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
            torch.export.load(path).module()(torch.zeros(3, 7))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
