"""ONNX as exported → ONNX for devices: the recipe's signature and shapes, and nothing superfluous."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from converter.jobs import Job
from converter.passes.onnx_delivery import deliver
from converter.passes.onnx_source import open_onnx

__all__ = ["run"]


def run(job: Job) -> Mapping[str, Any]:
    """Write `model.onnx`; the facts describe it, and tell the source's digest."""
    recipe = job.recipe()
    source = open_onnx(job, recipe)
    before = len(source.model.graph.node)
    facts = deliver(job, recipe, source.model, source.matched)
    return {**facts, "source_sha256": source.sha256, "source_operators": before}
