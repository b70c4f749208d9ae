"""What docs/device.md tells a publisher to type to send deltas works as written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.package import open_package
from tests.packages import digits_package, session_folder
from tests.support.documentation import blocks
from tests.support.fleet import start_server


def test_the_example_works_as_typed(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (script,) = blocks("docs/device.md", "sh", section="Deltas")
    session = session_folder(tmp_path_factory)
    shutil.copytree(digits_package(session), tmp_path / "build" / "digits")
    new = tmp_path / "build" / "digits-1.1.0"
    shutil.copytree(digits_package(session, gain_table=True), new)
    server = start_server(tmp_path)
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "FERRY_SERVER": server.url,
                "FERRY_TOKEN": server.tokens["publisher:vision"],
            },
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    release, _ = open_package(new)
    assert len(release.deltas) == 7
    assert "INSTEAD OF" in done.stdout
    sent = {file.sha256: file.length_bytes for file in release.files()}
    assert f"{sum(sent.values())} of {sum(sent.values())} bytes sent" in done.stdout
