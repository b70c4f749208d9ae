"""What devices poll: metadata, manifests and blobs as plain files, and nothing else of the data folder."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass

import pytest

from ota_contract.manifest import Release
from ota_server.adapters.files import write_durably
from tests.support.calls import Answer, Caller, send_raw
from tests.support.fleet import TestServer
from tests.support.tiny import TinyRelease

IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(slots=True, kw_only=True)
class Site:
    server: TestServer
    release: Release

    @property
    def blob(self) -> tuple[str, bytes]:
        """Path and bytes of the model."""
        file = self.release.variants[0].files[0]
        path = f"blobs/sha256/{file.sha256[:2]}/{file.sha256}"
        return f"/{path}", (self.server.data / path).read_bytes()

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """GET with headers; underscores stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Caller(self.server.url)(method, path, headers=named)


@pytest.fixture(scope="module")
def site(shared: TestServer) -> Site:
    return Site(server=shared, release=shared.publish(TinyRelease()))


def test_an_unchanged_timestamp_is_answered_without_a_body(site: Site) -> None:
    """The whole traffic of a device when nothing changed."""
    first = site.get("/metadata/timestamp.json")
    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-control"] == "no-cache"
    for tag in (first.headers["etag"], f"W/{first.headers['etag']}", f'"x", {first.headers["etag"]}', "*"):
        again = site.get("/metadata/timestamp.json", If_None_Match=tag)
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["cache-control"] == "no-cache"
    other = site.get("/metadata/timestamp.json", If_None_Match='"other"')
    assert (other.status, other.body) == (200, first.body)


def test_two_timestamps_of_one_moment_and_length_have_two_etags(server: TestServer) -> None:
    """Else a device would be told that nothing changed, and keep the older policy."""
    site = Site(server=server, release=server.publish(TinyRelease()))
    path = server.data / "repository" / "metadata" / "timestamp.json"
    data = path.read_bytes()
    tags = set()
    for number in (b"1", b"2"):
        write_durably(path, data[:-1] + number)
        os.utime(path, ns=(10**18, 10**18))
        tags.add(site.get("/metadata/timestamp.json").headers["etag"])
    assert len(tags) == 2


def test_a_timestamp_replaced_all_the_while_is_always_whole(server: TestServer) -> None:
    """Length and bytes of one answer are of one file, however long each version is."""
    site = Site(server=server, release=server.publish(TinyRelease()))
    path = server.data / "repository" / "metadata" / "timestamp.json"
    versions = [b"a" * 100, b"b" * 50_000, b"c" * 1]
    finished = threading.Event()

    def replace() -> None:
        while not finished.is_set():
            for data in versions:
                staged = path.with_suffix(".tmp")
                staged.write_bytes(data)
                staged.replace(path)

    thread = threading.Thread(target=replace)
    write_durably(path, versions[0])
    thread.start()
    try:
        for _ in range(200):
            assert site.get("/metadata/timestamp.json").body in versions
    finally:
        finished.set()
        thread.join()


def test_metadata_manifests_and_blobs_are_kept_for_ever(site: Site) -> None:
    sha256 = hashlib.sha256(
        (site.server.root / "packages" / "1.0.0-0" / "release.json").read_bytes()
    ).hexdigest()
    for path in (
        "/metadata/1.root.json",
        "/metadata/2.snapshot.json",
        "/metadata/2.pub-vision.json",
        f"/targets/rel/vision/digits/{sha256}.1.0.0.json",
        site.blob[0],
    ):
        answer = site.get(path)
        assert answer.status == 200, path
        assert answer.headers["cache-control"] == IMMUTABLE
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert answer.headers["accept-ranges"] == "bytes"
        again = site.get(path, If_None_Match=answer.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        if path.endswith(".json"):
            assert answer.headers["content-type"] == "application/json"


def test_head_tells_the_length_alone(site: Site) -> None:
    path, data = site.blob
    answer = site.get(path, "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == len(data)
    assert site.get("/metadata/timestamp.json", "HEAD").body == b""


@pytest.mark.parametrize(
    ("wanted", "start", "end"), [("0-9", 0, 10), ("100-", 100, None), ("-20", -20, None), ("0-0", 0, 1)]
)
def test_a_part_is_served_as_asked_for(wanted: str, start: int, end: int | None, site: Site) -> None:
    path, data = site.blob
    answer = site.get(path, Range=f"bytes={wanted}")
    assert answer.status == 206
    assert answer.body == data[start:end]
    first = start % len(data)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(data)}"


def test_a_part_behind_the_end_is_refused_with_the_length(site: Site) -> None:
    path, data = site.blob
    answer = site.get(path, Range=f"bytes={len(data)}-")
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


def test_a_part_of_another_version_becomes_the_whole(site: Site) -> None:
    """If-Range keeps two files from being glued together."""
    path, data = site.blob
    tag = site.get(path).headers["etag"]
    same = site.get(path, Range="bytes=5-", If_Range=tag)
    assert (same.status, same.body) == (206, data[5:])
    other = site.get(path, Range="bytes=5-", If_Range='"other"')
    assert (other.status, other.body) == (200, data)


@pytest.mark.parametrize(
    "path", ["/metadata", "/metadata/", "/targets/", "/targets/rel/vision/", "/blobs/sha256/"]
)
def test_no_folder_is_listed(path: str, site: Site) -> None:
    answer = site.get(path)
    assert answer.status in (404, 307)
    assert b"1.root" not in answer.body


SECRETS = ("keys.json", "keys/ro-vision.pem", "ferry.db", "uploads")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("mount", ["metadata", "targets", "blobs"])
@pytest.mark.parametrize(
    "up",
    [
        "../",
        "../../",
        "%2e%2e/",
        "%2e%2e/%2e%2e/",
        "..%2f",
        "..%2f..%2f",
        "..%5c",
        "....//",
        "/",
        "//",
        "%2f",
        "x/../../",
        "x/../../../",
        "%c0%ae%c0%ae/",
        "\\..\\..\\",
    ],
)
def test_no_path_leads_out_of_the_published_folders(up: str, mount: str, secret: str, site: Site) -> None:
    """Keys, tokens and unfinished uploads are never served."""
    answer = send_raw(site.server.url, f"/{mount}/{up}{secret}")
    assert answer.status in (400, 404), answer
    assert b"PRIVATE KEY" not in answer.body


@pytest.mark.parametrize(
    "path", ["/ferry.db", "/keys.json", "/keys/ro-vision.pem", "/server/keys.json", "/", "/.git"]
)
def test_the_data_folder_itself_is_not_mounted(path: str, site: Site) -> None:
    assert site.get(path).status == 404


def test_an_absolute_path_is_not_followed(site: Site) -> None:
    for mount in ("metadata", "targets", "blobs"):
        assert send_raw(site.server.url, f"/{mount}//{site.server.data}/keys.json").status == 404


def test_a_link_out_of_the_folder_is_not_followed(server: TestServer) -> None:
    (server.data / "blobs" / "link").symlink_to(server.data / "keys")
    assert Caller(server.url)("GET", "/blobs/link/ro-vision.pem").status == 404


@pytest.mark.parametrize("name", ["%00", "timestamp.json%00.png", "x" * 5000, "%ff%fe", "con", "~root", "*"])
def test_strange_names_are_not_found(name: str, site: Site) -> None:
    for mount in ("metadata", "targets", "blobs"):
        assert send_raw(site.server.url, f"/{mount}/{name}").status == 404


def test_files_staged_by_a_publication_under_way_are_not_served(server: TestServer) -> None:
    for path in ("repository/metadata/.timestamp.json.new", "repository/metadata/.7.snapshot.json.new"):
        (server.data / path).write_text("half")
        mounted = path.replace("repository/", "/")
        Caller(server.url)("GET", mounted).refused(404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_is_written_through_the_static_files(method: str, site: Site) -> None:
    path, data = site.blob
    for target in (path, "/metadata/timestamp.json"):
        site.get(target, method).refused(405)
    assert site.get(path).body == data


def test_what_is_missing_is_a_problem_nobody_keeps(site: Site) -> None:
    """A device asks for the next root each time: a cached "no" would hide a rotation."""
    answer = site.get("/metadata/2.root.json")
    answer.refused(404)
    assert "cache-control" not in answer.headers
