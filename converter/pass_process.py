"""The process of one pass: `python -m converter.pass_process JOB_FOLDER`.

Frameworks are imported here and nowhere else in the converter. The environment they read is set before
that. Before that, a guard is forked off that ends everything when the parent is gone, so nothing runs on
after a kill, whatever a tool's native code is busy with.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from converter.blame import fault_in, texts_of
from converter.caching.code import OURS
from converter.errors import ConverterError, PassError, Reason
from converter.hidden import hide
from converter.jobs import Answer, Job, read_job, write_answer
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
    guard = _guard()
    folder = Path(argv[0])
    job = read_job(folder)
    for name in job.hides:
        hide(name)
    write_answer(folder, _answer(job))
    sys.stdout.flush()
    os.kill(guard, signal.SIGKILL)
    os.waitpid(guard, 0)
    return 0


def _answer(job: Job) -> Answer:
    try:
        module = importlib.import_module(job.runs)
        return Answer(facts=module.run(job), modules=tuple(_imported(job)))
    except PassError as error:
        fault = error.fault or _fault(error.__cause__)
        return Answer(facts={}, reason=error.reason, message=error.message, fault=fault)
    except FerryError as error:
        reason = Reason.SOURCE if isinstance(error, ConverterError) else Reason.RAISED
        return Answer(facts={}, reason=reason, message=str(error))
    except MemoryError:
        return Answer(facts={}, reason=Reason.MEMORY, message="the system has no more memory for it")
    except Exception as error:  # noqa: BLE001 - whatever a converter raises is this pass's failure
        traceback.print_exc()
        return Answer(facts={}, reason=Reason.RAISED, message=_one_line(error), fault=_fault(error))


def _fault(error: BaseException | None) -> str:
    return "" if error is None else next(filter(None, map(fault_in, texts_of(error))), "")


def _imported(job: Job) -> Iterator[str]:
    """Modules of the packages a result's key holds the code of, and the names of all other packages."""
    roots = (*OURS, job.runs.partition(".")[0])
    return (name for name in sorted(sys.modules) if "." not in name or name.partition(".")[0] in roots)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:_LINE]


def _guard() -> int:
    """Fork a process that waits for the parent's end and then kills this one and all it started.

    Returns its id. A thread would not do: native code may hold the interpreter's lock for minutes.
    """
    watched, group = os.getpid(), os.getpgrp()
    guard = os.fork()
    if guard:
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
            os.dup2(nothing.fileno(), 0)
        return guard
    # The parent holds the other end of stdin and never writes: end of file means that it died.
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    with contextlib.suppress(OSError):
        if group == watched:
            os.killpg(group, signal.SIGKILL)  # this process, too
        if os.getppid() == watched:
            os.kill(watched, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
