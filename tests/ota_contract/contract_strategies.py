"""Hypothesis strategies for the contract's documents: values a well-behaved writer could produce."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from ota_contract import preprocessing_steps
from ota_contract.assignment import Arm
from ota_contract.conditions import Condition, parse_condition
from ota_contract.device import Attributes
from ota_contract.golden import Vector
from ota_contract.inference_protocol import InferRequest, InferResponse, TensorValue
from ota_contract.manifest import (
    MILLION,
    Binding,
    Delta,
    File,
    FileRole,
    Golden,
    Latency,
    Metrics,
    Pieces,
    Quality,
    Release,
    Requirements,
    Runtime,
    Source,
    Tolerance,
    Variant,
    Verification,
    VerificationStatus,
)
from ota_contract.names import ModelName
from ota_contract.package_files import piece_length_bytes
from ota_contract.policy import Policy, ReleaseRef, Rule, Strategy, Trial
from ota_contract.preprocessing import InputSpec
from ota_contract.report import AnsweredBy, Batch, FallbackCause, Report, Transition, UpdateState, Window
from ota_contract.tensors import Array, Datatype, Tensor

NUMERIC = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]


def texts(max_size: int = 20, min_size: int = 0) -> st.SearchStrategy[str]:
    """Texts without control characters, of any script."""
    alphabet = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
    return st.text(alphabet, min_size=min_size, max_size=max_size)


def names() -> st.SearchStrategy[str]:
    return st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,12}\Z")


def sha256s() -> st.SearchStrategy[str]:
    return st.binary(min_size=32, max_size=32).map(bytes.hex)


def paths() -> st.SearchStrategy[str]:
    segment = st.from_regex(r"\A[a-z0-9_][a-z0-9._-]{0,8}\Z")
    return st.lists(segment, min_size=1, max_size=3).map("/".join).filter(lambda path: path != "release.json")


def versions() -> st.SearchStrategy[str]:
    number = st.integers(0, 10**9 - 1).map(str)
    identifier = st.from_regex(r"\A(?:0|[1-9][0-9]{0,5}|[0-9]{0,3}[a-zA-Z-][0-9A-Za-z-]{0,5})\Z")
    prerelease = st.lists(identifier, max_size=5).map(".".join)
    core = st.tuples(number, number, number).map(".".join)
    return st.builds(lambda c, p: f"{c}-{p}" if p else c, core, prerelease)


def instants() -> st.SearchStrategy[datetime]:
    moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001 - made aware below
    return moments.map(lambda moment: moment.replace(microsecond=0, tzinfo=UTC))


def floats() -> st.SearchStrategy[float]:
    return st.floats(allow_nan=False, allow_infinity=False)


def models() -> st.SearchStrategy[ModelName]:
    return st.builds(ModelName, names(), names())


def shapes(low: int = -1) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(low, 2**31 - 1), max_size=8).map(tuple)


def tensors(name: st.SearchStrategy[str]) -> st.SearchStrategy[Tensor]:
    return st.builds(
        Tensor,
        name=name,
        datatype=st.sampled_from(NUMERIC),
        shape=shapes(),
        layout=texts(8),
        meaning=texts(),
    )


def _numbers(size: int) -> st.SearchStrategy[tuple[float, ...]]:
    return st.sampled_from([1, size]).flatmap(
        lambda count: st.lists(floats(), min_size=count, max_size=count).map(tuple)
    )


@st.composite
def reshapes(draw: st.DrawFn) -> preprocessing_steps.Reshape:
    shape = tuple(draw(st.lists(st.integers(0, 99), max_size=6))) + draw(st.sampled_from([(), (-1,)]))
    return preprocessing_steps.Reshape(folded=draw(st.booleans()), shape=shape)


@st.composite
def affines(draw: st.DrawFn) -> preprocessing_steps.Affine:
    size = draw(st.integers(1, 4))
    return preprocessing_steps.Affine(
        folded=draw(st.booleans()),
        scale=draw(_numbers(size)),
        offset=draw(_numbers(size)),
        axis=draw(st.integers(-8, -1)),
    )


@st.composite
def resizes(draw: st.DrawFn) -> preprocessing_steps.Resize:
    kind = draw(st.sampled_from(preprocessing_steps.ResizeFilter))
    either = {"nearest": [False], "lanczos": [True]}.get(kind.value, [False, True])
    return preprocessing_steps.Resize(
        folded=draw(st.booleans()),
        height=draw(st.integers(1, 4096)),
        width=draw(st.integers(1, 4096)),
        filter=kind,
        antialias=draw(st.sampled_from(either)),
        mode=draw(st.sampled_from(preprocessing_steps.ResizeMode)),
        pad=draw(st.integers(0, 255)),
    )


@st.composite
def log_mels(draw: st.DrawFn) -> preprocessing_steps.LogMel:
    rate = draw(st.integers(2, 384_000))
    frame = draw(st.integers(2, 65_536))
    low = draw(st.floats(0, rate / 4))
    return preprocessing_steps.LogMel(
        folded=draw(st.booleans()),
        sample_rate=rate,
        frame_length=frame,
        frame_step=draw(st.integers(1, 65_536)),
        fft_length=draw(st.integers(frame, 65_536)),
        mels=draw(st.integers(1, 512)),
        f_min=low,
        f_max=draw(st.floats(rate / 4 + 0.1, rate / 2)),
        floor=draw(st.floats(1e-30, 1e30)),
        window=draw(st.sampled_from(preprocessing_steps.Window)),
        centred=draw(st.booleans()),
        power=draw(st.integers(1, 2)),
        mel_scale=draw(st.sampled_from(preprocessing_steps.MelScale)),
        norm=draw(st.sampled_from(preprocessing_steps.FilterNorm)),
        log=draw(st.sampled_from(preprocessing_steps.LogScale)),
    )


def steps() -> st.SearchStrategy[preprocessing_steps.Step]:
    """Any step that numbers go through."""
    folded = st.booleans()
    sides = st.integers(1, 4096)
    orders = st.integers(1, 7).flatmap(lambda rank: st.permutations(range(1, rank + 1)))
    return st.one_of(
        reshapes(),
        affines(),
        resizes(),
        log_mels(),
        st.builds(preprocessing_steps.Cast, folded=folded, datatype=st.sampled_from(NUMERIC)),
        st.builds(preprocessing_steps.Transpose, folded=folded, axes=orders.map(lambda axes: (0, *axes))),
        st.builds(preprocessing_steps.Crop, folded=folded, height=sides, width=sides),
        st.builds(preprocessing_steps.FitLength, folded=folded, length=st.integers(1, 2**24)),
    )


def decodes() -> st.SearchStrategy[preprocessing_steps.Decode]:
    return st.builds(
        preprocessing_steps.Decode,
        folded=st.just(False),  # noqa: FBT003
        colour=st.sampled_from(preprocessing_steps.Colour),
        orientation=st.sampled_from(preprocessing_steps.Orientation),
        max_pixels=st.integers(1, 2**26),
    )


@st.composite
def input_specs(draw: st.DrawFn, name: str) -> InputSpec:
    """Of an input that no tokenizer makes."""
    encoded = draw(st.booleans())
    return InputSpec(
        input=name,
        raw_datatype=Datatype.BYTES if encoded else draw(st.sampled_from(NUMERIC)),
        raw_shape=(-1,) if encoded else draw(shapes()),
        steps=(*([draw(decodes())] if encoded else []), *draw(st.lists(steps(), max_size=3))),
        tolerance=abs(draw(floats())),
    )


@st.composite
def files(draw: st.DrawFn, role: FileRole, path: st.SearchStrategy[str]) -> File:
    length_bytes = draw(st.integers(0, 2**40))
    length = piece_length_bytes(length_bytes)
    count = -(-length_bytes // length)
    digests = (draw(st.binary(max_size=8)) + bytes(8 * count))[: 8 * count]
    return File(
        path=draw(path),
        length_bytes=length_bytes,
        sha256=draw(sha256s()),
        role=role,
        pieces=draw(st.sampled_from([None, Pieces(length_bytes=length, digests=digests)])),
    )


@st.composite
def deltas(draw: st.DrawFn, number: int, target: File) -> Delta:
    return Delta(
        file=File(
            path=f"deltas/{number}",
            length_bytes=draw(st.integers(0, max(0, target.length_bytes - 1))),
            sha256=draw(sha256s()),
            role=FileRole.DELTA,
        ),
        base_sha256=draw(sha256s()),
        target_sha256=target.sha256,
    )


def qualities() -> st.SearchStrategy[Quality]:
    ppm = st.integers(-MILLION, MILLION)
    return st.builds(
        Quality,
        metric=texts(),
        value_ppm=ppm,
        low_ppm=ppm,
        high_ppm=ppm,
        confidence_ppm=st.integers(0, MILLION),
        n=st.integers(1, 10**9),
        dataset_sha256=sha256s(),
    )


def latencies() -> st.SearchStrategy[Latency]:
    micros = st.integers(0, 10**9)
    return st.builds(
        Latency, p50_us=micros, p99_us=micros, runs=st.integers(1), threads=st.integers(1, 1024), host=texts()
    ).filter(lambda latency: latency.runs < 2**63)


def requirements() -> st.SearchStrategy[Requirements]:
    few = st.lists(texts(8), max_size=3).map(tuple)
    return st.builds(
        Requirements,
        runtime_version=st.sampled_from(["", "1.20", "2.3.0"]),
        os=few,
        arch=few,
        accelerator=texts(),
        ram_bytes=st.integers(0, 2**50),
    )


@st.composite
def variants(draw: st.DrawFn, variant_id: str, folder: str, inputs: list[str], outputs: list[str]) -> Variant:
    model = draw(files(FileRole.MODEL, st.just(f"{folder}/model")))
    parts = draw(st.integers(0, 2))
    others = [draw(files(FileRole.PART, st.just(f"{folder}/part{index}"))) for index in range(parts)]
    bound_inputs = draw(st.permutations(inputs))
    bound_outputs = draw(st.permutations(outputs))
    tolerated = [name for name in outputs if draw(st.booleans())]
    return Variant(
        id=variant_id,
        runtime=draw(st.sampled_from(Runtime)),
        precision=draw(texts()),
        files=tuple(draw(st.permutations([model, *others]))),
        requires=draw(requirements()),
        inputs=tuple(Binding(name=name, inner=draw(texts())) for name in bound_inputs),
        outputs=tuple(Binding(name=name, inner=draw(texts())) for name in bound_outputs),
        metrics=Metrics(
            size_bytes=draw(st.integers(0, 2**40)),
            quality=draw(st.none() | qualities()),
            latency=draw(st.none() | latencies()),
        ),
        verification=Verification(
            status=draw(st.sampled_from(VerificationStatus)),
            how=draw(texts()),
            host_isa=draw(texts()),
            max_abs_error=draw(st.none() | floats()),
        ),
        tolerances=tuple(Tolerance(output=name, max_abs=abs(draw(floats()))) for name in tolerated),
        rank=draw(st.integers(0, 32)),
    )


def _longest_first(file: File) -> int:
    return -file.length_bytes


@st.composite
def releases(draw: st.DrawFn) -> Release:
    inputs = draw(st.lists(tensors(texts()), min_size=1, max_size=3, unique_by=lambda item: item.name))
    outputs = draw(st.lists(tensors(texts()), min_size=1, max_size=3, unique_by=lambda item: item.name))
    text, vocabulary = draw(tokenized(inputs))
    input_names = [tensor.name for tensor in inputs]
    output_names = [tensor.name for tensor in outputs]
    variant_ids = draw(st.lists(names(), min_size=1, max_size=3, unique=True))
    counter = draw(st.integers(1, 2**53))
    some = tuple(
        draw(variants(variant_id, f"variants/{variant_id}", input_names, output_names))
        for variant_id in variant_ids
    )
    # Digests are drawn, so two files may share one: a delta must be shorter than either.
    same = sorted((file for variant in some for file in (*variant.files, *vocabulary)), key=_longest_first)
    shortest = {file.sha256: file for file in same}
    digests = dict.fromkeys(variant.model_file.sha256 for variant in some)
    made = [shortest[digest] for digest in digests if shortest[digest].length_bytes and draw(st.booleans())]
    return Release(
        name=draw(models()),
        version=draw(versions()),
        counter=counter,
        floor=draw(st.integers(0, counter)),
        created=draw(instants()),
        license=draw(texts()),
        source=Source(framework=draw(texts()), sha256=draw(sha256s())),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        labels=tuple(draw(st.lists(texts(), max_size=3))),
        preprocessing=(
            *text,
            *(draw(input_specs(name)) for name in input_names[len(text) :] if draw(st.booleans())),
        ),
        golden=Golden(
            file=draw(files(FileRole.GOLDEN, st.just("golden/vectors.json"))),
            vectors=draw(st.integers(1, 99)),
        ),
        variants=some,
        toolchain=tuple(sorted(draw(st.dictionaries(texts(), texts(), max_size=3)).items())),
        deltas=tuple(draw(deltas(number, file)) for number, file in enumerate(made)),
        assets=vocabulary,
    )


@st.composite
def tokenized(draw: st.DrawFn, inputs: list[Tensor]) -> tuple[tuple[InputSpec, ...], tuple[File, ...]]:
    """Perhaps the first input is made to be a tokenizer's; the spec and the vocabulary."""
    if not inputs[0].name or draw(st.booleans()):
        return (), ()
    length, datatype = draw(st.integers(2, 8192)), draw(st.sampled_from([Datatype.INT32, Datatype.INT64]))
    inputs[0] = replace(inputs[0], datatype=datatype, shape=(-1, length))
    file = draw(files(FileRole.VOCABULARY, st.just("assets/vocabulary.txt")))
    file = replace(file, length_bytes=min(file.length_bytes, 100), pieces=None)
    step = preprocessing_steps.WordPiece(
        vocabulary=file.sha256,
        casing=draw(st.sampled_from(preprocessing_steps.Casing)),
        length=length,
        input_ids=inputs[0].name,
        datatype=datatype,
    )
    raw = "raw text" + "".join(tensor.name for tensor in inputs)
    spec = InputSpec(input=raw[:64], raw_datatype=Datatype.BYTES, raw_shape=(-1,), steps=(step,))
    return ((spec,), (file,)) if spec.input not in {tensor.name for tensor in inputs} else ((), ())


def scalars() -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), floats(), texts(8))


def simple_conditions() -> st.SearchStrategy[Condition]:
    return st.dictionaries(names(), scalars(), max_size=3).map(parse_condition)


def references() -> st.SearchStrategy[ReleaseRef]:
    return st.builds(ReleaseRef, version=versions(), counter=st.integers(1, 2**53), manifest_sha256=sha256s())


def trials() -> st.SearchStrategy[Trial]:
    return st.builds(
        Trial,
        inferences=st.integers(0, 10**9),
        max_error_ppm=st.integers(0, 10**6),
        max_starts=st.integers(1, 100),
    )


def rules() -> st.SearchStrategy[Rule]:
    return st.builds(
        Rule,
        cohort=names(),
        condition=simple_conditions(),
        base=st.none() | references(),
        candidate=st.none() | references(),
        rollout=texts(),
        strategy=st.sampled_from(Strategy),
        salt=texts(),
        threshold_bp=st.integers(0, 10_000),
        frozen=st.booleans(),
        trial=trials(),
    )


def policies() -> st.SearchStrategy[Policy]:
    return st.builds(
        Policy,
        name=models(),
        revision=st.integers(0, 2**53),
        poll_interval_s=st.integers(1, 7 * 24 * 3600),
        rules=st.lists(rules(), max_size=3).map(tuple),
    )


def device_ids() -> st.SearchStrategy[str]:
    return st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,20}\Z")


def attributes() -> st.SearchStrategy[Attributes]:
    extra = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), floats(), texts())
    return st.builds(
        Attributes,
        device_id=device_ids(),
        hardware=texts(),
        os=texts(),
        arch=texts(),
        ram_bytes=st.integers(0, 2**50),
        runtimes=st.dictionaries(st.sampled_from(["onnx", "tflite", "coreml"]), texts()),
        region=texts(),
        extra=st.dictionaries(texts(), extra, max_size=3),
    )


def transitions() -> st.SearchStrategy[Transition]:
    return st.builds(Transition, state=st.sampled_from(UpdateState), at=instants(), reason=texts(256))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    inferences = draw(st.integers(0, 10**12))
    counts = st.integers(0, 10**12)
    return Window(
        started=draw(instants()),
        ended=draw(instants()),
        inferences=inferences,
        errors=draw(st.integers(0, inferences)),
        answered_by=draw(st.dictionaries(st.sampled_from(AnsweredBy), counts)),
        fallbacks=draw(st.dictionaries(st.sampled_from(FallbackCause), counts)),
    )


def reports() -> st.SearchStrategy[Report]:
    return st.builds(
        Report,
        id=texts(64),
        name=models(),
        version=versions(),
        content=transitions() | windows(),
        rollout=texts(),
        arm=st.sampled_from(Arm),
    )


def batches() -> st.SearchStrategy[Batch]:
    return st.builds(
        Batch,
        device=attributes(),
        live=st.dictionaries(models(), versions(), max_size=3),
        reports=st.lists(reports(), max_size=3).map(tuple),
    )


def _elements_of(shape: tuple[int, ...]) -> st.SearchStrategy[list[bytes]]:
    count = math.prod(shape)
    return st.lists(st.binary(max_size=5) | texts().map(str.encode), min_size=count, max_size=count)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    datatype = draw(st.sampled_from(Datatype))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    if datatype is Datatype.BYTES:
        return Array.of_bytes(shape, draw(_elements_of(shape)))
    length = math.prod(shape) * datatype.item_bytes
    return Array(datatype=datatype, shape=shape, data=draw(st.binary(min_size=length, max_size=length)))


def vectors() -> st.SearchStrategy[Vector]:
    tables = st.dictionaries(texts(min_size=1), arrays(), max_size=2)
    return st.builds(Vector, raw=tables, tensors=tables, outputs=tables)


@st.composite
def tensor_values(draw: st.DrawFn, name: str) -> TensorValue:
    datatype = draw(st.sampled_from(Datatype))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = math.prod(shape)
    if datatype is Datatype.BYTES:
        return TensorValue(name=name, datatype=datatype, shape=shape, data=draw(_elements_of(shape)))
    elements: st.SearchStrategy[Any] = st.integers(-(2**63), 2**64)
    if datatype is Datatype.BOOL:
        elements = st.booleans()
    elif datatype.value.startswith("FP"):
        elements = floats()
    data = draw(st.lists(elements, min_size=count, max_size=count))
    return TensorValue(name=name, datatype=datatype, shape=shape, data=data)


@st.composite
def infer_requests(draw: st.DrawFn) -> InferRequest:
    tensor_names = draw(st.lists(texts(), min_size=1, max_size=3, unique=True))
    return InferRequest(inputs=tuple(draw(tensor_values(name)) for name in tensor_names), id=draw(texts()))


@st.composite
def infer_responses(draw: st.DrawFn) -> InferResponse:
    tensor_names = draw(st.lists(texts(), min_size=1, max_size=3, unique=True))
    return InferResponse(
        model_name=draw(texts()),
        model_version=draw(texts()),
        outputs=tuple(draw(tensor_values(name)) for name in tensor_names),
        id=draw(texts()),
    )


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value canonical JSON can say."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        floats(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    )
    keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )
