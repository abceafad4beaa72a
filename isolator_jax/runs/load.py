"""A run on disk, read back: its configuration, data and model."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from isolator_jax.backbones import Encoded
from isolator_jax.backbones.base import Params
from isolator_jax.data import Dataset
from isolator_jax.data.knock_out import knock_out as knock_out_features
from isolator_jax.devices.mesh import on_host, put
from isolator_jax.devices.placement import ONE_DEVICE, Placement
from isolator_jax.errors import ConfigError, DataError, RunError
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.folder import read_config
from isolator_jax.runs.learner import make_learner
from isolator_jax.runs.problem import Problem, load_dataset, make_problem
from isolator_jax.training import Checkpoints


def load_run(
    run_dir: str | Path,
    placement: Placement = ONE_DEVICE,
    *,
    knock_out: Mapping[str, str] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
) -> tuple[RunConfig, Problem, Encoded, int]:
    """Reads a run back: its configuration, data, embeddings of its best epoch, and that epoch.

    The number of devices it was trained on does not matter.

    Args:
      run_dir: the run folder.
      placement: the devices.
      knock_out: modalities that are knocked out now, beside those that the run was trained without; they
        join the configuration.
      checkpoint: as for `load_model`.

    Raises:
      ConfigError: a modality of `knock_out` was knocked out in training already.
      RunError: not a run folder, no checkpoint in it, another than `checkpoint`, or the data has changed since.
      CheckpointError: none of its checkpoints is usable.
      DataError: the data is no longer readable.
    """
    config = RunConfig.from_dict(read_config(Path(run_dir))["config"])
    now = dict(knock_out or {})
    if twice := config.knock_out.keys() & now.keys():
        raise ConfigError(f"{run_dir}: trained with {', '.join(sorted(twice))} knocked out; leave it out of knock_out")
    config = dataclasses.replace(config, knock_out={**config.knock_out, **now})
    problem = make_problem(config, _dataset_of_run(run_dir, config), placement)
    return config, problem, *load_model(run_dir, problem, knock_out=now, checkpoint=checkpoint)


def _dataset_of_run(run_dir: str | Path, config: RunConfig) -> Dataset:
    if config.data_dir is not None and not Path(config.data_dir, config.dataset or "").is_dir():
        raise DataError(
            f"{run_dir}: the run's data is no longer in {config.data_dir}; put the folder {config.dataset} back there, "
            "or give the run's isolator train command again with the data's new place, which is then noted"
        )
    return load_dataset(config)


def load_model(
    run_dir: str | Path,
    problem: Problem,
    *,
    cache_dir: str | Path | None = None,
    knock_out: Mapping[str, str] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
) -> tuple[Encoded, int]:
    """Reads a run's model back on a problem that is already made: embeddings of its best epoch, and that epoch.

    Args:
      cache_dir: where nearest-neighbour lists are kept; None for `run_dir/cache`.
      knock_out: what of the problem's is not of the run, and so is done to the feature tables that the model
        has trained as well.
      checkpoint: the one it must be, as a report names it; None: the newest that is usable.

    Raises:
      RunError: not a run folder, no checkpoint in it, another than `checkpoint`, or the run was trained on other data.
      CheckpointError: none of its checkpoints is usable.
    """
    run_dir = Path(run_dir)
    saved = read_config(run_dir)
    config = RunConfig.from_dict(saved["config"])
    if problem.dataset.fingerprint() != saved["data_fingerprint"]:
        raise RunError(f"{run_dir}: the dataset has changed since this run was trained; train again")
    learner = make_learner(config, problem, cache_dir or run_dir / "cache")
    # Its arrays are gone before others are read.
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, learner.initial_state(config.seed))
    with Checkpoints(run_dir / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.restore_latest(like)
        if state is None:
            raise RunError(f"{run_dir}: no checkpoint yet; train the run first")
        epoch = int(state.train.epoch)
        if checkpoint is not None and checkpoint != {"epoch": epoch, "sha256": checkpoints.digest(epoch)}:
            raise RunError(
                f"{run_dir}: its report is of the checkpoint of epoch {checkpoint['epoch']}, and what can be loaded is "
                f"another, of epoch {epoch}: another command went on with the run, or the checkpoint is damaged; "
                "give the command again, or the run's isolator train command"
            )
    params = _without(state.best_params, knock_out or {}, config.seed, problem.dataset.num_items)
    return learner.encode(params), int(state.best_epoch)


def _without(params: Params, how: Mapping[str, str], seed: int, num_items: int) -> Params:
    """Parameters whose feature tables, where the model trains its own, are knocked out as the raw features are."""
    tables = params.get("features", {})
    known = {name: way for name, way in how.items() if name in tables}
    rows = {name: on_host(tables[name])[:num_items] for name in known}
    knocked = {
        name: put(np.pad(x, [(0, tables[name].shape[0] - num_items), (0, 0)]), tables[name].sharding)
        for name, x in knock_out_features(rows, known, seed).items()
    }
    return {**params, "features": {**tables, **knocked}} if knocked else params
