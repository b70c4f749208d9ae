"""The answers of an ONNX source, by ONNX Runtime from the file as it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime

from converter.errors import SourceError
from converter.jobs import Job
from converter.onnx_ml.zipmaps import unzipped
from converter.passes.onnx_source import open_onnx
from converter.recipe import Recipe, shown_path
from edge_runtime.port import AnyArray

__all__ = ["OnnxReference"]

_FATAL = 4
_LINE = 200


class OnnxReference:
    """The source, ready to be asked."""

    def __init__(self, job: Job, recipe: Recipe) -> None:
        """Check and open the source of a recipe.

        Raises:
            SourceError: It cannot be opened, or is not what the recipe describes.
        """
        source = open_onnx(job, recipe)
        self._matched, self._zipped = source.matched, source.zipped
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # sums must not depend on how many cores this machine has
        options.log_severity_level = _FATAL
        try:
            self._session = onnxruntime.InferenceSession(
                str(recipe.source), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            line = str(error).strip().partition("\n")[0][:_LINE]
            raise SourceError(f"ONNX Runtime cannot open {shown_path(recipe.source)}: {line}") from error
        self.one_by_one = any(item.fixed_batch for item in self._matched.inputs)
        """Whether it takes one batch size alone."""

    def __call__(self, inputs: Mapping[str, AnyArray]) -> list[AnyArray]:
        """The outputs, in the recipe's order, for inputs as the recipe has them after all its steps."""
        fed = {}
        for item in self._matched.inputs:
            array = inputs[item.plan.tensor.name]
            if item.permutation:
                array = np.ascontiguousarray(array.transpose(item.permutation))
            fed[item.inner] = array.astype(item.dtype)
        names = [inner for _, inner in self._matched.outputs]
        results = self._session.run(names, fed)
        return [
            unzipped(result, self._zipped[name]) if name in self._zipped else result
            for name, result in zip(names, results, strict=True)
        ]
