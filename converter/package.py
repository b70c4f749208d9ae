"""A package in Python: its variants, what they are worth, and a way to run one here.

package = convert("models/digits/recipe.toml", "build/digits")
package                                     # in a notebook: a table
with package.open("onnx-int8") as variant:
    variant.predict({"image": pixels})["scores"]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Self

from converter.errors import ConverterError
from converter.running import open_variant
from edge_runtime.package import open_package
from edge_runtime.port import AnyArray, LoadedModel, RawValue
from edge_runtime.preprocessing import Preprocessing
from edge_runtime.signature import check_inputs, check_outputs
from ota_contract.manifest import MILLION, Release, Runtime, Variant, VerificationStatus

__all__ = ["OpenVariant", "Package"]

_COLUMNS = ("variant", "verified", "kB", "quality", "p50 µs", "why")
_KILOBYTE = 1000


class OpenVariant:
    """A variant in memory; a context manager, and safe to call from several threads."""

    def __init__(self, release: Release, variant: Variant, folder: Path, threads: int) -> None:
        """Open it; see `Package.open`."""
        self.variant = variant
        self._release = release
        self._preprocessing = Preprocessing.of_release(release, folder)
        self._model: LoadedModel = open_variant(release, variant, folder, threads=threads)

    def predict(self, raw: Mapping[str, RawValue]) -> dict[str, AnyArray]:
        """Answer raw inputs as a device would: prepared by the release's preprocessing, then run.

        Args:
            raw: By the names and in the shapes of the recipe's raw inputs, with a first axis for samples.

        Raises:
            EdgeRuntimeError: An input is missing or of another type or shape, or the runtime raised.
        """
        return self.run(self._preprocessing.prepare(raw))

    def run(self, tensors: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Answer tensors of the signature, without preprocessing.

        Raises:
            EdgeRuntimeError: A tensor is missing or of another type or shape, or the runtime raised.
        """
        check_inputs(self._release.inputs, tensors)
        outputs = self._model.run(tensors)
        check_outputs(self._release.outputs, outputs)
        return outputs

    def close(self) -> None:
        """Release its memory."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package on disk."""

    path: Path
    release: Release
    """Its manifest."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What each step of the conversion took."""
    proofs: tuple[str, ...] = ()
    """Of each variant that was compared, what the evaluation samples allow to say of the budget."""
    slow: tuple[str, ...] = ()
    """Of each variant that is slower than float, how much."""
    unmet: tuple[str, ...] = ()
    """Searches that found nothing within the budget; what they found at best is in the package, as failed."""

    @classmethod
    def at(cls, path: Path | str) -> Self:
        """A package that was written before, all of whose files are there with the right bytes.

        Raises:
            PackageError: It is none, or a file is missing or differs.
        """
        release, _ = open_package(Path(path))
        return cls(path=Path(path), release=release)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Its variants, the one that devices prefer first, each with what it is worth and needs."""
        return self.release.variants

    @property
    def failed(self) -> tuple[Variant, ...]:
        """Variants that do not keep to the recipe's goal; in the package, and never chosen."""
        return tuple(item for item in self.variants if item.verification.status is VerificationStatus.FAILED)

    @property
    def unserved(self) -> tuple[Runtime, ...]:
        """Runtimes all of whose variants failed: a device with no other gets nothing."""
        failed = {variant.id for variant in self.failed}
        served = {variant.runtime for variant in self.variants if variant.id not in failed}
        asked = {variant.runtime for variant in self.variants}
        return tuple(sorted(asked - served, key=lambda runtime: runtime.value))

    @property
    def report(self) -> Path:
        """The page with all that was tried and found."""
        return self.path / "report.html"

    def variant(self, variant_id: str) -> Variant:
        """One variant.

        Raises:
            ConverterError: There is none of this id; the message names those there are.
        """
        for variant in self.variants:
            if variant.id == variant_id:
                return variant
        known = ", ".join(variant.id for variant in self.variants)
        raise ConverterError(f"{self.release.name} has no variant {variant_id}; it has {known}")

    def file(self, variant_id: str) -> Path:
        """What the runtime of a variant opens; of Core ML, the `.mlpackage`.

        Raises:
            ConverterError: There is no such variant.
        """
        path = self.path / self.variant(variant_id).model_file.path
        return path.parent if path.parent.suffix == ".mlpackage" else path

    def open(self, variant_id: str, *, threads: int = 1) -> OpenVariant:
        """Open a variant on this machine; Core ML off macOS by the reference evaluator.

        Raises:
            ConverterError: There is no such variant, or the evaluator does not know an operation of it.
            EdgeRuntimeError: Its runtime is not installed, or refuses it.
        """
        return OpenVariant(self.release, self.variant(variant_id), self.path, threads)

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        head = "".join(f"<th>{escape(column)}</th>" for column in _COLUMNS)
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(variant))}</tr>"
            for variant in self.variants
        )
        title = escape(f"{self.release.name} {self.release.version}, in {self.path}")
        return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(variant: Variant) -> tuple[str, ...]:
    quality, latency = variant.metrics.quality, variant.metrics.latency
    worth = "–"
    if quality is not None:
        value, low, high = (item / MILLION for item in (quality.value_ppm, quality.low_ppm, quality.high_ppm))
        worth = f"{quality.metric} {value:.4f} [{low:.3f}, {high:.3f}], n={quality.n}"
    return (
        variant.id,
        variant.verification.status.value.replace("_", " "),
        f"{variant.metrics.size_bytes / _KILOBYTE:.1f}",
        worth,
        "–" if latency is None else str(latency.p50_us),
        variant.verification.how,
    )
