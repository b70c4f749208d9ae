"""Where a runtime of this host computes each operator of a variant, and what it did not fuse.

A model can be in integers from end to end on disk and still be computed in floats, operator by operator,
where the runtime knows no kernel for a pattern: that shows as latency and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ota_contract.manifest import Runtime

__all__ = ["placement"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_DELEGATE = "DELEGATE"


def placement(runtime: Runtime, model: Path, scratch: Path) -> Mapping[str, Any]:
    """Facts of a variant's operators on this host.

    Args:
        runtime: Of the variant.
        model: Its file.
        scratch: A file that may be written.
    """
    match runtime:
        case Runtime.ONNX:
            return _onnx(model, scratch)
        case Runtime.TFLITE:
            return _tflite(model)
        case Runtime.COREML:
            return {"known": False, "why": "only macOS tells where Core ML computes an operation"}


def _onnx(model: Path, scratch: Path) -> Mapping[str, Any]:
    """Nodes by execution provider as assigned, and what is left to dequantize once all is fused."""
    import onnx  # noqa: PLC0415 - each runtime's own library alone
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(scratch)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    providers = Counter[str]()
    asked = getattr(session, "get_provider_graph_assignment_info", list)  # older versions tell nothing
    for assigned in asked():
        providers[assigned.ep_name] += len(assigned.get_nodes())
    graph = onnx.load(scratch).graph
    kinds = Counter(node.op_type for node in graph.node)
    unpacked = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return {
        "known": True,
        "providers": dict(sorted(providers.items())),
        "operators": len(graph.node),
        "unfused": sum(
            node.op_type in _WEIGHTED and not unpacked.isdisjoint(node.input) for node in graph.node
        ),
        "quantize": kinds["QuantizeLinear"],
        "dequantize": kinds["DequantizeLinear"],
    }


def _tflite(model: Path) -> Mapping[str, Any]:
    """Operators that XNNPACK takes, in how many parts, and those left to LiteRT's own kernels."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    listed = interpreter._get_ops_details()  # noqa: SLF001 - no public way
    operators = [item for item in listed if item["op_name"] != _DELEGATE]
    parts = [item for item in listed if item["op_name"] == _DELEGATE]
    taken = set[int]()
    for part in parts:
        taken |= _covered(part, operators)
    left = Counter(item["op_name"] for item in operators if item["index"] not in taken)
    return {
        "known": True,
        "operators": len(operators),
        "xnnpack": len(taken),
        "xnnpack_parts": len(parts),
        "left": dict(sorted(left.items())),
    }


def _covered(part: Mapping[str, Any], operators: list[Mapping[str, Any]]) -> set[int]:
    """The operators a delegate's part stands for: all that lie between its outputs and its inputs."""
    makers = {int(made): item for item in operators for made in item["outputs"]}
    given = {int(index) for index in part["inputs"]}
    pending, found = [int(index) for index in part["outputs"]], set[int]()
    while pending:
        index = pending.pop()
        maker = makers.get(index)
        if maker is None or index in given or maker["index"] in found:
            continue
        found.add(maker["index"])
        pending.extend(int(item) for item in maker["inputs"])
    return found
