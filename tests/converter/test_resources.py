"""What runs side by side fits the processors and the memory this process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from converter import process_groups, schedule
from converter.process_groups import group_resident_bytes, resident_bytes
from converter.recipe import Limits
from converter.resources import available_bytes, processors
from converter.schedule import places

GIBIBYTE = 2**30


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_processors_follow_the_affinity(tmp_path: Path) -> None:
    code = (
        "import os, sys\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pathlib import Path\nfrom converter.resources import processors\n"
        "print(processors(groups=Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert int(done.stdout) == 1


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_processors_follow_the_groups_quota(tmp_path: Path, files: dict[str, str], most: int | None) -> None:
    assert processors(groups=_write(tmp_path, files)) == (most or len(os.sched_getaffinity(0)))


MEMINFO = "MemTotal:       24683560 kB\nMemAvailable:    8388608 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8 * GIBIBYTE),
        ({"memory.max": "max", "memory.current": "5"}, 8 * GIBIBYTE),
        ({"memory.max": str(4 * GIBIBYTE), "memory.current": str(GIBIBYTE)}, 3 * GIBIBYTE),
        (
            {
                "memory.max": str(4 * GIBIBYTE),
                "memory.current": str(3 * GIBIBYTE),
                "memory.stat": f"anon 5\ninactive_file {GIBIBYTE}\n",
            },
            2 * GIBIBYTE,
        ),
        (
            {
                "memory/memory.limit_in_bytes": str(2 * GIBIBYTE),
                "memory/memory.usage_in_bytes": str(GIBIBYTE),
                "memory/memory.stat": "total_inactive_file 0\n",
            },
            GIBIBYTE,
        ),
    ],
)
def test_memory_is_what_system_and_group_leave(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    _write(tmp_path, {"meminfo": MEMINFO, **files})
    assert available_bytes(groups=tmp_path, meminfo=tmp_path / "meminfo") == expected


def test_where_nothing_tells_nothing_is_known(tmp_path: Path) -> None:
    assert available_bytes(groups=tmp_path, meminfo=tmp_path / "meminfo") is None


@pytest.mark.parametrize(
    ("free", "limit", "expected"),
    [(8, 2, 3), (5, 2, 2), (3, 2, 1), (1, 2, 1), (None, 2, 3)],
)
def test_passes_share_memory_by_their_limits(
    monkeypatch: pytest.MonkeyPatch, free: int | None, limit: int, expected: int
) -> None:
    monkeypatch.setattr(schedule, "processors", lambda: 3)
    monkeypatch.setattr(schedule, "available_bytes", lambda: free and free * GIBIBYTE)
    assert places(Limits(timeout_s=1, memory_bytes=limit * GIBIBYTE)) == expected


FAMILY = "import subprocess, sys, time\n{0}print(1, flush=True)\ntime.sleep(600)\n"
CHILD = (
    "subprocess.Popen([sys.executable, '-c', 'x = bytearray(80 * 2**20); print(2, flush=True); input()'])\n"
)


def test_a_group_is_counted_with_and_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ps` stands in for /proc where there is none; both count the child's 80 MB."""
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY.format(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert {process.stdout.readline(), process.stdout.readline()} == {b"1\n", b"2\n"}
    try:
        alone = resident_bytes(process.pid)
        assert 0 < alone < 60 * 2**20
        assert group_resident_bytes(process.pid) > alone + 80 * 2**20
        monkeypatch.setattr(process_groups, "_PROC", tmp_path)
        assert group_resident_bytes(process.pid) > alone + 80 * 2**20
        monkeypatch.setenv("PATH", str(tmp_path))
        assert group_resident_bytes(process.pid) == 0
    finally:
        os.killpg(process.pid, 9)
        process.communicate()
