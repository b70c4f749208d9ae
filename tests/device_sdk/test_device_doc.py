"""docs/device.md shows a device.toml that the parser takes, with every setting there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from device_sdk.config import _KNOWN, read_config
from tests.support.documentation import blocks

DOCUMENT = (Path(__file__).parents[2] / "docs" / "device.md").read_text()


def test_the_configuration_shown_is_one(tmp_path: Path) -> None:
    (text,) = blocks("docs/device.md", "toml")
    path = tmp_path / "device.toml"
    path.write_text(text)
    config = read_config(path)
    assert config.tls is not None
    assert config.tls.key == tmp_path / "camera-7-key.pem"
    shown = tomllib.loads(re.sub(r"(?m)^# (?=\w+_url = )", "", text))
    for section, known in _KNOWN.items():
        table = shown.get(section, {}) if section else shown
        missing = known - set(table) - {"os", "arch", "ca_bundle", "certificate", "key"}
        assert not missing, section
