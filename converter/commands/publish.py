"""Sign a package with the publisher's key and publish it as a release.

  ferry login http://127.0.0.1:8000
  ferry publish build/digits --key keys/publishers/vision.pem

Only what the server lacks is uploaded, and an upload that broke off goes on. Publishing the same package
twice is no error; other bytes under a published version are. The key stays on this machine; it may be
encrypted, or stay in a KMS, HSM or Vault:

  ferry publish build/digits --key awskms:alias/vision --public vision.pub
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.publishing.errors import KeyFileError

__all__ = ["configure", "run"]

_VARIABLE = "FERRY_KEY_PASSPHRASE"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("package", type=Path, metavar="PACKAGE_DIR", help="what `ferry convert` wrote")
    parser.add_argument(
        "--key", required=True, metavar="KEYFILE|URI", help="the publisher's key; a URI needs --public"
    )
    parser.add_argument(
        "--public", type=Path, metavar="FILE", help="public half of a key given by URI, as a PEM file"
    )
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help=f"holds the passphrase of an encrypted key (else {_VARIABLE}, else it is asked for)",
    )
    parser.add_argument("--server", metavar="URL", help="the server (default: the one logged in to)")
    parser.add_argument("--token", help="a publisher's token (better: ferry login, or FERRY_TOKEN)")
    parser.add_argument("--json", action="store_true", help="print JSON for other programs")


def run(arguments: argparse.Namespace) -> int:
    """Publish."""
    from datetime import UTC, datetime  # noqa: PLC0415 - beside the imports it goes with

    from converter.publishing.publish import find_credentials, publish  # noqa: PLC0415 - `--help` is quick
    from converter.publishing.signing import key_elsewhere, read_key  # noqa: PLC0415

    if arguments.public is None:
        key = read_key(Path(arguments.key), _passphrase_of(arguments))
    else:
        key = key_elsewhere(arguments.key, arguments.public)
    credentials = find_credentials(arguments.server, arguments.token)
    with _progress() as progress:
        done = publish(arguments.package, credentials, key, now=datetime.now(UTC), progress=progress)
    release = done.release
    if arguments.json:
        document = {
            "model": str(release.name),
            "version": release.version,
            "counter": release.counter,
            "server": credentials.server,
            "total_bytes": done.total_bytes,
            "sent_bytes": done.sent_bytes,
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stdout.write(
            f"published {release.name} {release.version} to {credentials.server}: "
            f"{done.sent_bytes} of {done.total_bytes} bytes sent\n"
        )
    return 0


def _passphrase_of(arguments: argparse.Namespace) -> Callable[[Path], str]:
    """Answers from a file, the environment or the keyboard, and only when asked."""

    def ask(key: Path) -> str:
        path: Path | None = arguments.passphrase_file
        known = os.environ.get(_VARIABLE, "")
        if path is not None:
            try:
                known = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
            except (OSError, UnicodeDecodeError) as error:
                raise KeyFileError(f"passphrase file {path}: {error}") from error
        if not known and path is None and sys.stdin.isatty():
            known = getpass.getpass(f"passphrase of {key}: ")
        if not known:
            raise KeyFileError(f"{key} is encrypted; give --passphrase-file, or set {_VARIABLE}")
        return known

    return ask


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, nothing elsewhere: an upload's lines would only fill a log."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("uploading", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
