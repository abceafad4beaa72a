"""The files of a dataset folder with original ids, written whole or not at all."""

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from isolator_jax.data.dataset import SPLITS, Dataset
from isolator_jax.files import begun, draft_beside

_LINES_AT_ONCE = 1 << 20


def is_folder_name(name: str) -> bool:
    """Whether a folder can be called so."""
    return Path(name).name == name and name not in ("", "..") and name.isprintable()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes the target at the end, or is gone.

    Raises:
      FileExistsError: the target is there by then; nothing is changed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_beside(target)
    with begun(draft):
        draft.mkdir()
        try:
            yield draft
            if target.exists():
                raise FileExistsError(f"{target} exists by now; choose another name or remove it")
            os.rename(draft, target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def write_interactions(folder: Path, name: str, users: np.ndarray, items: np.ndarray, labels: np.ndarray) -> None:
    """Writes `NAME.inter` as `mmrec.read_dataset` reads it.

    Args:
      folder: where.
      name: the dataset's.
      users, items, labels: `[E]` integers; labels are 0, 1 and 2.
    """
    with (folder / f"{name}.inter").open("wb") as file:
        file.write(b"userID\titemID\tx_label\n")
        options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t")
        for start in range(0, labels.size, _LINES_AT_ONCE):
            part = slice(start, start + _LINES_AT_ONCE)
            columns = [pa.array(column[part]) for column in (users, items, labels)]
            pyarrow.csv.write_csv(pa.table(columns, names=["u", "i", "x"]), file, options)


def write_splits(folder: Path, name: str, dataset: Dataset) -> None:
    """`write_interactions` of a dataset's splits, by user and item."""
    splits = [dataset.split(split) for split in SPLITS]
    users, items = (np.concatenate([getattr(split, side) for split in splits]) for side in ("users", "items"))
    labels = np.repeat(np.arange(len(SPLITS), dtype=np.int8), list(map(len, splits)))
    order = np.lexsort((items, users))
    write_interactions(folder, name, users[order], items[order], labels[order])


def write_mapping(folder: Path, original: str, dense: str, ids: Sequence[str]) -> None:
    """Original ids and those of the dataset, as `mmrec.read_id_mapping` reads them."""
    # Python 3.12 and before quotes no lone carriage return by itself, which readers take for a line's end.
    with (folder / f"{dense[0]}_id_mapping.csv").open("w", encoding="utf-8", newline="") as file:
        if any("\r" in text for text in ids):
            rows = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
        else:
            rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerow([original, dense])
        rows.writerows(zip(ids, range(len(ids)), strict=True))
