"""Reads `device.toml`, strictly: a key that means nothing is a typing error, not a wish.

server = "https://ferry.example.com"     # API; metadata and blobs lie below it, too
store = "/var/lib/ferry"                 # relative to this file
trust_root = "root.json"                 # from `ferry keys init`; comes with the device
models = ["vision/digits"]
[device]                                 # all optional: read from the machine
id = "camera-7"
[enrolment]
token_file = "enrolment.token"           # lets an unknown device register itself, once
[tls]                                    # optional: whom to believe, and who to be
ca_bundle = "ca.pem"                     # instead of the system's authorities
certificate = "device.pem"               # for servers that ask for one (mTLS)
key = "device-key.pem"
[cloud]                                  # takes the keys of [tls], too: the two are not the same party
url = "https://cloud.example.com"        # an Open Inference Protocol endpoint
"""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from device_sdk.attributes import (
    KNOWN_RUNTIMES,
    installed_runtimes,
    machine_arch,
    machine_os,
    machine_ram_bytes,
)
from device_sdk.errors import ConfigError
from ota_contract.device import Attributes, attributes_from
from ota_contract.documents import Reader, reader_of
from ota_contract.errors import ContractError, FormatError
from ota_contract.names import ModelName, parse_model

__all__ = ["AgentConfig", "CloudConfig", "CloudTakes", "Config", "TlsConfig", "read_config"]

_KNOWN: Mapping[str, frozenset[str]] = {
    "": frozenset(
        {
            "server",
            "metadata_url",
            "targets_url",
            "blobs_url",
            "store",
            "trust_root",
            "models",
            "device",
            "enrolment",
            "tls",
            "cloud",
            "agent",
            "threads",
        }
    ),
    "device": frozenset({"id", "hardware", "os", "arch", "ram_bytes", "runtimes", "region", "extra"}),
    "enrolment": frozenset({"token_file"}),
    "tls": frozenset({"ca_bundle", "certificate", "key"}),
    "cloud": frozenset({"url", "model", "takes", "timeout_ms", "ca_bundle", "certificate", "key"}),
    "agent": frozenset({"poll_interval_s", "report_interval_s", "rollout_report_interval_s"}),
}
_MAX_MODELS = 64
_REPORT_INTERVAL_S = 6 * 3600.0
"""Four reports a day: TLS handshakes, not reports, are what telemetry costs."""
_ROLLOUT_REPORT_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Whom to believe, and who to be; without a bundle the system's authorities are believed."""

    ca_bundle: Path | None = None
    certificate: Path | None = None
    """The device's own, with its chain, in PEM: the server may ask for it (mTLS)."""
    key: Path | None = None
    """Its private key, unencrypted PEM; None where `certificate` holds both."""


class CloudTakes(Enum):
    """What the cloud endpoint is sent."""

    RAW = "raw"
    """What the app gave: it prepares it itself, as `ferry cloud` does."""
    TENSORS = "tensors"
    """The model's own inputs: it serves the bare model, as other servers do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    """The endpoint at the end of the fallback chain."""

    url: str
    model: str
    """Its name there; empty means the model's own."""
    timeout_s: float
    tls: TlsConfig | None
    takes: CloudTakes = CloudTakes.RAW


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """How often the agent speaks."""

    poll_interval_s: float | None
    """None: what the signed policy says."""
    report_interval_s: float
    rollout_report_interval_s: float
    """The same while this device takes part in a rollout, whose health it decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A device's configuration with every path absolute."""

    server: str
    metadata_url: str
    targets_url: str
    blobs_url: str
    store: Path
    trust_root: Path
    models: tuple[ModelName, ...]
    device: Attributes
    enrolment_token: Path | None
    tls: TlsConfig | None
    cloud: CloudConfig | None
    agent: AgentConfig
    threads: int


def read_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: It is missing, malformed, or has an unknown key; the message names file and key.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; a device needs a device.toml") from error
    except (ValueError, RecursionError) as error:  # also of numbers too long and tables too deep to read
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        _refuse_unknown(content)
        return _config_from(reader_of(content, what=path.name), path.resolve().parent)
    except ContractError as error:
        raise ConfigError(f"{path}: {error}") from error


def _refuse_unknown(content: Mapping[str, Any]) -> None:
    for section, known in _KNOWN.items():
        table = content.get(section, {}) if section else content
        if not isinstance(table, Mapping):
            raise FormatError(f"[{section}] is a table")
        unknown = sorted(set(table) - known)
        if unknown:
            where = f"[{section}] " if section else ""
            raise FormatError(f"{where}{unknown[0]} is not a setting; known are {', '.join(sorted(known))}")


def _config_from(reader: Reader, folder: Path) -> Config:
    server = _url(reader, "server")
    models = reader.texts("models", max_items=_MAX_MODELS)
    if not models:
        reader.fail("models", 'name at least one, such as ["vision/digits"]')
    return Config(
        server=server,
        metadata_url=_url(reader, "metadata_url", f"{server}/metadata"),
        targets_url=_url(reader, "targets_url", f"{server}/targets"),
        blobs_url=_url(reader, "blobs_url", f"{server}/blobs"),
        store=folder / reader.text("store", max_length=4096),
        trust_root=folder / reader.text("trust_root", max_length=4096),
        models=tuple(map(parse_model, models)),
        device=_device(reader),
        enrolment_token=_enrolment(reader, folder),
        tls=_tls(reader.object("tls"), folder) if reader.has("tls") else None,
        cloud=_cloud(reader.object("cloud"), folder) if reader.has("cloud") else None,
        agent=_agent(reader.object("agent") if reader.has("agent") else Reader({}, "[agent]")),
        threads=reader.integer("threads", low=1, high=256, default=1),
    )


def _device(reader: Reader) -> Attributes:
    """Fill in what the file leaves to the machine."""
    stated: dict[str, Any] = dict(reader.raw("device")) if reader.has("device") else {}
    allowed = reader.object("device").texts("runtimes", max_items=16) if "runtimes" in stated else None
    unknown = set(allowed or ()) - KNOWN_RUNTIMES
    if unknown:
        raise FormatError(
            f"[device] runtimes: {min(unknown)!r} is none of {', '.join(sorted(KNOWN_RUNTIMES))}"
        )
    return attributes_from(
        reader_of(
            {
                "id": socket.gethostname(),
                "os": machine_os(),
                "arch": machine_arch(),
                "ram_bytes": machine_ram_bytes(),
                **stated,
                "runtimes": installed_runtimes(allowed),
            },
            what="[device]",
        )
    )


def _enrolment(reader: Reader, folder: Path) -> Path | None:
    if not reader.has("enrolment"):
        return None
    return folder / reader.object("enrolment").text("token_file", max_length=4096)


def _tls(reader: Reader, folder: Path) -> TlsConfig | None:
    names = ("ca_bundle", "certificate", "key")
    paths = {name: folder / reader.text(name, max_length=4096) for name in names if reader.has(name)}
    if "key" in paths and "certificate" not in paths:
        reader.fail("key", "a key needs its certificate")
    return TlsConfig(**paths) if paths else None


def _cloud(reader: Reader, folder: Path) -> CloudConfig:
    return CloudConfig(
        url=_url(reader, "url"),
        model=reader.text("model", default=""),
        timeout_s=reader.integer("timeout_ms", low=1, high=600_000, default=10_000) / 1000,
        takes=reader.member("takes", CloudTakes, default=CloudTakes.RAW),
        tls=_tls(reader, folder),
    )


def _agent(reader: Reader) -> AgentConfig:
    poll = reader.number("poll_interval_s") if reader.has("poll_interval_s") else None
    report = reader.number("report_interval_s", default=_REPORT_INTERVAL_S)
    in_rollout = reader.number("rollout_report_interval_s", default=_ROLLOUT_REPORT_INTERVAL_S)
    if min(report, in_rollout, poll or 1.0) <= 0 or poll == 0:
        raise FormatError(f"{reader.where}: intervals are above 0 seconds")
    return AgentConfig(poll_interval_s=poll, report_interval_s=report, rollout_report_interval_s=in_rollout)


def _url(reader: Reader, key: str, default: str | None = None) -> str:
    value = reader.text(key, max_length=2048, default=default)
    if "@" in value.partition("://")[2].partition("/")[0]:
        # It would not be sent, and told in every message and status. The message must not, either.
        reader.fail(key, "a URL holds no user or password; the device has a token of its own")
    if not value.startswith(("http://", "https://")):
        reader.fail(key, f"{value!r} does not begin with http:// or https://")
    try:
        parts = urlsplit(value)
        sound = bool(parts.hostname) and parts.port != 0 and value.isascii() and " " not in value
    except ValueError:
        sound = False
    if not sound or parts.query or parts.fragment:
        reader.fail(key, f"{value!r} is not a URL of a host and a path")
    return value.rstrip("/")
