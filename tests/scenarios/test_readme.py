"""What the README tells a newcomer to type works as written, in a fresh copy of the repository."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packages import cache_environment, session_folder

_ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORTS = (8000, 9000)


def _script(environment: Path) -> str:
    """Every block of the README's tour as one shell script that stops at the first failure."""
    parts = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for language, text in _BLOCK.findall((_ROOT / "README.md").read_text()):
        if language == "python":
            parts.append(f"python - <<'PYTHON'\n{text}PYTHON")
        elif text.startswith("make setup"):
            # The tests run inside the very environment that `make setup` makes.
            parts.append(f'export PATH="{environment}:$PATH"')
        else:
            parts.append(text)
    return "\n".join(parts)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tracked files, with nothing built in it."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=_ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in tracked:
        if (_ROOT / name).is_file():
            target = tmp_path / "ferry" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_ROOT / name, target)
    return tmp_path / "ferry"


def test_the_tour_works_as_typed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for port in _PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port}, which the README uses, is taken on this machine")
    process = subprocess.Popen(
        ["bash", "-c", _script(Path(sys.executable).parent)],
        cwd=checkout,
        env={
            **cache_environment(session_folder(tmp_path_factory)),  # what other tests converted is known
            "FERRY_CONFIG": str(checkout / "credentials.json"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=280)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output[-6000:]
    for expected in (
        "published vision/digits 1.0.0",
        "logged in to http://127.0.0.1:8000 as alice",
        "1.0.0 is live on trial",
        "live 1.0.0",
        "1 of 1 known devices",
        "completed",
    ):
        assert expected in output, f"{expected!r} is missing in:\n{output[-6000:]}"
