"""The package as a machine-learning bill of materials: CycloneDX 1.6 (ECMA-424), JSON.

The model is a `machine-learning-model` component with a model card; each file is a component with its
digest; what made it are `tools`. Equal packages give equal bytes: the serial number is derived from the
manifest's digest, the time is the release's own.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from ota_contract.documents import format_instant
from ota_contract.manifest import MILLION, Release, Variant, dump_release

__all__ = ["dump_bom"]

_NOT_PACKAGES = ("command", "python", "recipe_sha256")


def dump_bom(release: Release, document: Mapping[str, Any]) -> bytes:
    """The bill's bytes.

    Args:
        release: As it is in the package's manifest.
        document: The report.
    """
    digest = hashlib.sha256(dump_release(release)).hexdigest()
    model = f"{release.name}@{release.version}"
    value = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": format_instant(release.created),
            "tools": {"components": list(_tools(release))},
            "component": _model(release, document, model),
        },
        "components": [
            *(_variant(variant) for variant in release.variants),
            *(_dataset(name, data) for name, data in sorted(document["datasets"].items())),
        ],
        "dependencies": [
            {"ref": model, "dependsOn": [variant.id for variant in release.variants]},
            *({"ref": variant.id} for variant in release.variants),
        ],
    }
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _model(release: Release, document: Mapping[str, Any], ref: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "group": release.name.publisher,
        "name": release.name.model,
        "version": release.version,
        "licenses": [{"license": {"name": release.license}}],
        "modelCard": {
            "modelParameters": {
                "datasets": [{"ref": f"dataset-{name}"} for name in sorted(document["datasets"])],
                "inputs": [{"format": _format(tensor)} for tensor in release.inputs],
                "outputs": [{"format": _format(tensor)} for tensor in release.outputs],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [metric for variant in release.variants for metric in _metrics(variant)]
            },
        },
        "pedigree": {
            "ancestors": [
                {
                    "type": "machine-learning-model",
                    "name": f"{release.name.model} ({release.source.framework} source)",
                    "hashes": [{"alg": "SHA-256", "content": release.source.sha256}],
                }
            ]
        },
    }


def _metrics(variant: Variant) -> Iterable[dict[str, Any]]:
    quality = variant.metrics.quality
    if quality is not None:
        yield {
            "type": quality.metric,
            "value": f"{quality.value_ppm / MILLION:.6f}",
            "slice": variant.id,
            "confidenceInterval": {
                "lowerBound": f"{quality.low_ppm / MILLION:.6f}",
                "upperBound": f"{quality.high_ppm / MILLION:.6f}",
            },
        }


def _variant(variant: Variant) -> dict[str, Any]:
    properties = {
        "runtime": variant.runtime.value,
        "precision": variant.precision,
        "verification": variant.verification.status.value,
        "runtime_version": variant.requires.runtime_version,
    }
    return {
        "type": "machine-learning-model",
        "bom-ref": variant.id,
        "name": variant.id,
        "properties": [
            {"name": f"ferry:{name}", "value": value} for name, value in sorted(properties.items()) if value
        ],
        "components": [
            {
                "type": "file",
                "bom-ref": f"{variant.id}/{file.path}",
                "name": file.path,
                "hashes": [{"alg": "SHA-256", "content": file.sha256}],
            }
            for file in variant.files
        ],
    }


def _dataset(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": f"dataset-{name}",
        "name": f"{name} set",
        "hashes": [{"alg": "SHA-256", "content": data["sha256"]}],
        "data": [{"type": "dataset", "name": f"{name} set", "description": f"{data['n']} samples"}],
    }


def _tools(release: Release) -> Iterable[dict[str, Any]]:
    for name, version in release.toolchain:
        if name not in _NOT_PACKAGES:
            tool = {"type": "library", "name": name, "version": version}
            yield {**tool, "purl": f"pkg:pypi/{name}@{version}", "bom-ref": f"tool-{name}"}


def _format(tensor: Any) -> str:  # noqa: ANN401 - a Tensor
    return f"{tensor.name}: {tensor.datatype.value} {list(tensor.shape)}"
