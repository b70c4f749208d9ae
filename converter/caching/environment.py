"""What of this machine and its installation a pass's result depends on."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from converter.host import this_host

__all__ = ["distributions_of", "environment_of"]

_ALWAYS = ("numpy", "protobuf", "flatbuffers", "ml-dtypes", "pillow")
"""What tools compute and write files with, and data sets are prepared with, stated as required or not."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"\bextra\s*==")
_VARIABLES = (
    "CUDA_", "DNNL_", "KERAS_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_", "ORT_", "PYTORCH_", "TF_", "TFLITE_",
    "TORCH", "XLA_",
)  # fmt: skip
"""Beginnings of names of environment variables that frameworks obey."""


def environment_of(needs: Iterable[str], inherited: Mapping[str, str]) -> dict[str, Any]:
    """Versions of what a pass stands on, and the CPU it computes on.

    Args:
        needs: The distributions it uses; all they require counts, too.
        inherited: The environment variables its process gets.
    """
    return {
        "distributions": distributions_of(needs),
        "python": f"{sys.implementation.name} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        # Floats are summed in an order that vector units decide, and integer kernels saturate or not.
        "isa": this_host().isa,
        "variables": {name: inherited[name] for name in sorted(inherited) if name.startswith(_VARIABLES)},
    }


def distributions_of(needs: Iterable[str]) -> dict[str, str | None]:
    """Versions of distributions and of all they require, None where one is not installed."""
    found: dict[str, str | None] = {}
    pending = [*needs, *_ALWAYS]
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name in found:
            continue
        found[name], required = _installed(name)
        pending.extend(required)
    return dict(sorted(found.items()))


@cache
def _installed(name: str) -> tuple[str | None, tuple[str, ...]]:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None, ()
    # Markers other than extras are not evaluated: one name too many does no harm.
    stated = [line for line in distribution.requires or () if not _EXTRA.search(line)]
    names = (_NAME.match(line) for line in stated)
    return distribution.version, tuple(match[0] for match in names if match)
