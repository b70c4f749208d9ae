"""People with keys: the files of `ferry keys init`, the command line, and what a ceremony needs of them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferry_cli.__main__ import main
from ota_server.adapters.key_files import generate_key, public_pem, write_key
from tests.support.registry import Bench

__all__ = ["Said", "Table", "ferry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)

    def ok(self) -> Said:
        """It succeeded."""
        if self.code != 0:
            raise AssertionError(self)
        return self

    def refused(self, saying: str) -> Said:
        """It refused in one line on stderr, and said nothing else."""
        if self.code != 1 or saying not in self.err or self.err.count("\n") != 1 or self.out:
            raise AssertionError(self)
        return self


def ferry(*arguments: object) -> Said:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse
            code = int(exit_.code or 0)
    return Said(code=code, out=out.getvalue(), err=err.getvalue())


@dataclass(slots=True)
class Table:
    """Where a ceremony takes place."""

    bench: Bench

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return self.bench.data

    def offline(self, name: str) -> Path:
        """An offline key, such as `root-1`."""
        return self.bench.root / "keys" / "offline" / f"{name}.pem"

    def publisher(self, name: str = "vision") -> Path:
        """A publisher's key."""
        return self.bench.root / "keys" / "publishers" / f"{name}.pem"

    def new(self, name: str, passphrase: str | None = None) -> tuple[Path, Path]:
        """A new key: its private and its public file."""
        signer = generate_key()
        private, public = self.bench.root / f"{name}.pem", self.bench.root / f"{name}.pub"
        write_key(private, signer, passphrase)
        public.write_bytes(public_pem(signer))
        return private, public

    def prepare(self, action: str, *arguments: object) -> Path:
        """Prepare a request as a file; returns it."""
        number = len(list(self.bench.root.glob("request-*.json")))
        path = self.bench.root / f"request-{number}.json"
        ferry("keys", action, *arguments, "--data", self.data, "-o", path).ok()
        return path

    def sign(self, request: Path, *keys: Path) -> Path:
        """Sign it; returns it."""
        for key in keys:
            ferry("keys", "sign", request, "--key", key).ok()
        return request

    def bring_in(self, *requests: Path) -> Said:
        """Import it."""
        return ferry("keys", "import", *requests, "--data", self.data)

    def whole(self, action: str, *arguments: object, keys: tuple[Path, ...]) -> None:
        """Prepare, sign and import."""
        self.bring_in(self.sign(self.prepare(action, *arguments), *keys)).ok()
