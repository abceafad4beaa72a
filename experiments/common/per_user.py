"""Files of what single users got: their values, and their lists as TREC runs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from isolator_jax.content import Content
from isolator_jax.data.lists import write_trec_run
from isolator_jax.evaluation import Evaluation, per_user_table
from isolator_jax.files import write_atomically
from isolator_jax.runs.ids import OriginalIds

PER_USER = "per_user.parquet"


def write_per_user(
    folder: Path, evaluations: Mapping[str, Evaluation], content: Content | None, ids: OriginalIds
) -> None:
    """Writes `per_user.parquet` (`evaluation.per_user_table`), users in original ids."""
    table = per_user_table(evaluations, content, ids.users)
    write_atomically(folder / PER_USER, lambda draft: table.to_parquet(draft, index=False))


def write_trec_runs(folder: Path, users: np.ndarray, lists: Mapping[str, np.ndarray], ids: OriginalIds) -> list[str]:
    """Writes `NAME.run` for the lists `[N, K]` of each name, in original ids.

    Returns:
      The files' names.

    Raises:
      DataError: an id with blanks, which a TREC run cannot hold.
    """
    for name, items in lists.items():
        write = partial(write_trec_run, users=users, lists=items, user_ids=ids.users, item_ids=ids.items, tag=name)
        write_atomically(folder / f"{name}.run", write)
    return [f"{name}.run" for name in lists]
