"""A dataset on its devices, ready to train on and to evaluate."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from isolator_jax import processes
from isolator_jax.backbones import Encoded, get_backbone
from isolator_jax.content import Content, make_content
from isolator_jax.data import Dataset, make_dataset, read_dataset
from isolator_jax.data.knock_out import knock_out
from isolator_jax.devices.placement import ONE_DEVICE, Placement
from isolator_jax.errors import DataError
from isolator_jax.evaluation import Evaluation, evaluate, top_k_lists
from isolator_jax.features import fuse_channels
from isolator_jax.histories import Histories
from isolator_jax.runs.config import RunConfig
from isolator_jax.similarity import build_similarity
from isolator_jax.strategies import Strategy
from isolator_jax.training import (
    TrainData,
    make_train_data,
)

# Lists are made for so many users at a time.
_USERS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class Problem:
    """A dataset on the device, ready to train on and to evaluate.

    Attributes:
      dataset: on the host.
      shown: the dataset as the model sees it, features knocked out where the run says so; else `dataset`.
      train: training interactions and histories.
      validation, test: held-out items of each user.
      content: similarities and consistencies; None for a dataset without features. Its similarity, which the
        strategies score by, is of the features shown; c_u, and what groups and rho are made of, of the true ones.
      placement: the devices to work on.
    """

    dataset: Dataset
    shown: Dataset
    train: TrainData
    validation: Histories
    test: Histories
    content: Content | None
    placement: Placement = ONE_DEVICE


def load_dataset(config: RunConfig) -> Dataset:
    """Reads and checks the dataset of a run; the embedded one where none is named.

    Every process reads it.

    Raises:
      DataError: missing or malformed data.
      ConfigError: processes read different data.
    """
    dataset = processes.each(lambda: _read(config))
    processes.same("data", dataset.fingerprint)
    return dataset


def _read(config: RunConfig) -> Dataset:
    if config.data_dir is not None and config.dataset is not None:
        return read_dataset(config.data_dir, config.dataset, config.modalities)
    dataset, _ = make_dataset()
    if config.modalities is None:
        return dataset
    unknown = [name for name in config.modalities if name not in dataset.features]
    if unknown:
        raise DataError(
            f"the embedded dataset has no modality {', '.join(unknown)}; it has {', '.join(dataset.features)}"
        )
    return dataclasses.replace(dataset, features={name: dataset.features[name] for name in config.modalities})


def make_problem(
    config: RunConfig, dataset: Dataset, placement: Placement = ONE_DEVICE, *, with_content: bool = True
) -> Problem:
    """Moves a dataset to the devices, and computes its content similarity.

    Args:
      config: the run's.
      dataset: on the host.
      placement: the devices.
      with_content: whether to compute the similarity, which may be the largest part.

    Raises:
      DataError: the data lacks what the configuration needs, or validation interactions, or has a pair more than once.
    """
    if not dataset.features and get_backbone(config.backbone).uses_content:
        raise DataError(f"dataset {dataset.name} has no MODALITY_feat.npy, and {config.backbone} needs item features")
    if not dataset.features and config.training_strategy:
        raise DataError(
            f"dataset {dataset.name} has no MODALITY_feat.npy, and the training strategy needs item "
            "features; add them, or train plain BPR (isolator train --notraining_strategy, isolator sweep --gammas=)"
        )
    if not len(dataset.validation):
        raise DataError(
            f"dataset {dataset.name} has no validation interactions, by which training stops and settings are chosen; "
            "hold some out of its training ones"
        )
    _refuse_repeated_pairs(dataset)
    shown = _shown(config, dataset)
    train = make_train_data(dataset)
    cold = dataset.without_training("validation")
    if cold["users"] == cold["of"]:
        raise DataError(
            f"dataset {dataset.name}: no validation user has training interactions, so that there is nothing to stop "
            "and choose by; split each user's interactions, or hold some of the trained users' out"
        )
    content = None
    if dataset.features and with_content:
        content = _make_content(config, dataset, shown, train.histories, placement)
    return Problem(
        dataset=dataset,
        shown=shown,
        train=placement.everywhere(train),
        validation=placement.everywhere(dataset.validation.histories(dataset.num_users)),
        test=placement.everywhere(dataset.test.histories(dataset.num_users)),
        content=None if content is None else placement.content(content),
        placement=placement,
    )


def _refuse_repeated_pairs(dataset: Dataset) -> None:
    """Readers of files refuse these with their lines; a dataset may also be made in memory."""
    keys = [
        split.users.astype(np.int64) * dataset.num_items + split.items
        for split in (dataset.train, dataset.validation, dataset.test)
    ]
    together = np.sort(np.concatenate(keys))
    again = together[1:][together[1:] == together[:-1]]
    if again.size:
        user, item = divmod(int(again[0]), dataset.num_items)
        raise DataError(
            f"dataset {dataset.name}: user {user} and item {item} are there more than once, in one split or in two; "
            "keep the pair once"
        )


def _shown(config: RunConfig, dataset: Dataset) -> Dataset:
    if not config.knock_out:
        return dataset
    try:
        features = knock_out(dataset.features, config.knock_out, config.seed)
    except ValueError as error:
        raise DataError(f"dataset {dataset.name}: {error}") from None
    return dataclasses.replace(dataset, features=features)


def _make_content(
    config: RunConfig, dataset: Dataset, shown: Dataset, histories: Histories, placement: Placement
) -> Content:
    store: dict[str, Any] = {
        "table_budget_bytes": config.similarity_budget_mb << 20,
        "table_dtype": jnp.dtype(config.similarity_dtype),
        "make_table": placement.build_table,
    }
    if shown is dataset:
        return make_content(dataset.features, histories, fusion=config.fusion, **store)
    # Of the true features' similarity nothing is kept: no table is made of it.
    content = make_content(dataset.features, histories, fusion=config.fusion, table_budget_bytes=0)
    channels = fuse_channels(list(shown.features.values()), config.fusion)
    return dataclasses.replace(content, similarity=build_similarity(channels, histories, **store))


def evaluate_problem(
    problem: Problem,
    encoded: Encoded,
    split: str,
    strategies: Mapping[str, Strategy],
    **options: Any,
) -> dict[str, Evaluation]:
    """Evaluates embeddings on the `validation` or `test` split; options as of `evaluate`."""
    truth = {"validation": problem.validation, "test": problem.test}[split]
    return evaluate(
        encoded,
        None,
        problem.train.histories,
        strategies,
        problem.content,
        truth=truth,
        rank=problem.placement.rank,
        **options,
    )


def recommendations(
    problem: Problem,
    encoded: Encoded,
    users: np.ndarray,
    strategy: Strategy,
    *,
    k: int,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
) -> pd.DataFrame:
    """The top-k lists of users under one strategy, as a table of original ids.

    Args:
      problem: its histories are left out of the lists.
      encoded: embeddings.
      users: `[N] int32` dense ids.
      strategy: to rank by.
      k: list length; lists are shorter where fewer items are left.
      user_ids, item_ids: `[U]` and `[I]` original ids.

    Returns:
      Columns user, rank (from 1), item and score; a user's lines together, in the order of `users`.
    """
    # Of few sizes, so that not every number of users is compiled for; and no longer than lists can be.
    size = min(1 << (users.size - 1).bit_length(), -(-users.size // _USERS_AT_ONCE) * _USERS_AT_ONCE)
    padded = np.pad(users, (0, size - users.size), mode="edge") if users.size else users
    lists = top_k_lists(
        encoded,
        padded,
        problem.train.histories,
        {"list": strategy},
        problem.content,
        k=min(k, problem.dataset.num_items),
        user_chunk=_USERS_AT_ONCE,
    )
    listed, keys = lists["list"]
    items, scores = (np.asarray(x)[: users.size] for x in (listed, strategy.score(jnp.asarray(keys))))
    filled = items >= 0
    return pd.DataFrame(
        {
            "user": np.repeat(user_ids[users], filled.sum(axis=1)),
            "rank": np.broadcast_to(np.arange(1, items.shape[1] + 1), items.shape)[filled],
            "item": item_ids[items[filled]],
            "score": scores[filled],
        }
    )
