"""Audits recommendation lists of any system: accuracy, bias, and what the bias means on this dataset.

  isolator audit --lists=mine=lists.csv,other=run.trec --data_dir=data --dataset=mine --output_dir=audit

Lists are CSV, TSV, JSON lines or parquet with columns user, item, and rank or score, or TREC
runs; in original ids or the dataset's own. Beside the systems stand two rankings that need no
model, by popularity alone and by content similarity (s_ui) alone.

Writes audit.json, audit.md and per_user.parquet, and with --trec_runs each system's lists, as far
as they are measured, as NAME.run.
"""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import flags

from isolator_jax.content import make_content
from isolator_jax.data import read_dataset
from isolator_jax.data.lists import ID_KINDS, NO_ITEM, IdIndex, ReadLists, read_lists, refuse_blanks
from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.errors import ConfigError, brief
from isolator_jax.evaluation import list_hits
from isolator_jax.evaluation.audit import audit_lists
from isolator_jax.evaluation.metrics import UCBIAS_K
from isolator_jax.files import write_json, write_text
from isolator_jax.histories import Histories
from isolator_jax.reporting.audit_page import audit_markdown
from isolator_jax.runs.ids import OriginalIds

from .common import cli
from .common.outputs import check_output, refuse_inputs, refuse_values_of_others
from .common.parsing import check_list_length, parse_hparams, parse_list_lengths
from .common.per_user import PER_USER, write_per_user, write_trec_runs

_LISTS = flags.DEFINE_string(
    "lists", None, "Files of lists by system, as mine=lists.csv,other=run.trec.", required=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the dataset's folder.", required=True)
_DATASET = flags.DEFINE_string("dataset", None, "Dataset whose users and items the lists are of.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_MODALITIES = flags.DEFINE_list("modalities", None, "Modalities that similarity is of. Default: all there are.")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Held-out items to measure on.")
_K = flags.DEFINE_list("k", ["10", "20"], "List lengths of the metrics. UCBias and rho use 20.")
_IDS = flags.DEFINE_enum(
    "ids", "auto", ID_KINDS, "Whether the lists' ids are original or the dataset's own (dense). auto: what they fit."
)
_TREC_RUNS = flags.DEFINE_bool(
    "trec_runs", False, "Also write each system's lists, as far as measured, as a TREC run in original ids."
)


def main() -> None:
    files = _files_by_system()
    ks = parse_list_lengths("k", _K.value)
    output = check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    written = ["audit.json", "audit.md", PER_USER, *(f"{name}.run" for name in files if _TREC_RUNS.value)]
    refuse_inputs((output / name for name in written), files.values())
    refuse_values_of_others(output, own="an audit")
    dataset = read_dataset(_DATA_DIR.value, _DATASET.value, _MODALITIES.value)
    check_list_length("k", max(ks), dataset.num_items)
    if not len(dataset.split(_SPLIT.value)):
        raise ConfigError(f"--split={_SPLIT.value}: dataset {dataset.name} has no {_SPLIT.value} interactions")
    folder = Path(_DATA_DIR.value) / _DATASET.value
    user_ids, users_index = _ids(folder, "userID", dataset.num_users)
    item_ids, items_index = _ids(folder, "itemID", dataset.num_items)
    if _TREC_RUNS.value:
        refuse_blanks(user_ids, item_ids)
    histories = dataset.train.histories(dataset.num_users)
    users = histories.users_with_items()
    longest = max(UCBIAS_K, *ks)
    notes, lists = [], {}
    for name, path in files.items():
        read = read_lists(path, users_index, items_index, k=longest, kind=_IDS.value)
        lists[name] = _of_users(users, read)
        notes.append(_note(name, path, read, users, lists[name], histories, longest))
        print(notes[-1], flush=True)
    content = make_content(dataset.features, histories) if dataset.features else None
    audit = audit_lists(
        lists,
        users,
        histories,
        dataset.split(_SPLIT.value).histories(dataset.num_users),
        content,
        num_items=dataset.num_items,
        ks=ks,
    )
    title = f"Audit of {', '.join(files)} on {dataset.name}, {_SPLIT.value}"
    page = audit_markdown(audit, title, notes)
    described = {"name": dataset.name, **dataset.counts()}
    write_json(output / "audit.json", {"dataset": described, "split": _SPLIT.value, "notes": notes, **audit.to_dict()})
    write_text(output / "audit.md", page)
    ids = OriginalIds(user_ids, item_ids)
    write_per_user(output, audit.columns(), content, ids)
    if _TREC_RUNS.value:
        write_trec_runs(output, users, lists, ids)
    print(f"\n{page}\nWritten: {output}")


def _files_by_system() -> dict[str, Path]:
    files = {name: Path(path) for name, path in parse_hparams("lists", _LISTS.value).items()}
    wrong = [name for name in files if not re.fullmatch(r"[\w.+-]{1,100}", name)]
    if wrong or not files:
        raise ConfigError(
            "--lists: systems need names of letters, digits and . + - _, as in --lists=mine=lists.csv; "
            f"got {brief(repr(wrong[0] if wrong else _LISTS.value))}"
        )
    return files


def _ids(folder: Path, column: str, count: int) -> tuple[np.ndarray, IdIndex]:
    """Original ids by dense id, or the dense ids where there are no others; and how they are found in lists."""
    original = read_id_mapping(folder, column, count)
    return np.arange(count) if original is None else original, IdIndex.of(column, count, original)


def _of_users(users: np.ndarray, read: ReadLists) -> np.ndarray:
    """`[N, K]` lists of these users, empty where the file has none."""
    lists = np.full((users.size, read.lists.shape[1]), NO_ITEM, np.int32)
    _, places, rows = np.intersect1d(users, read.users, assume_unique=True, return_indices=True)
    lists[places] = read.lists[rows]
    return lists


def _note(
    name: str, path: Path, read: ReadLists, users: np.ndarray, lists: np.ndarray, histories: Histories, k: int
) -> str:
    """What was read of a system, and what about it lowers its numbers."""
    kinds = read.ids[0] if read.ids[0] == read.ids[1] else f"users {read.ids[0]}, items {read.ids[1]}"
    parts = [f"{name}: {path}, lists of {read.users.size} users, {kinds} ids"]
    without = int((lists[:, 0] == NO_ITEM).sum())
    if without:
        parts.append(f"{without} users with training items have no list and count as empty ones")
    untrained = read.users.size - (users.size - without)
    if untrained:
        parts.append(f"{untrained} lists are of users without training items and left out")
    if read.longest < k:
        parts.append(f"no list is longer than {read.longest}, so metrics beyond that lack hits")
    elif short := int((lists[:, k - 1] == NO_ITEM).sum()) - without:
        parts.append(f"{short} lists are shorter than {k}, and lack hits beyond their end")
    seen = int(list_hits(jnp.asarray(lists), histories, jnp.asarray(users)).sum())
    if seen:
        parts.append(f"{seen} listed items are training items of their users: they fill places and hit nothing")
    return "; ".join(parts)


if __name__ == "__main__":
    cli.run(main)
