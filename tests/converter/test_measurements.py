"""A measurement is found again under exactly what it depends on."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from converter.host import this_host
from converter.measurements import Key, Measurement, MeasurementCache, default_cache

KEY = Key(
    model_sha256="0" * 64, runtime="onnx", runtime_version="1.32.0", threads=1, cpu="Some CPU", code_version=1
)
MEASUREMENT = Measurement(p50_us=7, p99_us=11, runs=1000, resident_bytes=50_000_000)


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    cache = MeasurementCache(tmp_path / "deep" / "cache")
    assert cache.find(KEY) is None
    cache.keep(KEY, MEASUREMENT)
    assert cache.find(KEY) == MEASUREMENT
    assert [path.suffix for path in (tmp_path / "deep" / "cache").iterdir()] == [".json"]


@pytest.mark.parametrize("field", [field.name for field in fields(Key)])
def test_another_key_is_another_measurement(tmp_path: Path, field: str) -> None:
    cache = MeasurementCache(tmp_path)
    cache.keep(KEY, MEASUREMENT)
    value = getattr(KEY, field)
    changed: Any = value + 1 if isinstance(value, int) else f"{value}x"
    assert cache.find(replace(KEY, **{field: changed})) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":"ferry.measurement/2"}'])
def test_a_damaged_file_is_measured_again(tmp_path: Path, content: bytes) -> None:
    cache = MeasurementCache(tmp_path)
    cache.keep(KEY, MEASUREMENT)
    next(tmp_path.iterdir()).write_bytes(content)
    assert cache.find(KEY) is None
    cache.keep(KEY, MEASUREMENT)
    assert cache.find(KEY) == MEASUREMENT


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = MeasurementCache(blocked / "cache")
    cache.keep(KEY, MEASUREMENT)
    assert cache.find(KEY) is None


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"FERRY_CACHE": "{0}/a"}, "a/measurements"),
        ({"XDG_CACHE_HOME": "{0}/b"}, "b/ferry/measurements"),
        ({"FERRY_CACHE": "", "XDG_CACHE_HOME": "{0}/b"}, "b/ferry/measurements"),
    ],
)
def test_the_environment_says_where_it_is(tmp_path: Path, environment: dict[str, str], folder: str) -> None:
    cache = default_cache({name: value.format(tmp_path) for name, value in environment.items()})
    cache.keep(KEY, MEASUREMENT)
    assert list((tmp_path / folder).glob("*.json"))


def test_the_host_is_named() -> None:
    host = this_host()
    assert host.cpu
    assert host.isa.split()
