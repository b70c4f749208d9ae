"""What `ferry keys init`, `new` and `status` do; `ota_server.commands.keys` declares them."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ota_server.adapters.files import write_durably
from ota_server.adapters.key_files import generate_key, public_pem, write_key
from ota_server.adapters.key_status import role_statuses
from ota_server.adapters.keys import Threshold, init_keys
from ota_server.commands.passphrases import new_passphrase
from ota_server.commands.say import say
from ota_server.errors import SetupError

__all__ = ["init", "new", "status"]

_THRESHOLD = re.compile(r"([1-9])/([1-9])")
_PLAIN = "Not encrypted: for development only."


def init(arguments: argparse.Namespace) -> int:
    """Make every key and the first metadata."""

    def threshold(text: str, option: str) -> Threshold:
        match = _THRESHOLD.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise SetupError(f"{option} {text!r} is not K/N with K at most N, such as 2/3")
        return Threshold(needed=int(match[1]), keys=int(match[2]))

    passphrase = new_passphrase(arguments)
    made = init_keys(
        arguments.folder,
        arguments.publisher,
        root=threshold(arguments.root, "--root"),
        targets=threshold(arguments.targets, "--targets"),
        now=datetime.now(UTC),
        passphrase=passphrase,
    )
    paths = {
        "trust root, for every device": made.root,
        "offline keys, for no network": made.offline,
        **{f"key of publisher {path.stem}": path for path in made.publishers},
        "data folder of ferry serve": made.server,
    }
    document = {
        "root": str(made.root),
        "offline": str(made.offline),
        "publishers": {path.stem: str(path) for path in made.publishers},
        "server": str(made.server),
        "encrypted": passphrase is not None,
    }
    width = max(map(len, paths))
    lines = [f"{name:<{width}}  {path}" for name, path in paths.items()]
    say(arguments, document, [*lines, "Encrypted with the passphrase." if passphrase else _PLAIN])
    return 0


def new(arguments: argparse.Namespace) -> int:
    """Make one key."""
    private: Path = arguments.file
    public = private.with_suffix(".pub")
    for path in (private, public):
        if path.exists():
            raise SetupError(f"{path} exists; keys are never overwritten")
    passphrase = new_passphrase(arguments)
    signer = generate_key()
    write_key(private, signer, passphrase)
    write_durably(public, public_pem(signer))
    document = {
        "private": str(private),
        "public": str(public),
        "id": signer.public_key.keyid,
        "encrypted": passphrase is not None,
    }
    lines = [f"{private}  keep it", f"{public}  hand it in; its id is {signer.public_key.keyid[:8]}"]
    say(arguments, document, [*lines, "Encrypted with the passphrase." if passphrase else _PLAIN])
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Tell versions, keys and expiries."""
    now = datetime.now(UTC)
    statuses = role_statuses(arguments.data, now, timedelta(days=arguments.within))
    document = [
        {
            "role": role.role,
            "version": role.version,
            "threshold": role.threshold,
            "keys": list(role.keys),
            "key_at": role.key_at,
            "key_state": role.key_state,
            "expires": role.expires.isoformat(timespec="seconds"),
            "expires_in_days": (role.expires - now) // timedelta(days=1),
            "warning": role.warning,
        }
        for role in statuses
    ]
    lines = []
    for role in statuses:
        ids = ", ".join(keyid[:8] for keyid in role.keys)
        signers = f"{role.threshold} of {len(role.keys)} ({ids})"
        where = f"{role.key_at} {role.key_state}".strip() or "offline"
        days = (role.expires - now) // timedelta(days=1)
        lines.append(f"{role.role:<14} {role.version:>5}  {signers}  {where}  expires in {days} days")
    warnings = [f"warning: {role.warning}" for role in statuses if role.warning]
    say(arguments, document, [*lines, *warnings])
    return 1 if warnings else 0
