"""Servers for tests of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fleet import TestServer, start_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TestServer]:
    """A server of its own, with publishers `vision` and `audio`."""
    running = start_server(tmp_path / "server", publishers=("vision", "audio"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """One server for a module's tests: for those that only look, or must leave everything as it was."""
    running = start_server(tmp_path_factory.mktemp("shared"), publishers=("vision", "audio"))
    yield running
    running.stop()
