"""Names: publishers, models, versions, and the TUF roles and paths made from them.

A name that reaches a file system or a URL is matched against a closed pattern first; there is no
escaping, so there is nothing to escape wrongly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from ota_contract.errors import InvalidNameError

__all__ = [
    "ModelName",
    "Version",
    "blob_path",
    "check_device_id",
    "check_name",
    "check_relative_path",
    "parse_model",
    "publisher_role",
    "release_target",
    "rollout_role",
    "rollout_target",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
# Not \d, which matches the digits of every script: one version must have one spelling.
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
# semver §9: a numeric identifier has no leading zero, else 1.0.0-1 and 1.0.0-01 would rank alike.
_IDENTIFIER = r"(?!0[0-9]+(?:\.|$))[0-9A-Za-z-]{1,32}"
_SEMVER = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER}){{0,4}}))?")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_PATH_SEGMENTS = 8


@dataclass(frozen=True, slots=True, order=True)
class ModelName:
    """A model's full name, `publisher/model`."""

    publisher: str
    model: str

    def __post_init__(self) -> None:
        check_name(self.publisher, what="publisher")
        check_name(self.model, what="model")

    def __str__(self) -> str:
        return f"{self.publisher}/{self.model}"


def parse_model(text: str) -> ModelName:
    """Read `publisher/model`.

    Raises:
        InvalidNameError: The text is not two well-formed names with one slash between.
    """
    publisher, slash, model = text.partition("/")
    if not slash:
        raise InvalidNameError(f"model {text!r} is not written publisher/model")
    return ModelName(publisher, model)


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version (semver.org 2.0.0) without build metadata, ordered by precedence."""

    major: int
    minor: int
    patch: int
    prerelease: str = ""

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read `MAJOR.MINOR.PATCH[-PRERELEASE]`.

        Raises:
            InvalidNameError: Not a semantic version, or one with build metadata.
        """
        match = _SEMVER.fullmatch(text)
        if match is None:
            raise InvalidNameError(f"version {text[:80]!r} is not MAJOR.MINOR.PATCH[-PRERELEASE]")
        major, minor, patch, prerelease = match.groups()
        return cls(int(major), int(minor), int(patch), prerelease or "")

    def __str__(self) -> str:
        core = f"{self.major}.{self.minor}.{self.patch}"
        return f"{core}-{self.prerelease}" if self.prerelease else core

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[object, ...]:
        # semver §11: a release is above its pre-releases; numbers sort below words, shorter below longer.
        identifiers = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in self.prerelease.split(".")
            if part
        )
        return (self.major, self.minor, self.patch, not self.prerelease, identifiers)


def check_name(text: str, *, what: str) -> str:
    """Return `text` if it is a publisher, model or cohort name.

    Raises:
        InvalidNameError: It is not `[a-z0-9][a-z0-9_-]{0,63}`.
    """
    if not _NAME.fullmatch(text):
        raise InvalidNameError(
            f"{what} {text[:80]!r}: use 1 to 64 of a-z, 0-9, '-', '_', beginning with a letter or digit"
        )
    return text


def check_device_id(text: str) -> str:
    """Return `text` if it is a device id: 1 to 128 of letters, digits and `. _ : -`.

    Raises:
        InvalidNameError: It is not.
    """
    if not _DEVICE_ID.fullmatch(text):
        raise InvalidNameError(f"device id {text[:80]!r}: use 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':', '-'")
    return text


def check_relative_path(text: str) -> str:
    """Return `text` if it is a file path that cannot leave the folder it is joined to.

    Raises:
        InvalidNameError: Absolute, with `..`, an empty or hidden segment, a backslash, or too deep.
    """
    segments = text.split("/")
    if len(segments) > _MAX_PATH_SEGMENTS or not all(map(_SEGMENT.fullmatch, segments)):
        raise InvalidNameError(
            f"path {text[:120]!r}: use at most {_MAX_PATH_SEGMENTS} segments of letters, digits, "
            "'.', '_', '-', none of them beginning with a dot"
        )
    return text


def publisher_role(publisher: str) -> str:
    """The TUF role that signs a publisher's releases."""
    return f"pub-{check_name(publisher, what='publisher')}"


def rollout_role(publisher: str) -> str:
    """The TUF role, online at the server, that signs a publisher's rollout policies."""
    return f"ro-{check_name(publisher, what='publisher')}"


def release_target(name: ModelName, version: str) -> str:
    """The TUF target path of a release's manifest."""
    return f"rel/{name.publisher}/{name.model}/{Version.parse(version)}.json"


def rollout_target(name: ModelName) -> str:
    """The TUF target path whose signed `custom` is a model's rollout policy."""
    return f"rollout/{name.publisher}/{name.model}"


def blob_path(sha256: str) -> str:
    """Where a blob lies below the server's `blobs/` root; 256 folders keep each one small.

    Raises:
        InvalidNameError: Not a SHA-256 digest.
    """
    if not _SHA256.fullmatch(sha256):
        raise InvalidNameError(f"blob {sha256[:80]!r} is not a SHA-256 digest")
    return f"sha256/{sha256[:2]}/{sha256}"
