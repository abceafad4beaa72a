"""A folder of checkpoints as files: which epochs there are, and a sum of each that tells of changes on the disk."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

DIGESTS = "digests.json"


def saved_epochs(folder: Path) -> list[int]:
    """Epochs of the complete checkpoints in a folder, rising, without opening any."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.name.isascii())


def recorded_digest(folder: Path, epoch: int) -> str | None:
    """What `digests.json` says of a checkpoint; None where it says nothing."""
    return read_digests(folder).get(str(epoch))


def read_digests(folder: Path) -> dict[str, str]:
    """What was recorded when checkpoints were written; nothing where the file is missing or is no such record.

    A run killed between a checkpoint and its digest has one without.

    Raises:
      OSError: the file is there and cannot be read.
    """
    if not (folder / DIGESTS).is_file():
        return {}
    try:
        found = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {epoch: digest for epoch, digest in entries if isinstance(digest, str)}


def digest_of(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files.

    Raises:
      OSError: a file or folder cannot be read.
      ValueError: there is a link or a device among them.
    """
    total = hashlib.sha256()
    for path in sorted(_files(folder)):
        with path.open("rb") as file:
            total.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """A folder's files; nothing in it may lead out of it, or have no end as a device has."""

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail):
        for path in (Path(parent, name) for name in (*folders, *names)):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise ValueError(f"{path.relative_to(folder)} is a link or no file")
        yield from (Path(parent, name) for name in names)
