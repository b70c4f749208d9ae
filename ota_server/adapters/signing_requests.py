"""A change of keys as a file that can be carried to those who have to sign it.

The file holds the metadata to be signed with the signatures gathered so far, and what is published now, so
that an offline machine can show what would change and whose signatures it takes. Nothing in it is believed
because it is in it: whoever signs checks the chain of roots, whoever imports checks everything against what
is published.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from securesystemslib.exceptions import Error as SecurityError
from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root, Targets

from ota_contract.documents import Reader, format_instant, read_document
from ota_contract.errors import ContractError
from ota_server.errors import CeremonyError, ForeignKeyError, KeyFileError

__all__ = [
    "AnyMetadata",
    "Need",
    "SigningRequest",
    "check_lineage",
    "dump_request",
    "merge_requests",
    "needs_of",
    "parse_request",
    "printable",
    "sign_request",
]

AnyMetadata = Metadata[Root] | Metadata[Targets]

_FORMAT = "ferry.signing/1"
_MAX_BYTES = 32 * 1024 * 1024
_MAX_ROOTS = 257
"""A device follows 256 rotations from the root it was delivered with."""
_MAX_ROLES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRequest:
    """A change that waits for signatures."""

    prepared: datetime
    roots: Sequence[Metadata[Root]]
    """Every root published when it was prepared, the newest last."""
    current: Mapping[str, Metadata[Targets]]
    """What is published of `targets`, and of each publisher's role in `next`."""
    next: Mapping[str, AnyMetadata]
    """What is to be signed: `root`, `targets`, `pub-<publisher>`."""
    online: Mapping[str, str] = field(default_factory=dict)
    """Where the new keys of online roles are: role → URI."""

    @property
    def root(self) -> Root:
        """The root once this is published."""
        signed = self.next["root"].signed if "root" in self.next else self.roots[-1].signed
        if not isinstance(signed, Root):
            raise CeremonyError("the request has something else in place of a root")
        return signed

    @property
    def targets(self) -> Targets:
        """The top-level targets once this is published."""
        signed = self.next.get("targets", self.current["targets"]).signed
        if not isinstance(signed, Targets):
            raise CeremonyError("the request has something else in place of targets")
        return signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Signatures that one role's metadata needs from one set of keys."""

    role: str
    by: str
    """Whose keys, in words."""
    keys: Sequence[str]
    """Ids of the keys that count."""
    threshold: int
    signed: Sequence[str]
    """Ids of those that have signed."""

    @property
    def missing(self) -> int:
        """Signatures that are lacking."""
        return max(0, self.threshold - len(self.signed))


def printable(text: str) -> str:
    """Text of an untrusted request as a terminal may show it: no control characters, no changed direction."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def needs_of(request: SigningRequest) -> list[Need]:
    """What has to be signed by whom, and who has.

    Raises:
        CeremonyError: A role is signed by nobody.
    """
    needs: list[Need] = []
    try:
        for role, metadata in request.next.items():
            delegator: Root | Targets = request.targets
            if role == "root":
                needs.append(_need(role, "the root keys of now", request.roots[-1].signed, metadata))
            if role in ("root", "targets"):
                delegator = request.root
            by = {"root": "the new root keys", "targets": "the targets keys"}.get(role, f"the key of {role}")
            need = _need(role, by, delegator, metadata)
            if not any((it.role, it.keys, it.threshold) == (role, need.keys, need.threshold) for it in needs):
                needs.append(need)
    except (TufError, SecurityError, ValueError, TypeError) as error:
        raise CeremonyError(f"the request is inconsistent: {printable(str(error))}") from error
    return needs


def _need(role: str, by: str, delegator: Root | Targets, metadata: AnyMetadata) -> Need:
    result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return Need(
        role=role,
        by=by,
        keys=sorted({*result.signed, *result.unsigned}),
        threshold=result.threshold,
        signed=sorted(result.signed),
    )


def check_lineage(request: SigningRequest, trusted: Metadata[Root] | None = None) -> None:
    """Check that what the request says is published could be: each root follows from the one before.

    Args:
        request: Untrusted.
        trusted: A root the signer knows to be genuine; the chain must run through it.

    Raises:
        CeremonyError: It does not.
    """
    try:
        before = request.roots[0]
        for number, root in enumerate(request.roots, start=request.roots[0].signed.version):
            before.verify_delegate("root", root)
            root.verify_delegate("root", root)
            if root.signed.version != number:
                raise CeremonyError("the roots in the request do not follow each other")
            before = root
        before.verify_delegate("targets", request.current["targets"])
        for role, metadata in request.current.items():
            if role != "targets":
                request.current["targets"].verify_delegate(role, metadata)
    except (TufError, SecurityError, ValueError, TypeError) as error:
        raise CeremonyError(
            f"what the request says is published was never signed: {printable(str(error))}"
        ) from error
    if trusted is not None and all(root.signed != trusted.signed for root in request.roots):
        raise CeremonyError(
            "the roots in the request do not go back to the trusted one: it is not from your repository"
        )


def sign_request(request: SigningRequest, signer: Signer) -> tuple[SigningRequest, list[str]]:
    """Add a key's signature wherever it counts; returns the request and the roles signed.

    Raises:
        ForeignKeyError: It counts nowhere.
        KeyFileError: The key does not sign.
    """
    key = signer.public_key
    roles = sorted({need.role for need in needs_of(request) if key.keyid in need.keys})
    if not roles:
        raise ForeignKeyError(
            f"key {key.keyid[:8]} does not count for this request; `ferry keys show` names those that do"
        )
    signed = copy.deepcopy(dict(request.next))
    for role in roles:
        try:
            signature = signed[role].sign(signer, append=True)
            key.verify_signature(signature, signed[role].signed_bytes)
        except Exception as error:  # whatever a key service raises
            raise KeyFileError(f"key {key.keyid[:8]} does not sign {role}: {error}") from error
    return replace(request, next=signed), roles


def merge_requests(requests: Sequence[SigningRequest]) -> SigningRequest:
    """One request with the signatures of all copies.

    Raises:
        CeremonyError: They are not copies of one request.
    """
    first = requests[0]
    merged = copy.deepcopy(dict(first.next))
    for other in requests[1:]:
        if _unsigned(other) != _unsigned(first):
            raise CeremonyError("these files are different requests; only copies of one can be merged")
        for role, metadata in other.next.items():
            merged[role].signatures.update(metadata.signatures)
    return replace(first, next=merged)


def _unsigned(request: SigningRequest) -> dict[str, Any]:
    document = _document(request)
    return {
        **document,
        "next": {role: metadata.signed.to_dict() for role, metadata in request.next.items()},
    }


def dump_request(request: SigningRequest) -> bytes:
    """Serialise; `parse_request` gives it back."""
    return (json.dumps(_document(request), indent=1, sort_keys=True) + "\n").encode()


def _document(request: SigningRequest) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "prepared": format_instant(request.prepared),
        "roots": [root.to_dict() for root in request.roots],
        "current": {role: metadata.to_dict() for role, metadata in request.current.items()},
        "next": {role: metadata.to_dict() for role, metadata in request.next.items()},
        "online": dict(request.online),
    }


def parse_request(data: bytes) -> SigningRequest:
    """Parse untrusted bytes.

    Raises:
        CeremonyError: They are no request.
    """
    try:
        reader = read_document(data, what="signing request", format_=_FORMAT, max_bytes=_MAX_BYTES)
        request = SigningRequest(
            prepared=reader.instant("prepared"),
            roots=[_root(item) for item in _objects(reader, "roots")],
            current={role: _targets(item) for role, item in _table(reader, "current").items()},
            next={
                role: _root(item) if role == "root" else _targets(item)
                for role, item in _table(reader, "next").items()
            },
            online={
                role: item.text("value", max_length=1024)
                for role, item in reader.entries("online", max_items=_MAX_ROLES).items()
            },
        )
    except (ContractError, TufError, SecurityError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CeremonyError(f"this is not a signing request: {printable(str(error))}") from error
    if "targets" not in request.current or not request.next:
        raise CeremonyError(
            "this is not a signing request: it lacks what is published, or what is to be signed"
        )
    return request


def _objects(reader: Reader, key: str) -> list[Any]:
    items = reader.raw(key)
    if not isinstance(items, list) or not 1 <= len(items) <= _MAX_ROOTS:
        reader.fail(key, f"expected 1…{_MAX_ROOTS} items")
    return items


def _table(reader: Reader, key: str) -> dict[str, Any]:
    return {role: item.raw("value") for role, item in reader.entries(key, max_items=_MAX_ROLES).items()}


def _root(value: Any) -> Metadata[Root]:  # noqa: ANN401 - TUF's own parser judges it
    metadata: Metadata[Root] = Metadata.from_dict(copy.deepcopy(value))
    if not isinstance(metadata.signed, Root):
        raise CeremonyError(f"this is not a signing request: {metadata.signed.type} in place of a root")
    return metadata


def _targets(value: Any) -> Metadata[Targets]:  # noqa: ANN401
    metadata: Metadata[Targets] = Metadata.from_dict(copy.deepcopy(value))
    if not isinstance(metadata.signed, Targets):
        raise CeremonyError(f"this is not a signing request: {metadata.signed.type} in place of targets")
    return metadata
