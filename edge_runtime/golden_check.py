"""Whether a loaded variant gives the answers its release promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.arrays import from_array
from edge_runtime.errors import GoldenMismatchError
from edge_runtime.port import AnyArray, LoadedModel
from edge_runtime.preprocessing import Preprocessing
from edge_runtime.signature import check_inputs, check_outputs
from ota_contract.golden import Vector, parse_golden
from ota_contract.manifest import Release, Variant

__all__ = ["check_golden"]


def check_golden(
    model: LoadedModel, release: Release, variant: Variant, golden: bytes, *, folder: Path
) -> int:
    """Run every golden vector at both levels: raw → tensors, and tensors → outputs.

    Args:
        model: The variant, loaded.
        release: Its manifest.
        variant: Its entry there, with the tolerances.
        golden: The golden file's bytes.
        folder: Where the release's files are, verified; vocabularies are read there.

    Returns:
        How many vectors passed, which is all of them.

    Raises:
        PackageError: A vocabulary is missing or is not one.
        RuntimeNotInstalledError: The preprocessing needs a package that is not installed.
        GoldenMismatchError: A tensor or an answer differs; the message says which and by how much.
        InferenceError: The model raised, or gave NaN.
        FormatError: The golden file is malformed.
    """
    vectors = parse_golden(golden)
    if len(vectors) != release.golden.vectors:
        raise GoldenMismatchError(
            f"the golden file holds {len(vectors)} vectors, the manifest says {release.golden.vectors}"
        )
    preprocessing = Preprocessing.of_release(release, folder)
    for index, vector in enumerate(vectors):
        tensors = {name: from_array(array) for name, array in vector.tensors.items()}
        _check_preprocessing(release, preprocessing, vector, tensors, index)
        check_inputs(release.inputs, tensors)
        outputs = model.run(tensors)
        check_outputs(release.outputs, outputs)
        for tolerance in variant.tolerances:
            if tolerance.output not in vector.outputs:
                raise GoldenMismatchError(f"golden vector {index} lacks output {tolerance.output}")
            expected = from_array(vector.outputs[tolerance.output])
            _check_close(outputs[tolerance.output], expected, tolerance.max_abs, index, tolerance.output)
    return len(vectors)


def _check_preprocessing(
    release: Release,
    preprocessing: Preprocessing,
    vector: Vector,
    tensors: dict[str, AnyArray],
    index: int,
) -> None:
    prepared = preprocessing.prepare({name: from_array(array) for name, array in vector.raw.items()})
    allowed = {name: spec.tolerance for spec in release.preprocessing for name in spec.produces}
    for name, expected in tensors.items():
        got = prepared.get(name)
        if got is None or not _agree(got, expected, allowed.get(name, 0.0)):
            raise GoldenMismatchError(f"golden vector {index}: preprocessing of {name} differs")


def _agree(got: AnyArray, expected: AnyArray, tolerance: float) -> bool:
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if tolerance == 0.0:
        return np.array_equal(got, expected)
    return bool((np.abs(got.astype(np.float64) - expected.astype(np.float64)) <= tolerance).all())


def _check_close(got: AnyArray, expected: AnyArray, max_abs: float, index: int, output: str) -> None:
    if got.shape != expected.shape:
        raise GoldenMismatchError(
            f"golden vector {index}: output {output} has shape {list(got.shape)}, not {list(expected.shape)}"
        )
    worst = float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0))
    if not worst <= max_abs:  # written so that NaN is a mismatch, too
        raise GoldenMismatchError(
            f"golden vector {index}: output {output} is off by {worst:.3g}, at most {max_abs:.3g} allowed"
        )
