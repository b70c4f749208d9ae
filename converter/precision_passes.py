"""The passes from a float model for a runtime to one in fewer bits: by what module, with which options.

They begin at the runtime's own float file, so a source needs no pass of its own for any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from converter.nodes import Format, Node, Pass
from converter.variants import Precision

__all__ = ["precision_passes"]

_FRAMEWORKS = ("tensorflow", "torch", "sklearn", "transformers")
"""Imported by some tool for nothing, where they are installed: seconds, and hundreds of megabytes."""
_STATIC = frozenset({"calibration", "per_channel"})
_RULES = frozenset({"layers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """A precision a module gives."""

    precision: Precision
    module: str
    reason: str
    takes: frozenset[str]
    params: Mapping[str, str | int | bool] = field(default_factory=dict)


_ONNX_HALVES, _ONNX_INTEGERS = "onnx_to_onnx_halves", "onnx_to_onnx_integers"
_ONNX = (
    _Offer(
        precision=Precision.FP16,
        module=_ONNX_HALVES,
        takes=_RULES,
        reason="ONNX Runtime's converter, casts left alone, after a look for values beyond half floats",
    ),
    _Offer(
        precision=Precision.MIXED,
        module=_ONNX_HALVES,
        takes=_RULES,
        reason="half floats but for layers out of their range, or that cost more than FP32's parity",
    ),
    _Offer(
        precision=Precision.INT8,
        module=_ONNX_INTEGERS,
        # Eight-bit weights saturate in AVX2's multiply-add where the CPU has no VNNI: the same model
        # would answer differently by device. Seven bits cost the digits model nothing.
        params={"reduce_range": True},
        takes=_STATIC | _RULES | {"reduce_range", "block_size"},
        reason="static QDQ, per channel; seven-bit weights give the same answer on every CPU",
    ),
    _Offer(
        precision=Precision.INT8_DYNAMIC,
        module=_ONNX_INTEGERS,
        params={"reduce_range": True},
        takes=_STATIC | _RULES | {"reduce_range", "block_size"},
        reason="ranges found at each run: no calibration decides, and recurrent layers are quantized too",
    ),
    _Offer(
        precision=Precision.INT8_WEIGHTS,
        module=_ONNX_INTEGERS,
        takes=_STATIC | _RULES | {"reduce_range", "block_size"},
        reason="MatMulNBits reads packed weights as it computes; others are scaled in front of their node",
    ),
    _Offer(
        precision=Precision.INT4_WEIGHTS,
        module=_ONNX_INTEGERS,
        takes=_STATIC | _RULES | {"reduce_range", "block_size"},
        reason="MatMulNBits in blocks, whatever the opset; what has no kernel for four bits gets eight",
    ),
)

_TFLITE_MODULE = "tflite_to_tflite"
_TFLITE_TAKES = _STATIC | _RULES | {"block_size"}
_TFLITE = (
    _Offer(
        precision=Precision.FP16,
        module=_TFLITE_MODULE,
        takes=_TFLITE_TAKES,
        reason="half-float weights, unpacked once when the file is opened",
    ),
    _Offer(
        precision=Precision.INT8,
        module=_TFLITE_MODULE,
        takes=_TFLITE_TAKES,
        # On the digits model TensorFlow's own quantizer's answers, to the bit, in a sixth of the time.
        reason="ai-edge-quantizer: TensorFlow's answers without TensorFlow, from any source, by layer",
    ),
    _Offer(
        precision=Precision.INT8_DYNAMIC,
        module=_TFLITE_MODULE,
        takes=_TFLITE_TAKES,
        reason="ranges found at each run; the fastest of the digits model on CPUs, and without calibration",
    ),
    _Offer(
        precision=Precision.INT8_WEIGHTS,
        module=_TFLITE_MODULE,
        takes=_TFLITE_TAKES,
        reason="unpacked once when the file is opened: float's speed and nearly its answers",
    ),
    _Offer(
        precision=Precision.INT16X8,
        module=_TFLITE_MODULE,
        takes=_TFLITE_TAKES,
        reason="sixteen-bit activations, for accelerators without floats; slow on CPUs, without XNNPACK",
    ),
    _Offer(
        precision=Precision.INT4_WEIGHTS,
        module=_TFLITE_MODULE,
        takes=_TFLITE_TAKES,
        reason="blocks in matrices, channels in convolutions, read as they are: unpacking takes longer",
    ),
)

_COREML_MODULE = "coreml_to_coreml"
_COREML_TAKES = _STATIC | _RULES | {"block_size"}
_PALETTES = (
    Precision.PALETTE8,
    Precision.PALETTE6,
    Precision.PALETTE4,
    Precision.PALETTE3,
    Precision.PALETTE2,
)
_COREML = (
    _Offer(
        precision=Precision.INT8_WEIGHTS,
        module=_COREML_MODULE,
        takes=_COREML_TAKES,
        reason="coremltools' linear quantizer, a scale for each channel",
    ),
    _Offer(
        precision=Precision.INT4_WEIGHTS,
        module=_COREML_MODULE,
        takes=_COREML_TAKES,
        reason="coremltools' linear quantizer in blocks, which takes iOS 18",
    ),
    _Offer(
        precision=Precision.INT8,
        module=_COREML_MODULE,
        takes=_COREML_TAKES,
        reason="activations too, with ranges of the reference evaluator: coremltools' own take macOS",
    ),
    *(
        _Offer(
            precision=precision,
            module=_COREML_MODULE,
            takes=_COREML_TAKES,
            reason="k-means of our own, the same on every host; an even palette loses far more",
        )
        for precision in _PALETTES
    ),
)

_NEEDS = {
    Format.ONNX: ("onnx", "onnxruntime"),
    Format.TFLITE: ("ai-edge-quantizer", "ai-edge-litert"),
    Format.COREML: ("coremltools",),
}


def precision_passes(*, onnx: Node, tflite: Node, coreml: Node) -> Iterator[Pass]:
    """Every one, from these float nodes."""
    target = {"minimum_deployment_target": "iOS16"}
    yield from _passes(onnx, _ONNX, {})
    yield from _passes(tflite, _TFLITE, {})
    yield from _passes(coreml, _COREML, target)


def _passes(source: Node, offers: tuple[_Offer, ...], params: Mapping[str, str]) -> Iterator[Pass]:
    name = source.format.value
    for offer in offers:
        precision = offer.precision.value
        yield Pass(
            id=f"{name}_to_{name}_{precision.replace('-', '_')}",
            module=offer.module,
            source=source,
            target=Node(format=source.format, layout=source.layout, precision=offer.precision),
            needs=_NEEDS[source.format],
            reason=offer.reason,
            params={"precision": precision, **params, **offer.params},
            takes=offer.takes,
            calibrated=True,  # a layer rule may ask for ranges whatever the variant's own precision
            hides=_FRAMEWORKS,
        )
