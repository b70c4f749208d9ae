"""Writes a package beside its place and moves it there whole."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.errors import OutputError
from converter.recipe import shown_path
from ota_contract.manifest import MANIFEST_NAME, File, FileRole
from ota_contract.package_files import pieces_of

__all__ = ["check_output", "file_entry", "staged_package"]


def check_output(output: Path) -> None:
    """Refuse a place that holds something we did not write.

    Raises:
        OutputError: A file, or a folder with content that is not a package.
    """
    if not output.exists():
        return
    shown = shown_path(output)
    if not output.is_dir():
        raise OutputError(f"{shown} is a file; name a folder for the package")
    if any(output.iterdir()) and not (output / MANIFEST_NAME).is_file():
        raise OutputError(f"{shown} is not empty and not a package; name another folder, or empty it")


@contextmanager
def staged_package(output: Path) -> Iterator[Path]:
    """A folder that takes the place of `output` when the block ends without an error.

    An older package stays until the new one is complete. After an error, or Ctrl-C, nothing changed.

    Raises:
        OutputError: The folder cannot be written.
    """
    check_output(output)
    staging: Path | None = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
        staging.chmod(0o755)
        yield staging
        _replace(staging, output)
    except OSError as error:
        raise OutputError(f"cannot write {shown_path(output)}: {error.strerror or error}") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def file_entry(package: Path, path: str, role: FileRole) -> File:
    """The manifest's entry of a file in a package folder."""
    content = (package / path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return File(
        path=path,
        length_bytes=len(content),
        sha256=digest,
        role=role,
        pieces=pieces_of((content,), len(content)),
    )


def _replace(staging: Path, output: Path) -> None:
    if not output.exists():
        staging.rename(output)
        return
    check_output(output)  # again: minutes have passed
    # POSIX swaps no two folders; between the two renames the old package is under its other name.
    old = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".old", dir=output.parent))
    output.rename(old / output.name)
    try:
        staging.rename(output)
    except OSError:
        (old / output.name).rename(output)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
