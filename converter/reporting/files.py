"""Writes what people read of a conversion into the package's folder, beside what devices read."""

from __future__ import annotations

import json
from pathlib import Path

from converter.reporting.bom import dump_bom
from converter.reporting.page import render_card, render_page
from ota_contract.manifest import Release

__all__ = ["BOM_NAME", "CARD_NAME", "PAGE_NAME", "REPORT_NAME", "write_reports"]

REPORT_NAME, PAGE_NAME, CARD_NAME = "report.json", "report.html", "CARD.md"
BOM_NAME = "bom.cdx.json"
"""CycloneDX's own pattern for file names, which scanners look for."""


def write_reports(package: Path, release: Release, report: bytes) -> None:
    """Write the report and all that is made of it.

    Args:
        package: The package's folder.
        release: As it is in the manifest.
        report: The bytes of `report.json`.
    """
    document = json.loads(report)
    (package / REPORT_NAME).write_bytes(report)
    (package / PAGE_NAME).write_bytes(render_page(release, document))
    (package / CARD_NAME).write_bytes(render_card(release, document))
    (package / BOM_NAME).write_bytes(dump_bom(release, document))
