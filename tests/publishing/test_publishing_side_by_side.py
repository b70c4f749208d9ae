"""Two publishers at once, and a device that polls all the while."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.fleet import TestServer
from tests.support.tiny import TinyRelease
from tests.support.tuf_view import TufView, of_url

MODELS = ("vision/digits", "audio/keywords")
RELEASES = 5


def releases(model: str) -> list[TinyRelease]:
    return [
        TinyRelease(model=model, version=f"1.{number}.0", counter=number + 1, seed=number)
        for number in range(RELEASES)
    ]


def publish_all(server: TestServer, model: str) -> None:
    for tiny in releases(model):
        server.publish(tiny)


def poll(view: TufView, finished: threading.Event) -> int:
    polls = 0
    while not finished.is_set():
        view.releases("1.4.0")
        polls += 1
    return polls


def test_publishers_side_by_side_all_land_and_the_chain_holds_at_every_moment(
    server: TestServer, tmp_path: Path
) -> None:
    """A device polling throughout never sees metadata it must refuse."""
    finished = threading.Event()
    with ThreadPoolExecutor() as pool:
        polls = pool.submit(poll, of_url(server.url, server.trust_root, tmp_path / "poller"), finished)
        try:
            for publisher in [pool.submit(publish_all, server, model) for model in MODELS]:
                publisher.result()
        finally:
            finished.set()
        assert polls.result() > 3
    view = of_url(server.url, server.trust_root, tmp_path / "late")
    versions = [f"1.{number}.0" for number in range(RELEASES)]
    for model in MODELS:
        assert view.releases(*versions, model=model) == versions
