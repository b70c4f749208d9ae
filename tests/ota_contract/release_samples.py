"""One small release and its JSON, to be changed in one place by each test."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ota_contract.manifest import (
    Binding,
    File,
    FileRole,
    Golden,
    Latency,
    Metrics,
    Quality,
    Release,
    Requirements,
    Runtime,
    Source,
    Tolerance,
    Variant,
    Verification,
    VerificationStatus,
    dump_release,
)
from ota_contract.names import ModelName
from ota_contract.preprocessing import InputSpec
from ota_contract.preprocessing_steps import Affine, Casing, Reshape, WordPiece
from ota_contract.tensors import Datatype, Tensor

VOCABULARY = File(
    path="assets/vocabulary.txt",
    length_bytes=9,
    sha256="4" * 64,
    role=FileRole.VOCABULARY,
)
WORDS = WordPiece(vocabulary=VOCABULARY.sha256, casing=Casing.CASED, length=8, input_ids="ids")


def sample_variant(variant_id: str, runtime: Runtime, *, rank: int, suffix: str) -> Variant:
    return Variant(
        id=variant_id,
        runtime=runtime,
        precision="fp32",
        files=(
            File(
                path=f"variants/{variant_id}/model.{suffix}",
                length_bytes=1234,
                sha256="1" * 64,
                role=FileRole.MODEL,
            ),
        ),
        requires=Requirements(
            runtime_version="1.20" if runtime is Runtime.ONNX else "2.1",
            arch=("x86_64", "aarch64"),
            ram_bytes=1_000_000,
        ),
        inputs=(Binding(name="image", inner="serving_default_image:0"),),
        outputs=(Binding(name="scores", inner="StatefulPartitionedCall:0"),),
        metrics=Metrics(
            size_bytes=1234,
            quality=Quality(
                metric="accuracy",
                value_ppm=980_000,
                low_ppm=960_000,
                high_ppm=990_000,
                confidence_ppm=950_000,
                n=360,
                dataset_sha256="2" * 64,
            ),
            latency=Latency(p50_us=80, p99_us=120, runs=200, threads=1, host="x86_64, 2 cores"),
        ),
        verification=Verification(
            status=VerificationStatus.PASSED,
            how="360 evaluation examples against the source model",
            host_isa="x86_64",
            max_abs_error=0.0001,
        ),
        tolerances=(Tolerance(output="scores", max_abs=0.001),),
        rank=rank,
    )


def sample_release() -> Release:
    return Release(
        name=ModelName("vision", "digits"),
        version="1.1.0",
        counter=2,
        floor=1,
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        license="Apache-2.0",
        source=Source(framework="keras", sha256="3" * 64),
        inputs=(Tensor(name="image", datatype=Datatype.UINT8, shape=(-1, 8, 8, 1), layout="NHWC"),),
        outputs=(Tensor(name="scores", datatype=Datatype.FP32, shape=(-1, 10), meaning="softmax"),),
        labels=tuple("0123456789"),
        preprocessing=(
            InputSpec(
                input="image",
                raw_datatype=Datatype.UINT8,
                raw_shape=(-1, 8, 8),
                steps=(
                    Reshape(shape=(-1, 8, 8, 1)),
                    Affine(folded=True, scale=(0.0625,)),
                ),
            ),
        ),
        golden=Golden(
            file=File(path="golden.json", length_bytes=5678, sha256="4" * 64, role=FileRole.GOLDEN),
            vectors=8,
        ),
        variants=(
            sample_variant("onnx-fp32", Runtime.ONNX, rank=0, suffix="onnx"),
            sample_variant("tflite-fp32", Runtime.TFLITE, rank=1, suffix="tflite"),
        ),
        toolchain=(("ferry", "0.1.0"), ("tensorflow", "2.21.0")),
    )


def text_release(**changes: Any) -> Release:
    """A release whose one input is a tokenizer's."""
    release = sample_release()
    bound = replace(release.variants[0].inputs[0], name="ids")
    spec = InputSpec(input="text", raw_datatype=Datatype.BYTES, raw_shape=(-1,), steps=(WORDS,))
    values: dict[str, Any] = {
        "inputs": (Tensor(name="ids", datatype=Datatype.INT64, shape=(-1, 8)),),
        "preprocessing": (spec,),
        "variants": tuple(replace(variant, inputs=(bound,)) for variant in release.variants),
        "assets": (VOCABULARY,),
    }
    return replace(release, **{**values, **changes})


def sample_json() -> dict[str, Any]:
    """The sample's manifest as JSON values, the caller's to change."""
    manifest: dict[str, Any] = json.loads(dump_release(sample_release()))
    return copy.deepcopy(manifest)
