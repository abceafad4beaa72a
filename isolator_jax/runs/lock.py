"""A folder's lock: one command at a time works there."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from isolator_jax import processes
from isolator_jax.errors import FolderInUse, RunError, brief
from isolator_jax.files import remove_drafts

LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


@contextmanager
def locked(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Holds a folder's lock, which the operating system frees with the process; makes the folder.

    Whoever writes in a run folder, or in one below it, holds it: one command at a time. It is the
    system's `flock`, which network file systems carry to other machines where they are set up to.
    Of several processes the first holds it for all.

    Args:
      folder: the folder.
      wait: whether to wait until it is free.

    Raises:
      FolderInUse: another command holds it, and this one does not wait.
      RunError: the file system has no locks, or another process of this command does not see the folder.
    """
    folder = Path(folder)
    # No marker file in place of a lock: nothing would free it when its process dies.
    lock = FileLock(folder / LOCK, blocking=wait, fallback_to_soft=False)
    try:  # releasing what was not acquired does nothing
        processes.first(lambda: _acquire(lock, folder))
        processes.check_shared(folder)
        yield
    finally:
        lock.release()


class Place:
    """A folder whose lock is held, told from one that has taken its name since.

    Args:
      folder: the folder.
    """

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, _inode(folder / LOCK)

    @processes.by_first
    def check(self) -> None:
        """Refuses a folder that is no longer the one it was.

        Raises:
          RunError: it was removed or renamed, or another lies there by now.
        """
        if _inode(self._folder / LOCK) != self._lock:
            raise RunError(
                f"{self._folder}: the folder was removed or replaced while this command worked in it; nothing more is "
                "written there, give the command again with a folder of its own"
            )


def _inode(path: Path) -> tuple[int, int] | None:
    """What a file is on this system, whatever its name; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _acquire(lock: FileLock, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    if path.is_symlink():  # opening it would empty the file it leads to
        raise RunError(f"{path} is a link to elsewhere; remove the link, the lock is made anew")
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUse(f"{folder}: another command is working in this folder; wait for it, or stop it") from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise RunError(
            f"{folder}: its file system has no file locks ({brief(error)}), which keep two commands apart; "
            "choose a folder on a local disk, results can be copied afterwards"
        ) from None
    remove_drafts(folder)
