"""Preparing changes of keys: from what is published to the next metadata, unsigned.

A draft changes nothing on disk. It becomes a signing request, and new online keys that have to be in the
data folder before the request can be imported.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets

from ota_contract.names import ModelName, check_name, publisher_role, release_target, rollout_role
from ota_server.adapters.key_files import generate_key
from ota_server.adapters.metadata_folder import MetadataFolder
from ota_server.adapters.signing_requests import AnyMetadata, SigningRequest
from ota_server.errors import CeremonyError

__all__ = ["DELEGATED_PATHS", "OFFLINE_LIFETIME", "Draft", "Prepared", "delegated_role"]

OFFLINE_LIFETIME = timedelta(days=365)
"""How long what people sign is good for."""
DELEGATED_PATHS: Mapping[str, str] = {"pub": "rel/{}/*/*.json", "ro": "rollout/{}/*"}
"""What a publisher's two roles may sign for: its releases, and the rollouts of its models."""
_ID_DIGITS = 8
"""Digits of a key id that people see and type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request, and what has to be written beside it."""

    request: SigningRequest
    new_keys: Mapping[str, CryptoSigner]
    """New online keys by file, relative to the data folder."""


def delegated_role(role: str, key: Key) -> DelegatedRole:
    """The delegation of `pub-<p>` or `ro-<p>`: to one key, terminating, below paths of its own."""
    kind, _, publisher = role.partition("-")
    pattern = DELEGATED_PATHS[kind].format(publisher)
    return DelegatedRole(role, [key.keyid], 1, terminating=True, paths=[pattern])


class Draft:
    """Changes on top of what a data folder publishes now."""

    def __init__(self, data: Path, now: datetime) -> None:
        """Read what is published.

        Raises:
            RepositoryError: It is torn.
        """
        self._folder = MetadataFolder(data)
        self._now = now
        self._roots = self._folder.roots()
        self._targets = self._folder.targets()
        self._next: dict[str, AnyMetadata] = {}
        self._online: dict[str, str] = {}
        self._new_keys: dict[str, CryptoSigner] = {}

    def change_keys(
        self, role: str, *, add: Sequence[Key], remove: Sequence[str], threshold: int | None
    ) -> None:
        """Change who signs for root or targets.

        Args:
            role: `root` or `targets`.
            add: New keys.
            remove: Ids of keys that go, or their first digits.
            threshold: How many have to sign from now on; as before if None.

        Raises:
            CeremonyError: The change makes no sense.
        """
        root = self._root()
        wanted = threshold or root.roles[role].threshold
        gone = [self._match(role, digits, root.roles[role].keyids) for digits in remove]
        if not add and not gone and wanted == root.roles[role].threshold:
            raise CeremonyError(f"nothing changes for {role}: give --in, --out or --threshold")
        for key in add:
            self._check_new(key)
            root.add_key(key, role)
        for keyid in gone:
            root.revoke_key(keyid, role)
        count = len(root.roles[role].keyids)
        if not 1 <= wanted <= count:
            raise CeremonyError(
                f"{role} would have {count} keys, of which {wanted} have to sign: see --threshold"
            )
        root.roles[role].threshold = wanted
        if role == "targets":
            self._top()  # signed anew: what the former keys have signed counts no more

    def switch_online(self, role: str, key: Key | None = None, uri: str | None = None) -> None:
        """Give an online role another key: a new one in the data folder, or one held elsewhere.

        Raises:
            CeremonyError: There is no such role, or only one of key and URI was given.
        """
        if (key is None) != (uri is None):
            raise CeremonyError("a key held elsewhere takes both: --uri, and its public half with --in")
        if role.startswith("ro-") and publisher_role(role.removeprefix("ro-")) not in _roles(self._top()):
            raise CeremonyError(f"there is no {role}; `ferry keys status` names the roles")
        if key is None:
            signer = generate_key()
            key, file = signer.public_key, f"keys/{role}-{signer.public_key.keyid[:_ID_DIGITS]}.pem"
            self._new_keys[file] = signer
            uri = f"file2:{file}"
        self._check_new(key)
        self._online[role] = uri or ""
        if role in ("snapshot", "timestamp"):
            root = self._root()
            for keyid in list(root.roles[role].keyids):
                root.revoke_key(keyid, role)
            root.add_key(key, role)
        else:
            self._delegate(role, key)

    def switch_publisher(self, publisher: str, key: Key, without: Sequence[tuple[ModelName, str]]) -> None:
        """Give a publisher another key, under which its present releases are signed anew.

        Args:
            publisher: Whose.
            key: The new one.
            without: Releases that are not signed again, because the publisher did not make them.

        Raises:
            CeremonyError: There is no such publisher or release.
        """
        self._check_new(key)
        role = publisher_role(publisher)
        self._known(publisher)
        self._delegate(role, key)
        leaf = self._leaf(role)
        for name, version in without:
            if leaf.targets.pop(release_target(name, version), None) is None:
                raise CeremonyError(f"{publisher} has not published {name} {version}")

    def add_publisher(self, publisher: str, key: Key, online: Key | None, uri: str | None) -> None:
        """Delegate to a new publisher.

        Raises:
            CeremonyError: The name is taken, or was.
        """
        check_name(publisher, what="publisher")
        self._check_new(key)
        role = publisher_role(publisher)
        if f"{role}.json" in self._folder.snapshot().signed.meta:
            raise CeremonyError(f"there is or was a publisher {publisher}; a name is given once")
        self._delegate(role, key)
        self._next[role] = Metadata(Targets(version=1, expires=self._expiry()))
        self.switch_online(rollout_role(publisher), online, uri)

    def remove_publisher(self, publisher: str) -> None:
        """Delegate to a publisher no more.

        Raises:
            CeremonyError: There is no such publisher.
        """
        self._known(publisher)
        top = self._top()
        for role in (publisher_role(publisher), rollout_role(publisher)):
            for keyid in list(_roles(top)[role].keyids):
                top.revoke_key(keyid, role)
            del _roles(top)[role]

    def renew(self, role: str) -> None:
        """Extend the expiry of what people sign, and change nothing else.

        Raises:
            CeremonyError: The server signs that role, or there is none of that name.
        """
        if role == "root":
            self._root()
        elif role == "targets":
            self._top()
        elif role.startswith("pub-"):
            self._known(role.removeprefix("pub-"))
            self._leaf(role)
        else:
            raise CeremonyError(
                f"{role} is signed by the server, which renews it; root, targets and pub-* are not"
            )

    def finish(self) -> Prepared:
        """The request."""
        leaves = [role for role in self._next if role.startswith("pub-")]
        known = self._folder.snapshot().signed.meta
        return Prepared(
            request=SigningRequest(
                prepared=self._now,
                roots=self._roots,
                current={
                    "targets": self._targets,
                    **{role: self._folder.targets(role) for role in leaves if f"{role}.json" in known},
                },
                next=self._next,
                online=self._online,
            ),
            new_keys=self._new_keys,
        )

    def _root(self) -> Root:
        root = self._draft("root", self._roots[-1]).signed
        if not isinstance(root, Root):
            raise TypeError(root)
        return root

    def _top(self) -> Targets:
        return self._leaf("targets")

    def _leaf(self, role: str) -> Targets:
        targets = self._draft(role, self._folder.targets(role)).signed
        if not isinstance(targets, Targets):
            raise TypeError(targets)
        return targets

    def _draft(self, role: str, published: AnyMetadata) -> AnyMetadata:
        if role not in self._next:
            metadata = copy.deepcopy(published)
            metadata.signatures.clear()
            metadata.signed.version += 1
            metadata.signed.expires = self._expiry()
            self._next[role] = metadata
        return self._next[role]

    def _delegate(self, role: str, key: Key) -> None:
        top = self._top()
        for keyid in list(_roles(top)[role].keyids) if role in _roles(top) else ():
            top.revoke_key(keyid, role)
        _roles(top)[role] = delegated_role(role, key)
        top.add_key(key, role)

    def _known(self, publisher: str) -> None:
        if publisher not in self._folder.publishers():
            raise CeremonyError(f"there is no publisher {publisher!r}; `ferry keys status` names them")

    def _check_new(self, key: Key) -> None:
        """Every role has keys of its own: one theft must not open two doors."""
        top = self._targets.signed.delegations or Delegations({}, {})
        drafts = [metadata.signed for metadata in self._next.values()]
        taken = {*self._roots[-1].signed.keys, *top.keys}
        for signed in drafts:
            if isinstance(signed, Root):
                taken |= signed.keys.keys()
            elif signed.delegations is not None:
                taken |= signed.delegations.keys.keys()
        if key.keyid in taken:
            raise CeremonyError(
                f"key {key.keyid[:_ID_DIGITS]} is in use already; each role has keys of its own"
            )

    def _match(self, role: str, digits: str, keyids: Sequence[str]) -> str:
        found = [keyid for keyid in keyids if keyid.startswith(digits)]
        if len(digits) < _ID_DIGITS or len(found) != 1:
            raise CeremonyError(
                f"{digits!r} names no key of {role}; `ferry keys status` shows their ids, of which at least "
                f"{_ID_DIGITS} digits are needed"
            )
        return found[0]

    def _expiry(self) -> datetime:
        return (self._now + OFFLINE_LIFETIME).replace(microsecond=0)


def _roles(targets: Targets) -> dict[str, DelegatedRole]:
    if targets.delegations is None or targets.delegations.roles is None:
        raise CeremonyError("the targets role delegates to nobody")
    return targets.delegations.roles
