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
from converter.jobs import Job, Point, write_job
from converter.processes import run_job
from converter.recipe import Limits, Overrides
from tests.converter.processes import await_end
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


HELPED = (
    "import subprocess\nimport sys\nimport time\n"
    'HELPER = """\nimport time\neaten = bytearray(300 * 2**20)\ntime.sleep(600)\n"""\n'
    "def run(job):\n"
    "    helper = subprocess.Popen([sys.executable, '-c', HELPER])\n"
    "    (job.out / 'pid').write_text(str(helper.pid))\n"
    "    time.sleep(600)\n"
)


def test_what_a_pass_starts_counts_as_its_memory(misbehave: Path) -> None:
    """The pass itself stays small; its helper takes what the pass may not."""
    job = _job(misbehave, "helped", HELPED)
    error = _failure(job, Limits(timeout_s=60, memory_bytes=250 * MEBIBYTE))
    assert error.reason is Reason.MEMORY
    await_end([int((job.out / "pid").read_text())])


def test_memory_the_system_refuses_is_said_so(misbehave: Path) -> None:
    code = "def run(job):\n    bytearray(2**60)\n"
    assert _failure(_job(misbehave, "refused", code)).reason is Reason.MEMORY


def test_an_error_names_the_operator_and_layer(misbehave: Path) -> None:
    code = (
        "import numpy as np\nimport onnx\nimport onnxruntime\nfrom onnx import TensorProto, helper\n"
        "def run(job):\n"
        "    x = helper.make_tensor_value_info('x', TensorProto.FLOAT, [2, 3])\n"
        "    y = helper.make_tensor_value_info('y', TensorProto.FLOAT, None)\n"
        "    shape = helper.make_tensor('shape', TensorProto.INT64, [1], [5])\n"
        "    node = helper.make_node('Reshape', ['x', 'shape'], ['y'], name='head/flatten')\n"
        "    graph = helper.make_graph([node], 'g', [x], [y], [shape])\n"
        "    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)\n"
        "    session = onnxruntime.InferenceSession(model.SerializeToString())\n"
        "    session.run(None, {'x': np.zeros((2, 3), np.float32)})\n"
    )
    error = _failure(_job(misbehave, "reshape", code))
    assert error.fault == "op Reshape, layer head/flatten"
    assert "reshape failed (raised): op Reshape, layer head/flatten: " in str(error)
    assert error.log is not None


def test_a_pass_says_how_far_it_is(misbehave: Path) -> None:
    code = (
        "import time\nfrom converter.passes.telling import counted\n"
        "def run(job):\n"
        "    for _ in counted(job, range(5), total=5, what='layers'):\n        time.sleep(0.3)\n"
        "    return {}\n"
    )
    points: list[Point] = []
    run_job(_job(misbehave, "tell", code), limits=GENEROUS, cancelled=threading.Event(), told=points.append)
    assert points
    assert {(point.what, point.total) for point in points} == {("layers", 5)}
    assert [point.done for point in points] == sorted({point.done for point in points})


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
    await_end([int(pid_file.read_text())])


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
    """Killed outright, the converter can clean nothing up; its children notice, however busy they are."""
    code = (
        "import ctypes\nimport subprocess\nimport sys\n"
        "def run(job):\n"
        "    helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    (job.out / 'pid').write_text(str(helper.pid))\n"
        "    ctypes.PyDLL(None).sleep(600)\n"  # native code that holds the interpreter's lock
    )
    job = _job(misbehave, "orphan", code)
    write_job(job)
    parent = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'converter.pass_process', sys.argv[1]],"
        " stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "while not (os.path.exists(sys.argv[2]) and open(sys.argv[2]).read()):\n    time.sleep(0.02)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{RECIPE.parents[2]}{os.pathsep}{misbehave}"}
    done = subprocess.run(
        [sys.executable, "-c", parent, str(job.folder), str(job.out / "pid")],
        stdout=subprocess.PIPE,
        env=environment,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    await_end([int(done.stdout), int((job.out / "pid").read_text())])
