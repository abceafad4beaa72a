"""Nearest-neighbour lists kept on disk, named by the content they were made from."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from isolator_jax.files import write_atomically
from isolator_jax.neighbours import Neighbours, NeighbourSearch, nearest_neighbours


def cached_nearest_neighbours(folder: str | Path) -> NeighbourSearch:
    """`neighbours.nearest_neighbours` that looks into a folder first, and writes what it had to compute.

    A file is named by the hash of the features' shape, type and values, so that changed
    features never meet old lists. A file that cannot be read is made again.
    """
    folder = Path(folder)

    def find(features: np.ndarray, k: int) -> Neighbours:
        digest = hashlib.blake2b(repr((features.shape, features.dtype.str)).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(features).data)
        path = folder / f"neighbours-{k}-{digest.hexdigest()}.npz"
        lists = _read(path)
        if lists is None:
            lists = nearest_neighbours(features, k)
            write_atomically(path, lambda draft: np.savez(draft, **lists._asdict()))
        return lists

    return find


def _read(path: Path) -> Neighbours | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Neighbours(**{name: stored[name] for name in Neighbours._fields})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
