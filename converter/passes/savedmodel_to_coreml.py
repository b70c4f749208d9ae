"""SavedModel → Core ML: the serving signature is traced and converted as a Keras model is."""

from __future__ import annotations

from converter.passes.keras_to_coreml import run

__all__ = ["run"]
