"""Evaluates a saved mlpackage without Apple's runtime, so that other machines can verify Core ML variants.

It proves what the file says: the program's semantics by MIL's definition, its weights as stored, rounding to
the declared types after every operation. It proves nothing of Apple's compiler, of the Neural Engine, or of
speed. What it does not know it refuses by name (`UnsupportedOperationError`); it never guesses.

`loading` and `blobs` read files into a `program`, `evaluator` runs it by the table in `operations`, which
joins the operation groups; `runtime` puts it behind the port of the runtimes.
"""

from __future__ import annotations

__all__: list[str] = []
