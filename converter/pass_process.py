"""The process of one pass: `python -m converter.pass_process JOB_FOLDER`.

Frameworks are imported here and nowhere else in the converter. The environment they read is set before
that. The process ends itself when its parent is gone, so nothing runs on after a kill.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from pathlib import Path

from converter.errors import ConverterError, PassError, Reason
from converter.hidden import hide
from converter.jobs import Answer, read_job, write_answer
from ota_contract.errors import FerryError

__all__ = ["ENVIRONMENT", "main"]

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",  # a GPU's rounding would end up in calibration and reference
    "TF_DETERMINISTIC_OPS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # oneDNN's sums depend on the number of threads
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
}
_LINE = 300


def main(argv: list[str]) -> int:
    """Run the job of a folder; the answer is in its `result.json`."""
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    folder = Path(argv[0])
    job = read_job(folder)
    for name in job.hides:
        hide(name)
    try:
        module = importlib.import_module(f"converter.passes.{job.name}")
        answer = Answer(facts=module.run(job))
    except PassError as error:
        answer = Answer(facts={}, reason=error.reason, message=error.message)
    except FerryError as error:
        reason = Reason.SOURCE if isinstance(error, ConverterError) else Reason.RAISED
        answer = Answer(facts={}, reason=reason, message=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a converter raises is this pass's failure
        traceback.print_exc()
        answer = Answer(facts={}, reason=Reason.RAISED, message=_one_line(error))
    write_answer(folder, answer)
    sys.stdout.flush()
    return 0


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:_LINE]


def _end_with_parent() -> None:
    # The parent holds the other end of stdin and never writes: end of file means it died.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
