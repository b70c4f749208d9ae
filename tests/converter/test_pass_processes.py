"""A pass runs in a process that cannot outlive its limits, its cancellation or its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from converter.errors import PassError, Reason
from converter.jobs import Job, write_job
from converter.processes import run_job
from converter.recipe import Limits, Overrides
from tests.packages import RECIPE

MEBIBYTE = 2**20
GENEROUS = Limits(timeout_s=60, memory_bytes=4096 * MEBIBYTE)


@pytest.fixture
def misbehave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the processes of passes find `converter.passes.<name>` for code a test writes."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import converter.passes\nconverter.passes.__path__.append({str(folder)!r})\n"
    )
    monkeypatch.setattr("converter.processes._ROOT", f"{RECIPE.parents[2]}{os.pathsep}{folder}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def _job(folder: Path, name: str, code: str = "") -> Job:
    if code:
        (folder / f"{name}.py").write_text(code)
    return Job(
        name=name,
        folder=folder.parent / f"job-{name}",
        recipe_path=RECIPE,
        overrides=Overrides(),
        inputs={},
        params={},
    )


def _failure(job: Job, limits: Limits = GENEROUS, cancelled: threading.Event | None = None) -> PassError:
    with pytest.raises(PassError) as caught:
        run_job(job, limits=limits, cancelled=cancelled or threading.Event())
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_pass_answers_with_facts_and_files(misbehave: Path) -> None:
    code = "def run(job):\n    (job.out / 'x').write_text('made')\n    return {'n': 3}\n"
    job = _job(misbehave, "good", code)
    assert run_job(job, limits=GENEROUS, cancelled=threading.Event()).facts == {"n": 3}
    assert (job.out / "x").read_text() == "made"


def test_a_pass_that_hangs_is_ended(misbehave: Path) -> None:
    job = _job(misbehave, "hang", "import time\ndef run(job):\n    time.sleep(600)\n")
    error = _failure(job, Limits(timeout_s=1, memory_bytes=GENEROUS.memory_bytes))
    assert error.reason is Reason.TIMEOUT
    assert "still running after 1 s; raise limits.timeout_s" in str(error)


def test_a_pass_that_eats_memory_is_ended(misbehave: Path) -> None:
    code = "def run(job):\n    eaten = []\n    while True:\n        eaten.append(b'x' * 2**20)\n"
    error = _failure(_job(misbehave, "eat", code), Limits(timeout_s=60, memory_bytes=200 * MEBIBYTE))
    assert error.reason is Reason.MEMORY
    assert "at most 200 are allowed; raise limits.memory_mb" in str(error)


def test_what_a_pass_raises_is_one_line_and_its_log_is_kept(misbehave: Path) -> None:
    code = "def run(job):\n    print('before')\n    raise ValueError('bad axis\\nand more')\n"
    error = _failure(_job(misbehave, "boom", code))
    assert error.reason is Reason.RAISED
    assert "boom failed (raised): ValueError: bad axis; its log is" in str(error)
    assert error.log is not None
    assert "before" in error.log.read_text()
    assert "Traceback" in error.log.read_text()


def test_a_pass_that_dies_is_said_to_have_died(misbehave: Path) -> None:
    code = "import os\ndef run(job):\n    os.kill(os.getpid(), 11)\n"
    error = _failure(_job(misbehave, "die", code))
    assert error.reason is Reason.CRASHED
    assert "ended by SIGSEGV" in str(error)


def test_a_cancelled_pass_ends_with_what_it_started(misbehave: Path) -> None:
    code = (
        "import subprocess\nimport sys\nimport time\n"
        "def run(job):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    (job.out / 'pid').write_text(str(child.pid))\n"
        "    time.sleep(600)\n"
    )
    job, cancelled = _job(misbehave, "nest", code), threading.Event()
    pid_file = job.out / "pid"

    def cancel() -> None:
        while not (pid_file.exists() and pid_file.read_text()):
            time.sleep(0.02)
        cancelled.set()

    threading.Thread(target=cancel, daemon=True).start()
    error = _failure(job, cancelled=cancelled)
    assert error.reason is Reason.CANCELLED
    assert error.log is None
    _await_end(int(pid_file.read_text()))


def test_a_hidden_package_cannot_be_imported(misbehave: Path) -> None:
    code = (
        "def run(job):\n"
        "    try:\n        import json.tool, wave\n"
        "    except ModuleNotFoundError as error:\n        return {'hidden': error.name}\n"
    )
    job = _job(misbehave, "hide", code)
    hidden = Job(**{**{name: getattr(job, name) for name in Job.__slots__}, "hides": ("wave",)})
    assert run_job(hidden, limits=GENEROUS, cancelled=threading.Event()).facts == {"hidden": "wave"}


def test_a_pass_does_not_outlive_its_parent(misbehave: Path) -> None:
    """Killed outright, the converter can clean nothing up; its children notice by themselves."""
    job = _job(misbehave, "orphan", "import time\ndef run(job):\n    time.sleep(600)\n")
    write_job(job)
    parent = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'converter.pass_process', sys.argv[1]],"
        " stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{RECIPE.parents[2]}{os.pathsep}{misbehave}"}
    done = subprocess.run(
        [sys.executable, "-c", parent, str(job.folder)], stdout=subprocess.PIPE, env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    _await_end(int(done.stdout))


def _await_end(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":  # ended; nobody has asked how
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} still runs")
