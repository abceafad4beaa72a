"""From raw data to a dataset folder: each step, what it drops, and the record of it all."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isolator_jax.data.dataset import SPLITS
from isolator_jax.data.folder import new_folder, write_interactions, write_mapping
from isolator_jax.data.mmrec import FEATURE_SUFFIX
from isolator_jax.data.prepare import split as splits
from isolator_jax.data.prepare.config import TEXT_MODALITY, PrepareConfig
from isolator_jax.data.prepare.features import ItemFeatures, read_npy_features, read_table_features, write_features
from isolator_jax.data.prepare.filters import k_core, one_of_each_pair
from isolator_jax.data.prepare.interactions import RawInteractions, read_raw
from isolator_jax.data.prepare.text import read_texts, require_scikit_learn, text_features
from isolator_jax.data.raw import given_column, open_table
from isolator_jax.errors import ConfigError, DataError, brief
from isolator_jax.files import write_json

RECORD = "prepare.json"


def prepare_dataset(
    config: PrepareConfig, output_dir: str | Path, report: Callable[[str], object] = lambda line: None
) -> Path:
    """Makes `output_dir/config.name` in MMRec's format, with id mappings and `prepare.json`.

    The same configuration and files give the same bytes. The folder appears when it is
    whole; one that is there already is never touched.

    Args:
      config: what to read and how to treat it.
      output_dir: the folder to make the dataset's folder in.
      report: told a line after each step, with what it dropped.

    Returns:
      The dataset's folder.

    Raises:
      ConfigError: choices that do not fit each other.
      DataError: a file that cannot be read, with its line, or a step that leaves nothing.
      FileExistsError: the folder exists already; nothing is changed.
    """
    target = Path(output_dir) / config.name
    if target.exists():
        raise FileExistsError(f"{target} exists; choose another name or remove it")
    features, texts = _read_items(config)
    raw, steps = _filtered(config, [*features.values(), *([texts] if texts is not None else [])], report)
    labels = _labels(config, raw)
    counts = _checked_splits(raw, labels, report)
    if raw.times is not None and config.split in ("user_time", "leave_one_out"):
        drawn = splits.users_parted_in_a_moment(raw.users, raw.times, labels)
        report(f"users with interactions of one time in two splits, drawn by the seed: {drawn:,}")
    if texts is not None:
        features[TEXT_MODALITY] = text_features(texts, raw.item_ids, config.text_dim, config.seed)
    _refuse_missing(config, features, raw.item_ids)
    with new_folder(target) as draft:
        write_interactions(draft, config.name, raw.users, raw.items, labels)
        write_mapping(draft, "user_id", "userID", raw.user_ids)
        write_mapping(draft, "item_id", "itemID", raw.item_ids)
        modalities = {}
        for modality, values in features.items():
            path = draft / f"{modality}{FEATURE_SUFFIX}"
            modalities[modality] = write_features(path, values, raw.item_ids, config.missing_features)
            report(f"{modality}: " + ", ".join(f"{count:,} {what}" for what, count in modalities[modality].items()))
        record = {
            "choices": config.to_dict(),
            "columns": raw.columns,
            "steps": steps,
            "splits": counts,
            "features": modalities,
            "inputs": {str(path): _checksum(path) for path in _inputs(config)},
            "outputs": {path.name: _checksum(path) for path in sorted(draft.iterdir())},
        }
        write_json(draft / RECORD, record)
    return target


def _read_items(config: PrepareConfig) -> tuple[dict[str, ItemFeatures], dict[str, str] | None]:
    """Features by modality, and texts by item; all that can be refused before the interactions are read."""
    if config.text is not None:
        require_scikit_learn()
    features = {}
    for modality, path in config.features.items():
        ids = config.feature_ids.get(modality)
        if (path.suffix == ".npy") != (ids is not None):
            raise ConfigError(
                f"features of {modality}: a .npy needs the file of its rows' item ids, --feature_ids={modality}=FILE"
                if ids is None
                else f"feature_ids of {modality}: {path} has a column of ids of its own; leave the file of ids out"
            )
        features[modality] = (
            read_npy_features(path, ids) if ids is not None else read_table_features(path, _item_column(config, path))
        )
    texts = None
    if config.text is not None:
        texts = read_texts(config.text, _item_column(config, config.text), config.text_columns)
    return features, texts


def _item_column(config: PrepareConfig, path: Path) -> str | None:
    """The given column of items where a table of items has it too, else None: it may have a usual one."""
    try:
        return None if config.item_column is None else given_column(path, config.item_column, open_table(path).columns)
    except DataError:
        return None


def _filtered(
    config: PrepareConfig, with_content: list[ItemFeatures | dict[str, str]], report: Callable[[str], object]
) -> tuple[RawInteractions, list[dict[str, Any]]]:
    """The interactions after all steps, numbered densely, and the counts after each step."""
    raw = read_raw(config)
    steps = [{"step": "read", "interactions": raw.lines, "users": len(raw.user_ids), "items": len(raw.item_ids)}]
    report(_step_line(steps))

    def note(step: str) -> None:
        used = {
            name: int(np.count_nonzero(np.bincount(ids))) for name, ids in (("users", raw.users), ("items", raw.items))
        }
        steps.append({"step": step, "interactions": raw.users.size, **used})
        report(_step_line(steps))
        if not raw.users.size:
            raise DataError(f"{config.interactions}: no interaction is left after the step {step!r}; ask for less")

    if config.min_rating is not None:
        note(f"rating at least {config.min_rating:g}")
    if raw.labels is not None:
        _refuse_common_pairs(raw, raw.labels)
    raw = raw.of(one_of_each_pair(raw.users, raw.items, raw.times, config.duplicates))
    note("duplicates dropped")
    rows = [known.row_of if isinstance(known, ItemFeatures) else known for known in with_content]
    if config.missing_features == "drop" and rows:
        complete = np.array([all(item in known for known in rows) for item in raw.item_ids])
        raw = raw.of(complete[raw.items])
        note("items without features dropped")
    if config.k_core > 1:
        raw = raw.of(k_core(raw.users, raw.items, config.k_core))
        note(f"{config.k_core}-core")
    raw = raw.renumbered()
    if config.all_items:
        known = raw.item_ids
        raw = raw.with_items(set(rows[0]).intersection(*rows[1:]))
        report(f"items without interactions kept: {len(raw.item_ids) - len(known):,}")
    return raw, steps


def _step_line(steps: list[dict[str, Any]]) -> str:
    step = steps[-1]
    line = f"{step['step']}: {step['interactions']:,} interactions, {step['users']:,} users, {step['items']:,} items"
    if len(steps) > 1:
        dropped = [f"{steps[-2][what] - step[what]:,} {what}" for what in ("interactions", "users", "items")]
        line += f" (dropped {', '.join(dropped)})"
    return line


def _refuse_common_pairs(raw: RawInteractions, labels: np.ndarray) -> None:
    """Refuses a given split that has a pair in two splits."""
    pairs = raw.users.astype(np.int64) * len(raw.item_ids) + raw.items
    order = np.lexsort((labels, pairs))
    pairs, labels = pairs[order], labels[order]
    crossing = (pairs[1:] == pairs[:-1]) & (labels[1:] != labels[:-1])
    if crossing.any():
        user, item = divmod(int(pairs[int(crossing.argmax())]), len(raw.item_ids))
        raise DataError(
            f"user {brief(repr(raw.user_ids[user]))} and item {brief(repr(raw.item_ids[item]))} are in two splits; "
            "keep the pair in one, otherwise evaluation leaks into training"
        )


def _labels(config: PrepareConfig, raw: RawInteractions) -> np.ndarray:
    """`[E] int8` labels of interactions sorted by user, then item."""
    if raw.labels is not None:
        return raw.labels
    keys = np.random.default_rng(config.seed).random(raw.users.size)
    if raw.times is not None and config.split != "random":
        if config.split == "time":
            return splits.label_by_time(raw.times, config.ratios)
        keys = splits.in_time(raw.times, keys)
    counts = np.bincount(raw.users)
    if config.split == "leave_one_out":
        return splits.label_last(raw.users, keys, *splits.leave_one_out_counts(counts))
    return splits.label_last(raw.users, keys, *splits.held_out_counts(counts, config.ratios))


def _checked_splits(raw: RawInteractions, labels: np.ndarray, report: Callable[[str], object]) -> dict[str, int]:
    """Sizes of the splits, and what of the held-out ones cannot be measured or learned."""
    sizes = np.bincount(labels, minlength=len(SPLITS))
    train = labels == splits.TRAIN
    users = np.bincount(raw.users[train], minlength=len(raw.user_ids)) > 0
    items = np.bincount(raw.items[train], minlength=len(raw.item_ids)) > 0
    for label, name in enumerate(SPLITS):
        if label == splits.VALIDATION and not sizes[label] and raw.labels is not None:
            continue
        if not users[raw.users[labels == label]].any():
            what = "is empty" if not sizes[label] else "has no user with training interactions"
            raise DataError(f"the {name} split {what}; choose another split, or drop less of the interactions")
    counts = {name: int(size) for name, size in zip(SPLITS, sizes, strict=True)}
    counts["held out of users without training"] = int((~users[raw.users[~train]]).sum())
    counts["held out of items without training"] = int((~items[raw.items[~train]]).sum())
    report("split: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    return counts


def _refuse_missing(config: PrepareConfig, features: Mapping[str, ItemFeatures], item_ids: list[str]) -> None:
    for modality, values in features.items():
        missing = np.flatnonzero(values.rows(item_ids) < 0)
        if missing.size == len(item_ids):
            raise DataError(
                f"features of {modality}: they have none of the {len(item_ids)} items; "
                f"the interactions name items such as {brief(repr(item_ids[0]))}"
            )
        if missing.size and config.missing_features not in ("zeros", "mean"):
            raise DataError(
                f"features of {modality}: {missing.size} of {len(item_ids)} items have none, "
                f"{brief(repr(item_ids[missing[0]]))} the first; say with --missing_features what becomes of them: "
                "zeros (no content), mean, or drop"
            )


def _inputs(config: PrepareConfig) -> list[Path]:
    others = [*config.features.values(), *config.feature_ids.values(), *([config.text] if config.text else [])]
    return list(dict.fromkeys([*(path for _, path in config.interaction_files()), *others]))


def _checksum(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
