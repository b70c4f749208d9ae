"""The routes from a source model to variants, as data: nodes, and the passes between them.

A new tool is a new `Pass` here and a module in `converter.passes`, or a plug-in (`converter.plug_ins`);
nothing else knows how variants come about. `docs/adr` records why a pass was chosen over another; the reason
in one line is with it.
"""

from __future__ import annotations

import importlib.metadata
from collections import deque
from collections.abc import Iterable

from converter.errors import RouteError
from converter.nodes import Format, Node, Pass
from converter.plug_ins import plug_in_passes
from converter.precision_passes import precision_passes
from converter.recipe import Framework
from converter.variants import Precision, Target

__all__ = [
    "KERAS",
    "ONNX_SOURCE",
    "PASSES",
    "SAVEDMODEL",
    "SKLEARN",
    "TORCH",
    "Format",
    "Node",
    "Pass",
    "check_installed",
    "known_passes",
    "node_of",
    "other_routes",
    "route_to",
    "source_node",
    "version_of",
]

KERAS = Node(format=Format.KERAS, layout="NHWC", precision=Precision.FP32)
ONNX_SOURCE = Node(format=Format.ONNX_SOURCE, layout="", precision=Precision.FP32)
SKLEARN = Node(format=Format.SKLEARN, layout="", precision=Precision.FP32)
TORCH = Node(format=Format.TORCH, layout="", precision=Precision.FP32)
SAVEDMODEL = Node(format=Format.SAVEDMODEL, layout="NHWC", precision=Precision.FP32)
_TFLITE = Node(format=Format.TFLITE, layout="NHWC", precision=Precision.FP32)
_ONNX = Node(format=Format.ONNX, layout="NHWC", precision=Precision.FP32)
_COREML = Node(format=Format.COREML, layout="NHWC", precision=Precision.FP16)
_COREML_FP32 = Node(format=Format.COREML, layout="NHWC", precision=Precision.FP32)

PASSES: tuple[Pass, ...] = (
    Pass(
        id="keras_to_tflite",
        source=KERAS,
        target=_TFLITE,
        needs=("tensorflow", "ai-edge-litert"),
        # With the Keras model as a second argument, from_concrete_functions gives NaN and no error.
        reason="TensorFlow's own exporter, from the traced function alone",
    ),
    Pass(
        id="keras_to_onnx",
        source=KERAS,
        target=_ONNX,
        needs=("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
        reason="the exporter at the source; the oldest opset with all we use runs on the most devices",
        params={"opset": 15},
    ),
    Pass(
        id="savedmodel_to_tflite",
        source=SAVEDMODEL,
        target=_TFLITE,
        needs=("tensorflow", "ai-edge-litert"),
        reason="TensorFlow's own exporter, from the serving signature traced with the recipe's shapes",
    ),
    Pass(
        id="savedmodel_to_onnx",
        source=SAVEDMODEL,
        target=_ONNX,
        needs=("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
        # From here to Core ML too: coremltools' TensorFlow frontend fails on the loop over cells.
        reason="the exporter at the source; it makes ONNX's own LSTM of a loop over cells",
        params={"opset": 15},
    ),
    Pass(
        id="onnx_to_onnx",
        source=ONNX_SOURCE,
        target=_ONNX,
        needs=("onnx", "onnxruntime"),
        reason="the same graph with the recipe's shapes and preprocessing, and its constants folded",
        checks_source=True,
    ),
    Pass(
        id="sklearn_to_onnx",
        source=SKLEARN,
        target=_ONNX,
        needs=("scikit-learn", "skops", "skl2onnx", "onnx", "onnxruntime"),
        reason="skl2onnx, with scalers in front of trees taken into their thresholds, so that none flips",
        params={"opset": 15},
        hides=("tensorflow", "torch"),
        checks_source=True,
    ),
    Pass(
        id="onnx_to_tflite",
        source=_ONNX,
        target=_TFLITE,
        needs=("onnx", "torch", "litert-torch", "ai-edge-litert"),
        reason="an importer of our own onto PyTorch, and litert_torch: no TensorFlow, every sequence right",
        hides=("tensorflow", "keras", "sklearn"),
    ),
    Pass(
        id="torch_to_onnx",
        source=TORCH,
        target=_ONNX,
        needs=("torch", "onnxscript", "onnx", "onnxruntime"),
        # Its own operators are written for opset 18; older ones it makes by a converter that fails on some.
        reason="PyTorch's own exporter, at the opset its operators are written for",
        params={"opset": 18},
        hides=("tensorflow",),
    ),
    Pass(
        id="torch_to_tflite",
        source=TORCH,
        target=_TFLITE,
        needs=("torch", "litert-torch", "ai-edge-litert"),
        reason="litert_torch from the program itself; one sample at a time, as it lowers no dynamic length",
        hides=("tensorflow",),
    ),
    Pass(
        id="keras_to_coreml",
        source=KERAS,
        target=_COREML,
        needs=("tensorflow", "coremltools"),
        reason="coremltools' TensorFlow frontend; half floats are what the Neural Engine computes in",
        params={"minimum_deployment_target": "iOS16"},
        hides=("torch",),  # coremltools imports it eagerly: seconds, and hundreds of megabytes
    ),
    Pass(
        id="onnx_to_coreml",
        source=_ONNX,
        target=_COREML,
        needs=("onnx", "coremltools"),
        reason="an importer of our own onto coremltools' builder, which has no ONNX frontend any more",
        params={"minimum_deployment_target": "iOS16"},
        hides=("tensorflow", "torch", "sklearn"),
    ),
    Pass(
        id="onnx_to_coreml_fp32",
        module="onnx_to_coreml",
        source=_ONNX,
        target=_COREML_FP32,
        needs=("onnx", "coremltools"),
        reason="as in half floats; single ones keep Core ML off the Neural Engine",
        params={"minimum_deployment_target": "iOS16", "precision": "fp32"},
        hides=("tensorflow", "torch", "sklearn"),
    ),
    *precision_passes(onnx=_ONNX, tflite=_TFLITE, coreml=_COREML),
)


def known_passes() -> tuple[Pass, ...]:
    """Our own passes, then those of plug-ins.

    Raises:
        RouteError: A plug-in is broken, or gives a pass the name of one of ours.
    """
    own, others = {step.id for step in PASSES}, plug_in_passes()
    for step in others:
        if step.id in own:
            raise RouteError(f"the plug-in of {step.module} brings a pass {step.id}, as Ferry does itself")
    return (*PASSES, *others)


def node_of(target: Target) -> Node:
    """The node that is a variant.

    Raises:
        RouteError: No pass gives it.
    """
    nodes = [step.target for step in known_passes() if step.target.format.runtime is target.runtime]
    for node in nodes:
        if node.precision is target.precision:
            return node
    known = ", ".join(dict.fromkeys(node.precision.value for node in nodes))
    runtime, precision = target.runtime.value, target.precision.value
    raise RouteError(f"{target.id}: no route gives {runtime} in {precision}; it comes in {known}")


def source_node(framework: Framework) -> Node:
    """The node a source model of this kind is at."""
    return {
        Framework.KERAS: KERAS,
        Framework.ONNX: ONNX_SOURCE,
        Framework.SKLEARN: SKLEARN,
        Framework.TORCH: TORCH,
        Framework.SAVEDMODEL: SAVEDMODEL,
    }[framework]


def route_to(target: Node, *, start: Node, passes: Iterable[Pass] | None = None) -> tuple[Pass, ...]:
    """The shortest chain of passes, the one declared first among equals; of all known ones by default.

    Raises:
        RouteError: There is none.
    """
    passes = known_passes() if passes is None else tuple(passes)
    reached: dict[Node, tuple[Pass, ...]] = {start: ()}
    pending = deque([start])
    while pending:
        node = pending.popleft()
        if node == target:
            return reached[node]
        for step in passes:
            if step.source == node and step.target not in reached:
                reached[step.target] = (*reached[node], step)
                pending.append(step.target)
    raise RouteError(f"no route from {start.id} to {target.id}")


def other_routes(
    target: Node, *, start: Node, passes: Iterable[Pass] | None = None
) -> tuple[tuple[Pass, ...], ...]:
    """The chains that `route_to` did not choose, the shortest first."""
    passes = known_passes() if passes is None else tuple(passes)
    found: list[tuple[Pass, ...]] = []
    pending: deque[tuple[Node, tuple[Pass, ...]]] = deque([(start, ())])
    while pending:
        node, chain = pending.popleft()
        if node == target:
            found.append(chain)
            continue
        seen = {start, *(step.target for step in chain)}
        onward = [step for step in passes if step.source == node and step.target not in seen]
        pending.extend((step.target, (*chain, step)) for step in onward)
    chosen = route_to(target, start=start, passes=passes)
    return tuple(chain for chain in found if chain != chosen)


def check_installed(passes: Iterable[Pass]) -> None:
    """Refuse to begin what cannot be finished.

    Raises:
        RouteError: Naming what is missing.
    """
    for step in passes:
        missing = [name for name in step.needs if version_of(name) is None]
        if missing:
            what = " ".join(missing) if "." in step.code else f"'edge-ferry[{step.extra}]'"
            raise RouteError(f"{step.id} needs {', '.join(missing)}: pip install {what}")


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
