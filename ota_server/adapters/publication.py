"""Publishing several files that only make sense together: all of them in the end, whatever happens.

A ceremony may change root and timestamp keys at once; a server that died between the two would serve a
root under which its timestamp is worth nothing. So the files are written to one journal first. Once that
is on disk the publication will happen: whoever publishes next, or starts, completes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ota_contract.documents import canonical_json, read_document
from ota_contract.errors import ContractError
from ota_server.adapters.files import fsync_directory, storage_errors, write_durably
from ota_server.adapters.metadata_folder import METADATA, MetadataFolder
from ota_server.adapters.online_keys import KEYS
from ota_server.errors import RepositoryError

__all__ = ["JOURNAL", "complete", "publish_together"]

JOURNAL = "publication.json"
"""In the data folder, while a publication is under way."""
_FORMAT = "ferry.publication/1"
_MAX_BYTES = 256 * 1024 * 1024
_MAX_FILES = 4096
_TIMESTAMP = "timestamp.json"


def publish_together(data: Path, metadata: Mapping[str, bytes], keys: bytes) -> None:
    """Write metadata files in the order given, ending with the timestamp, and `keys.json` before it.

    Returns once everything is on disk. On failure either nothing is visible, or `complete` will finish.

    Raises:
        StorageError: The disk refuses.
    """
    document = {
        "format": _FORMAT,
        "keys": keys.decode(),
        "files": [{"name": name, "text": text.decode()} for name, text in metadata.items()],
    }
    write_durably(data / JOURNAL, canonical_json(document), mode=0o600)
    complete(data)


def complete(data: Path) -> bool:
    """Finish a publication that was begun; returns whether there was one.

    Raises:
        StorageError: The disk refuses; it stays begun.
        RepositoryError: The journal is damaged.
    """
    path = data / JOURNAL
    if not path.exists():
        return False
    try:
        reader = read_document(path.read_bytes(), what="publication", format_=_FORMAT, max_bytes=_MAX_BYTES)
        keys = reader.raw("keys").encode()
        files = {
            item.text("name"): item.raw("text").encode()
            for item in reader.objects("files", max_items=_MAX_FILES, min_items=1)
        }
    except (OSError, ContractError, AttributeError) as error:
        raise RepositoryError(
            f"{path} is damaged ({error}); restore the data folder from a backup"
        ) from error
    folder = MetadataFolder(data)
    if folder.read(_TIMESTAMP) != files[_TIMESTAMP]:
        for name, content in files.items():
            if name == _TIMESTAMP:
                write_durably(data / KEYS, keys, mode=0o600)
            write_durably(data / METADATA / name, content)
    with storage_errors(path):
        path.unlink()
        fsync_directory(data)
    return True
