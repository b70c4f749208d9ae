"""What `ferry keys` does in a ceremony: rotate, delegate, revoke, renew, show, sign, import.

`ota_server.commands.keys` declares the arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Key, Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root

from ota_contract.names import parse_model
from ota_server.adapters.ceremonies import Draft, Prepared
from ota_server.adapters.ceremony_import import import_request
from ota_server.adapters.ceremony_words import describe, in_words
from ota_server.adapters.files import write_durably
from ota_server.adapters.key_files import is_encrypted, open_signer, read_private, read_public, write_key
from ota_server.adapters.online_keys import OnlineKeys
from ota_server.adapters.publication import complete
from ota_server.adapters.registry import open_registry
from ota_server.adapters.signing_requests import (
    SigningRequest,
    check_lineage,
    dump_request,
    merge_requests,
    needs_of,
    parse_request,
    sign_request,
)
from ota_server.commands.passphrases import given_passphrase, secrets_of
from ota_server.commands.say import say
from ota_server.errors import CeremonyError, KeyFileError, SetupError
from ota_server.settings import no_secrets

__all__ = ["import_", "prepare", "show", "sign"]

_MAX_REQUEST_BYTES = 33 * 1024 * 1024
_ONLINE = ("snapshot", "timestamp")


def _rotate(arguments: argparse.Namespace, draft: Draft) -> None:

    role, come = arguments.role[0], [read_public(Path(path)) for path in arguments.come]
    if role in ("root", "targets") and len(arguments.role) == 1:
        _refuse(arguments, "uri", "without")
        gone = [_key_id(arguments, text) for text in arguments.gone]
        draft.change_keys(role, add=come, remove=gone, threshold=arguments.threshold)
    elif role.startswith("pub-") and len(arguments.role) == 1:
        _refuse(arguments, "uri", "gone", "threshold")
        without = [(parse_model(model), version) for model, version in arguments.without]
        draft.switch_publisher(role.removeprefix("pub-"), _one(come, role), without)
    elif all(name in _ONLINE or name.startswith("ro-") for name in arguments.role):
        _refuse(arguments, "gone", "threshold", "without")
        if (come or arguments.uri) and len(arguments.role) > 1:
            raise CeremonyError("a key held elsewhere is given to one role at a time")
        for name in arguments.role:
            draft.switch_online(name, _one(come, name) if come else None, arguments.uri)
    else:
        raise CeremonyError(
            f"{' '.join(arguments.role)}: give one of root, targets and pub-NAME, or any of snapshot, "
            "timestamp and ro-NAME"
        )


def _delegate(arguments: argparse.Namespace, draft: Draft) -> None:

    online = read_public(arguments.online_in) if arguments.online_in else None
    draft.add_publisher(arguments.publisher, read_public(arguments.come), online, arguments.uri)


def _revoke(arguments: argparse.Namespace, draft: Draft) -> None:
    draft.remove_publisher(arguments.publisher)


def _renew(arguments: argparse.Namespace, draft: Draft) -> None:
    for role in arguments.role:
        draft.renew(role)


_CHANGES = {"rotate": _rotate, "delegate": _delegate, "revoke": _revoke, "renew": _renew}


def prepare(arguments: argparse.Namespace) -> int:
    """Prepare a request; with keys and without -o, sign and import it at once."""
    output: Path | None = arguments.output
    if output is None and not arguments.key:
        raise SetupError(
            "give -o REQUEST to prepare a file for others to sign, or --key for every key it takes"
        )
    if output is not None and output.exists():
        raise SetupError(f"{output} exists; give a new name")
    _open_folder(arguments.data)
    draft = Draft(arguments.data, datetime.now(UTC))
    _CHANGES[arguments.change](arguments, draft)
    prepared = draft.finish()
    request = prepared.request
    for signer in _signers(arguments):
        request, _ = sign_request(request, signer)
    if output is None:
        lacking = [need for need in needs_of(request) if need.missing]
        if lacking:
            need = lacking[0]
            raise CeremonyError(
                f"{need.role} needs {need.missing} more of {need.by}; give another --key, or -o for "
                "others to sign"
            )
    written = _write_new_keys(arguments, prepared)
    try:
        if output is None:
            return _publish(arguments, request)
        _write_request(output, request)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    words = in_words(request)
    words.append(f"written to {output}; next: ferry keys sign {output} --key …, then ferry keys import")
    say(arguments, {"request": str(output), **describe(request)}, words)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Say what a request is."""
    request = _checked(arguments)
    say(arguments, describe(request), in_words(request))
    return 0


def sign(arguments: argparse.Namespace) -> int:
    """Sign a request in its file."""
    request = _checked(arguments)
    if sys.stdin.isatty() and not arguments.json:
        sys.stdout.write("\n".join(in_words(request)) + "\n")
        if input("sign this? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CeremonyError("nothing was signed")
    signed: list[str] = []
    for signer in _signers(arguments):
        request, roles = sign_request(request, signer)
        signed += roles
    _write_request(arguments.request, request)
    words = [*in_words(request), f"signed {', '.join(sorted(set(signed)))} in {arguments.request}"]
    say(arguments, {"signed": sorted(set(signed)), **describe(request)}, words)
    return 0


def import_(arguments: argparse.Namespace) -> int:
    """Publish a request."""
    return _publish(arguments, merge_requests([_read_request(path) for path in arguments.request]))


def _publish(arguments: argparse.Namespace, request: SigningRequest) -> int:

    with closing(open_registry(arguments.data)) as registry:
        done = import_request(
            request,
            arguments.data,
            registry=registry,
            clock=lambda: datetime.now(UTC),
            secrets=secrets_of(arguments),
        )
    lines = [f"published {role} {version}" for role, version in done.versions.items()]
    lines += [f"forgot {release}, which is signed no more" for release in done.forgotten]
    document = {"published": dict(done.versions), "forgotten": list(done.forgotten)}
    say(arguments, document, lines or ["this request was imported before; nothing changed"])
    return 0


def _checked(arguments: argparse.Namespace) -> SigningRequest:

    request = _read_request(arguments.request)
    trusted: Metadata[Root] | None = None
    if arguments.trusted_root is not None:
        try:
            trusted = Metadata.from_bytes(_read(arguments.trusted_root))
        except TufError as error:
            raise SetupError(f"{arguments.trusted_root} is no root metadata: {error}") from error
    check_lineage(request, trusted)
    return request


def _signers(arguments: argparse.Namespace) -> list[Signer]:

    secrets, publics = secrets_of(arguments), list(arguments.public)
    signers: list[Signer] = []
    for text in arguments.key:
        if not _is_uri(text):
            signers.append(read_private(Path(text), secrets))
        elif publics:
            signers.append(open_signer(text, read_public(Path(publics.pop(0))), secrets, base=Path()))
        else:
            raise KeyFileError(f"{text}: give its public key with --public")
    if publics:
        raise KeyFileError("there are more --public than --key with a URI")
    return signers


def _is_uri(text: str) -> bool:

    return text.partition(":")[0] in SIGNER_FOR_URI_SCHEME and ":" in text


def _write_new_keys(arguments: argparse.Namespace, prepared: Prepared) -> list[Path]:
    """Write new online keys as the server's others are: encrypted with one passphrase, or plain."""
    if not prepared.new_keys:
        return []
    passphrase = _online_passphrase(arguments)
    written = []
    for file, signer in prepared.new_keys.items():
        write_key(arguments.data / file, signer, passphrase)
        written.append(arguments.data / file)
        if passphrase is None and not arguments.json:
            sys.stdout.write(f"{arguments.data / file} is not encrypted: it is for development\n")
    return written


def _online_passphrase(arguments: argparse.Namespace) -> str | None:
    """What opens the server's keys; None where they are plain, whatever passphrase was given for others."""
    used = OnlineKeys(arguments.data, lambda: datetime.now(UTC), no_secrets).files()
    encrypted = [path for path in used if is_encrypted(path)]
    if not encrypted:
        return None if used else given_passphrase(arguments)
    passphrase = secrets_of(arguments)(str(encrypted[0]))
    read_private(encrypted[0], lambda _: passphrase)
    return passphrase


def _key_id(arguments: argparse.Namespace, text: str) -> str:
    """The id of a key given as a file, public or private, or the digits as they are."""
    path = Path(text)
    if not path.exists():
        return text
    try:
        return read_public(path).keyid
    except KeyFileError:
        return read_private(path, secrets_of(arguments)).public_key.keyid


def _one(keys: Sequence[Key], role: str) -> Key:
    if len(keys) != 1:
        raise CeremonyError(f"{role} has one key: give it with --in")
    return keys[0]


def _refuse(arguments: argparse.Namespace, *options: str) -> None:
    names = {"gone": "out", "come": "in"}
    for option in options:
        if getattr(arguments, option):
            raise CeremonyError(f"--{names.get(option, option)} does not go with {' '.join(arguments.role)}")


def _open_folder(data: Path) -> None:

    with closing(open_registry(data)) as registry, registry.write():
        complete(data)


def _read_request(path: Path) -> SigningRequest:

    return parse_request(_read(path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_REQUEST_BYTES)
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}") from error


def _write_request(path: Path, request: SigningRequest) -> None:

    write_durably(path, dump_request(request))
