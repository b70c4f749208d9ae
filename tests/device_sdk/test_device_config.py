"""device.toml: strict, with defaults from the machine, every refusal naming file and key."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.attributes import installed_runtimes, machine_arch, machine_os, machine_ram_bytes
from device_sdk.config import Config, read_config
from device_sdk.errors import ConfigError

BASE = """server = "https://ferry.example.com"
store = "store"
trust_root = "root.json"
models = ["vision/digits"]
"""


def read(folder: Path, text: str) -> Config:
    path = folder / "device.toml"
    path.write_text(text)
    return read_config(path)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert "device.toml" in message
    assert "\n" not in message
    return message


def test_what_is_left_out_is_read_from_the_machine(tmp_path: Path) -> None:
    config = read(tmp_path, BASE)
    assert config.device.device_id == socket.gethostname()
    assert (config.device.os, config.device.arch) == (machine_os(), machine_arch())
    assert config.device.ram_bytes == machine_ram_bytes() > 0
    assert dict(config.device.runtimes) == installed_runtimes()
    assert config.cloud is None
    assert config.enrolment_token is None
    assert config.agent.poll_interval_s is None
    assert config.threads == 1


def test_core_ml_is_as_old_as_the_system_it_is_part_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as coremltools, which reads the same files on every macOS."""
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    assert installed_runtimes(["coreml"]) == {"coreml": "15.1"}


def test_urls_default_to_places_below_the_server(tmp_path: Path) -> None:
    config = read(tmp_path, BASE.replace("example.com", "example.com/"))
    assert config.server == "https://ferry.example.com"
    assert config.metadata_url == "https://ferry.example.com/metadata"
    assert config.targets_url == "https://ferry.example.com/targets"
    assert config.blobs_url == "https://ferry.example.com/blobs"
    config = read(tmp_path, 'blobs_url = "http://cdn/b/"\n' + BASE)
    assert config.blobs_url == "http://cdn/b"


def test_paths_are_relative_to_the_file_whatever_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "device.toml").write_text(BASE + '[enrolment]\ntoken_file = "t"\n')
    monkeypatch.chdir(tmp_path.parent)
    config = read_config(Path(os.path.relpath(tmp_path / "device.toml")))
    assert config.store == tmp_path / "store"
    assert config.trust_root == tmp_path / "root.json"
    assert config.enrolment_token == tmp_path / "t"
    absolute = read(tmp_path, BASE.replace('"store"', '"/var/lib/ferry"'))
    assert absolute.store == Path("/var/lib/ferry")


def test_everything_can_be_stated(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        BASE
        + 'threads = 4\n[device]\nid = "camera-7"\nhardware = "pi5"\nos = "linux"\narch = "aarch64"\n'
        + 'ram_bytes = 7\nruntimes = ["onnx"]\nregion = "eu"\nextra = {floor = 3, lit = true}\n'
        + '[cloud]\nurl = "http://c/"\nmodel = "m"\ntimeout_ms = 250\n'
        + "[agent]\npoll_interval_s = 0.5\nreport_interval_s = 9\nrollout_report_interval_s = 2.5\n",
    )
    device = config.device
    assert (device.device_id, device.hardware, device.arch) == ("camera-7", "pi5", "aarch64")
    assert (device.ram_bytes, set(device.runtimes), device.region) == (7, {"onnx"}, "eu")
    assert device.extra == {"floor": 3, "lit": True}
    assert config.cloud is not None
    assert (config.cloud.url, config.cloud.model, config.cloud.timeout_s) == ("http://c", "m", 0.25)
    assert config.agent.poll_interval_s == 0.5
    assert (config.agent.report_interval_s, config.agent.rollout_report_interval_s) == (9, 2.5)


def test_an_empty_list_of_runtimes_means_none(tmp_path: Path) -> None:
    assert read(tmp_path, BASE + "[device]\nruntimes = []\n").device.runtimes == {}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("serve = 1\n" + BASE, "serve is not a setting"),
        (BASE + "[device]\nname = 'x'\n", "[device] name is not a setting"),
        (BASE + "[cloud]\nurl = 'http://c'\ntimeout_s = 1\n", "[cloud] timeout_s is not a setting"),
        (BASE + "[agent]\npoll = 1\n", "[agent] poll is not a setting"),
        (BASE + "[enrolment]\ntoken = 'x'\n", "[enrolment] token is not a setting"),
        ("device = 3\n" + BASE, "[device] is a table"),
        (BASE.replace("server", "#"), "server: missing"),
        (BASE.replace("store =", "#"), "store: missing"),
        (BASE.replace("trust_root", "#"), "trust_root: missing"),
        (BASE.replace('["vision/digits"]', "[]"), "name at least one"),
        (BASE.replace('"vision/digits"', '"digits"'), "not written publisher/model"),
        (BASE.replace('"vision/digits"', '"vision/../etc"'), "model"),
        (BASE + "[device]\nid = '../x'\n", "device id"),
        (BASE + "[device]\nram_bytes = -1\n", "ram_bytes"),
        (BASE + "[device]\nruntimes = ['onxn']\n", "'onxn' is none of"),
        (BASE + "[agent]\npoll_interval_s = 0\n", "above 0"),
        (BASE + "[agent]\nreport_interval_s = -1\n", "above 0"),
        (BASE + "[agent]\npoll_interval_s = nan\n", "finite"),
        (BASE + "[agent]\npoll_interval_s = '5'\n", "poll_interval_s"),
        (BASE + "[cloud]\nmodel = 'm'\n", "url: missing"),
        (BASE + "[cloud]\nurl = 'http://c'\ntimeout_ms = 0\n", "timeout_ms"),
        ("threads = 0\n" + BASE, "threads"),
        ("threads = true\n" + BASE, "threads"),
        ("server = [", "not TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, names: str) -> None:
    assert names in refused(tmp_path, text)


@pytest.mark.parametrize(
    "url",
    [
        "ferry.example.com", "ftp://x", "", "http://", "https:///x", "http://[::1", "http://a:99999",
        "http://a b",
        "http://x/?q=1", "http://x/#f", "http://exämple", "file:///etc/passwd", "http://x:0",
    ],
)  # fmt: skip
def test_a_bad_url_is_named(tmp_path: Path, url: str) -> None:
    assert "server" in refused(tmp_path, BASE.replace("https://ferry.example.com", url))


def test_a_missing_or_unreadable_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: No such file"):
        read_config(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_config(tmp_path)
    (tmp_path / "device.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not TOML"):
        read_config(tmp_path / "device.toml")


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    path.write_text(BASE + text, errors="surrogatepass")
    with contextlib.suppress(ConfigError):
        read_config(path)
