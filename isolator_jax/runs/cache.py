"""Nearest-neighbour lists kept on disk, named by the content they were made from."""

import hashlib
import warnings
import zipfile
from pathlib import Path

import numpy as np

from isolator_jax import processes
from isolator_jax.files import write_atomically
from isolator_jax.neighbours import Neighbours, NeighbourSearch, nearest_neighbours

_HEADERS = 4096


def cached_nearest_neighbours(folder: str | Path) -> NeighbourSearch:
    """`neighbours.nearest_neighbours` that looks into a folder first, and writes what it had to compute.

    A file is named by the hash of the features' shape, type and values, so that changed
    features never meet old lists. A file that cannot be read is made again; lists that cannot be
    written, as those of a run that may only be read, are searched each time, with a warning. Of
    several processes the first looks, computes and writes, and gives the others the lists.
    """
    folder = Path(folder)

    @processes.by_first
    def find(features: np.ndarray, k: int) -> Neighbours:
        digest = hashlib.blake2b(repr((features.shape, features.dtype.str)).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(features).view(np.uint8).data)  # bfloat16 has no buffer of its own
        path = folder / f"neighbours-{k}-{digest.hexdigest()}.npz"
        lists = read_lists(path, (features.shape[0], min(k, features.shape[0])))
        if lists is None:
            lists = nearest_neighbours(features, k)
            try:
                write_atomically(path, lambda draft: np.savez(draft, **lists._asdict()))
            except OSError as error:
                warnings.warn(f"{path}: not written, neighbours are searched again ({error.strerror})", stacklevel=2)
        return lists

    return find


def read_lists(path: Path, shape: tuple[int, int]) -> Neighbours | None:
    """The lists of a file; None where there are none, or none that can be used.

    Args:
      path: the `.npz` file.
      shape: `(I, K)`, what the lists must have.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 2 * 4 * shape[0] * shape[1] + _HEADERS:
                return None  # it would unpack to more than such lists
        with np.load(path, allow_pickle=False) as stored:
            lists = Neighbours(**{name: stored[name] for name in Neighbours._fields})
    except Exception:  # of many types, from zip files to numpy headers
        return None
    of_kind = lists.items.dtype == np.int32 and lists.cosines.dtype == np.float32
    if not of_kind or lists.items.shape != shape or lists.cosines.shape != shape:
        return None
    in_range = ((lists.items >= 0) & (lists.items < shape[0])).all() and np.isfinite(lists.cosines).all()
    return lists if in_range else None
