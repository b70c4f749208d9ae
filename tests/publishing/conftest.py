"""A server to publish to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import TestServer, start_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TestServer]:
    """A server with publishers `vision` and `audio`."""
    running = start_server(tmp_path / "server", publishers=("vision", "audio"))
    yield running
    running.stop()
