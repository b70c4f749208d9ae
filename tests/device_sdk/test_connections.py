"""TLS, client certificates, proxies and deadlines, against real servers on loopback."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_sdk.config import TlsConfig
from device_sdk.errors import ConfigError, NetworkError
from device_sdk.transport import Limits, Transport
from tests.support.certificates import Authority
from tests.support.devices import Device, make_device, settle
from tests.support.fleet import TestServer
from tests.support.network import answer, run_proxy

pytestmark = pytest.mark.usefixtures("no_self_test")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tls_table(**paths: Path) -> str:
    return "[tls]\n" + "\n".join(f'{name} = "{path}"' for name, path in paths.items())


def test_an_update_over_mutual_tls(
    server: TestServer, authority: Authority, behind: Callable[..., Device]
) -> None:
    """The server asks every device for a certificate; one without is not let in, and says why."""
    context = authority.server_context(authority.issue("server"), asks_clients=True)
    mine = authority.issue("device")
    with run_proxy(server.url, tls=context) as proxy:
        tls = tls_table(ca_bundle=authority.bundle, certificate=mine.certificate, key=mine.key)
        device = behind(server, proxy.url, tls=tls)
        settle(device)
        assert (device.live, device.update) == ("1.0.0", "healthy")
        assert any(path.startswith("POST ") for path in proxy.paths())  # enrolled and reported, too

        nobody = behind(server, proxy.url, tls=tls_table(ca_bundle=authority.bundle))
        # In TLS 1.3 the refusal comes after the handshake, and may find the request still on its way.
        assert re.search(r"certificate required|reset|EOF|Broken pipe", nobody.poll())
        stranger = Authority(authority.bundle.parent / "other").issue("stranger")
        tls = tls_table(ca_bundle=authority.bundle, certificate=stranger.certificate, key=stranger.key)
        refused = behind(server, proxy.url, tls=tls)
        refused.poll()
        assert (nobody.live, refused.live) == (None, None)


@pytest.mark.parametrize(
    ("host", "days", "bundle", "says"),
    [
        ("127.0.0.1", 30, False, "self-signed certificate in certificate chain|unable to get local issuer"),
        ("other.example", 30, True, "not valid for|doesn't match|mismatch"),
        ("127.0.0.1", -1, True, "expired"),
    ],
)
def test_a_server_that_cannot_prove_who_it_is_gets_no_request(
    authority: Authority, host: str, days: int, says: str, *, bundle: bool
) -> None:
    context = authority.server_context(authority.issue("dubious", host=host, days=days))
    tls = TlsConfig(ca_bundle=authority.bundle) if bundle else None
    with run_proxy("http://127.0.0.1:1", tls=context) as proxy, closing(Transport(tls=tls)) as transport:
        with pytest.raises(NetworkError, match=says):
            transport.get(proxy.url + "/metadata/timestamp.json", max_bytes=10)
        assert proxy.seen == []


@contextlib.contextmanager
def closing(transport: Transport) -> Iterator[Transport]:
    yield transport
    transport.close()


def test_files_of_tls_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    mine = authority.issue("named")
    sealed = authority.issue("sealed", passphrase=b"open sesame")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage")
    cases = {
        "nowhere.pem": TlsConfig(ca_bundle=tmp_path / "nowhere.pem"),
        "garbage.pem": TlsConfig(ca_bundle=garbage),
        "named.pem": TlsConfig(certificate=mine.certificate, key=sealed.key),
        "encrypted": TlsConfig(certificate=sealed.certificate, key=sealed.key),
        "not here": TlsConfig(certificate=tmp_path / "not here", key=mine.key),
    }
    for says, tls in cases.items():
        with pytest.raises(ConfigError, match=says):
            Transport(tls=tls)


def test_a_key_without_its_certificate_is_refused(server: TestServer, tmp_path: Path) -> None:
    device = make_device(server, tmp_path / "device", tls=tls_table(key=tmp_path / "key.pem"))
    with pytest.raises(ConfigError, match="needs its certificate"):
        _ = device.config


def test_the_cloud_has_authorities_of_its_own(
    server: TestServer, authority: Authority, tmp_path: Path
) -> None:
    """The fleet's client certificate is not shown to somebody else's endpoint, unless it is told to be."""
    mine = authority.issue("for-the-server")
    cloud = f'[cloud]\nurl = "https://cloud.example"\nca_bundle = "{authority.bundle}"'
    tls = tls_table(certificate=mine.certificate, key=mine.key)
    config = make_device(server, tmp_path / "device", tls=tls, cloud=cloud).config
    assert config.cloud is not None
    assert config.cloud.tls == TlsConfig(ca_bundle=authority.bundle)
    assert config.tls == TlsConfig(certificate=mine.certificate, key=mine.key)


class ForwardProxy(socketserver.BaseRequestHandler):
    """A real HTTP proxy, for plain requests and for CONNECT; notes what it was asked."""

    asked: list[tuple[str, str]]

    def handle(self) -> None:
        stream = self.request.makefile("rb")
        method, target, _ = stream.readline().decode().split(" ")
        headers = http.client.parse_headers(stream)
        self.asked.append((f"{method} {target}", headers.get("Proxy-Authorization", "")))
        if method == "CONNECT":
            host, _, port = target.partition(":")
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection((host, int(port))) as upstream:
                self._carry(upstream)
            return
        body = b"through the proxy"
        self.request.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        self.request.sendall(body)

    def _carry(self, upstream: socket.socket) -> None:
        def back() -> None:
            with contextlib.suppress(OSError):
                while data := upstream.recv(65536):
                    self.request.sendall(data)

        thread = threading.Thread(target=back, daemon=True)
        thread.start()
        with contextlib.suppress(OSError):
            while data := self.request.recv(65536):
                upstream.sendall(data)


@pytest.fixture
def forward() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A proxy's address, and what it was asked."""
    asked: list[tuple[str, str]] = []
    bound = type("Bound", (ForwardProxy,), {"asked": asked})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), bound) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def test_plain_http_goes_through_the_proxy_of_the_environment(
    forward: tuple[str, list[tuple[str, str]]],
) -> None:
    address, asked = forward
    environ = {"http_proxy": f"http://me:p%40ss@{address}", "no_proxy": "localhost,.internal"}
    with closing(Transport(environ=environ)) as transport:
        assert transport.get("http://models.example/x", max_bytes=99).body == b"through the proxy"
        with pytest.raises(NetworkError):
            transport.get("http://localhost:1/x", max_bytes=99)
    credentials = base64.b64encode(b"me:p@ss").decode()
    assert asked == [("GET http://models.example/x", f"Basic {credentials}")]


def test_https_goes_through_a_tunnel_and_is_verified_at_its_far_end(
    forward: tuple[str, list[tuple[str, str]]], authority: Authority, server: TestServer
) -> None:
    address, asked = forward
    context = authority.server_context(authority.issue("far-end"))
    with run_proxy(server.url, tls=context) as far:
        far.misbehave("/x", answer(200, b"from the far end"))
        environ = {"https_proxy": f"http://{address}"}
        with closing(Transport(tls=TlsConfig(ca_bundle=authority.bundle), environ=environ)) as transport:
            assert transport.get(f"{far.url}/x", max_bytes=99).body == b"from the far end"
        with (
            closing(Transport(environ=environ)) as transport,
            pytest.raises(NetworkError, match="certificate"),
        ):
            transport.get(f"{far.url}/x", max_bytes=99)
    assert {what for what, _ in asked} == {f"CONNECT {far.url.removeprefix('https://')}"}


def test_the_environment_of_the_process_is_honoured(
    forward: tuple[str, list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = forward
    monkeypatch.setenv("http_proxy", address)  # without a scheme, as many write it
    with closing(Transport()) as transport:
        transport.get("http://models.example/x", max_bytes=99)
    assert len(asked) == 1


def test_a_dead_proxy_is_a_lost_link_and_its_password_stays_secret() -> None:
    environ = {"http_proxy": "http://me:swordfish@127.0.0.1:1"}
    with closing(Transport(environ=environ)) as transport, pytest.raises(NetworkError) as caught:
        transport.get("http://models.example/x", max_bytes=99)
    assert "swordfish" not in str(caught.value)


def test_a_proxy_of_another_kind_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="socks5"):
        Transport(environ={"all_proxy": "socks5://me:swordfish@127.0.0.1:1"})


TRICKLES = {
    "headers": b"HTTP/1.1 200 OK\r\nX-Padding: ",
    "status line": b"HTTP/1.1 200 ",
    "a chunk's length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ",
    "more headers": b"HTTP/1.1 200 OK\r\n",
}


@pytest.mark.parametrize("where", TRICKLES)
def test_a_trickle_outside_the_body_is_given_up(where: str) -> None:
    """Each byte comes well within the silence limit; only a deadline over all of them ends it."""
    endless = b"X: y\r\n" if where == "more headers" else b"x"
    stop = threading.Event()

    class Trickler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with contextlib.suppress(OSError):
                self.request.sendall(TRICKLES[where])
                while not stop.wait(0.02):
                    self.request.sendall(endless[:1])

    limits = Limits(silence_s=5.0, headers_s=0.4, patience_s=0.4)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Trickler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/x"
        began = time.monotonic()
        with closing(Transport(limits)) as transport:
            with pytest.raises(NetworkError):
                transport.get(url, max_bytes=10**6)
            with pytest.raises(NetworkError):
                transport.send(url, b"", headers={}, max_bytes=10**6, timeout_s=0.4)
        took = time.monotonic() - began
        stop.set()
        server.shutdown()
    assert took < 4, "a limit on silence alone would have waited for ever"
