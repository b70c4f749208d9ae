"""The one file that says which release is in which slot, and the copy that stands in for it.

No power cut damages it: it is replaced whole, after what replaces it is on disk. Disks that lie, flash that
wears out and people with editors do. So the record before the last is kept beside it, a file of its own, and
read where the last cannot be; the agent then writes it anew. With neither to be read the device begins as a
new one would, from the policy and the blobs it has, for there is nobody to ask.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

from device_sdk.durable import fsync_directory, make_folder, read_bounded, rename_durably, write_durably
from device_sdk.errors import StoreError
from device_sdk.records import MAX_STATE_BYTES, ModelState, dump_state, parse_state
from ota_contract.errors import ContractError, FormatError

__all__ = ["StateFile"]

_CHECK = re.compile(rb'\{"check":"([0-9a-f]{64})",')


class StateFile:
    """A model's record; the only writer is the process that holds the store's lock."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing yet."""
        self.path = folder / "state.json"
        self.former_path = folder / "state.former.json"

    def read(self) -> ModelState:
        """What it says, or what it said before where it is damaged; empty on a new device.

        Raises:
            StoreError: Neither can be read.
        """
        try:
            return _read(self.path)
        except FileNotFoundError:
            return ModelState()
        except StoreError:
            with contextlib.suppress(StoreError, FileNotFoundError):
                return _read(self.former_path)
            raise

    def write(self, state: ModelState) -> None:
        """Replace it; durable on return, unchanged on failure.

        Raises:
            StoreError: It cannot be written, or could not be read again.
        """
        make_folder(self.path.parent)
        try:
            data = _sealed(dump_state(state))
        except ContractError as error:
            raise StoreError(f"{self.path}: {error}") from error
        self._keep_former()
        write_durably(self.path, data)

    def damage(self) -> str:
        """What is wrong with it, or an empty text."""
        try:
            _read(self.path)
        except FileNotFoundError:
            return ""
        except StoreError as error:
            return str(error)
        return ""

    def mend(self) -> str:
        """Make it readable again if its content is damaged; returns what was done, or an empty text.

        For the writer, when it begins. What a killed writer had renamed may not be on disk yet: it is now.

        Raises:
            StoreError: The file system refuses.
        """
        try:
            fsync_directory(self.path.parent)
            data = read_bounded(self.path, MAX_STATE_BYTES + len(_sealed(b"{")))
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        try:
            _parsed(data)
        except ContractError as error:
            return self._replace_damaged(error)
        return ""

    def _replace_damaged(self, damage: ContractError) -> str:
        told = f"{self.path} is damaged ({damage})"
        try:
            former = _sealed(dump_state(_read(self.former_path)))
        except (StoreError, FileNotFoundError):
            aside = self.path.with_suffix(".damaged")
            rename_durably(self.path, aside)
            return f"{told}, and so is the one before it; it lies in {aside.name}, and all is installed anew"
        write_durably(self.path, former)
        return f"{told}; the one before it was put in its place"

    def _keep_former(self) -> None:
        """Give the present content a second name; it stays there when the first gets another file."""
        if self.damage():
            return
        staged = self.former_path.with_name(f".{self.former_path.name}.new")
        with contextlib.suppress(OSError):  # no file, or no links: then there is none to fall back on
            staged.unlink(missing_ok=True)
            os.link(self.path, staged)
            staged.replace(self.former_path)


def _read(path: Path) -> ModelState:
    try:
        return _parsed(read_bounded(path, MAX_STATE_BYTES + len(_sealed(b"{"))))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    except ContractError as error:
        raise StoreError(f"{path} is damaged: {error}") from error


def _sealed(data: bytes) -> bytes:
    """A record with a digest of itself as its first entry: a flipped bit may well be valid JSON."""
    return b'{"check":"' + hashlib.sha256(data).hexdigest().encode() + b'",' + data[1:]


def _parsed(data: bytes) -> ModelState:
    """Parse a record; one without a digest (another version's, or a person's) is taken as it is.

    Raises:
        FormatError: It is damaged.
    """
    check = _CHECK.match(data)
    if check is not None:
        data = b"{" + data[check.end() :]
        if hashlib.sha256(data).hexdigest().encode() != check[1]:
            raise FormatError("device state: its content has changed")
    return parse_state(data)
