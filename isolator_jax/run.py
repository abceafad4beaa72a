"""A training run on disk: prepare, train with checkpoints, evaluate, read back.

A run folder holds `config.json` (the resolved configuration and the data's fingerprint),
`metrics.jsonl` (a line an epoch), `checkpoints/`, `cache/` (nearest-neighbour lists, where the
backbone needs them), and at the end `report.json` and `report.md`.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from filelock import FileLock, Timeout
from jax.sharding import Mesh

from isolator_jax import scoring, sharding
from isolator_jax.backbones import Backbone, Encoded, get_backbone
from isolator_jax.cache import cached_nearest_neighbours
from isolator_jax.config import EXTENDABLE, ConfigError, RunConfig
from isolator_jax.content import Content, make_content
from isolator_jax.data import DataError, Dataset, make_dataset, read_dataset
from isolator_jax.data.dataset import SPLITS, brief
from isolator_jax.evaluation import Evaluation, evaluate, mean_recall, top_k_lists, users_to_validate
from isolator_jax.files import write_json, write_text
from isolator_jax.histories import Histories
from isolator_jax.reporting import report_markdown
from isolator_jax.similarity import build_table
from isolator_jax.training import (
    Checkpoints,
    EpochRecord,
    FitState,
    TrainData,
    TrainingInterrupted,
    epoch_shape,
    finished,
    fit,
    init_state,
    make_epoch,
    make_train_data,
)

_LOCK = ".lock"


class RunError(RuntimeError):
    """A run folder that cannot be used as asked; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A dataset on the device, ready to train on and to evaluate.

    Attributes:
      dataset: on the host.
      train: training interactions and histories.
      validation, test: held-out items of each user.
      content: similarities and consistencies; None for a dataset without features.
      mesh: the devices to work on; None for one device.
    """

    dataset: Dataset
    train: TrainData
    validation: Histories
    test: Histories
    content: Content | None
    mesh: Mesh | None = None

    @property
    def rank(self) -> Callable[..., Any]:
        """`top_k_lists` on the problem's devices."""
        return top_k_lists if self.mesh is None else functools.partial(sharding.top_k_lists_on, self.mesh)


def load_dataset(config: RunConfig) -> Dataset:
    """Reads and checks the dataset of a run; the embedded one where none is named.

    Raises:
      DataError: missing or malformed data.
    """
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


def make_problem(config: RunConfig, dataset: Dataset, mesh: Mesh | None = None) -> Problem:
    """Moves a dataset to the device, or the devices of a mesh, and computes its content similarity.

    Raises:
      DataError: the data lacks what the configuration needs.
    """
    if not dataset.features and get_backbone(config.backbone).uses_content:
        raise DataError(f"dataset {dataset.name} has no MODALITY_feat.npy, and {config.backbone} needs item features")
    if not dataset.features and config.training_strategy:
        raise DataError(
            f"dataset {dataset.name} has no MODALITY_feat.npy, and the training strategy needs item "
            "features; add them, or train plain BPR with --notraining_strategy"
        )
    train = make_train_data(dataset)
    content = None
    if dataset.features:
        content = make_content(
            dataset.features,
            train.histories,
            fusion=config.fusion,
            table_budget_bytes=config.similarity_budget_mb << 20,
            table_dtype=jnp.dtype(config.similarity_dtype),
            make_table=build_table if mesh is None else functools.partial(sharding.build_table_on, mesh),
        )
    problem = Problem(
        dataset=dataset,
        train=train,
        validation=dataset.validation.histories(dataset.num_users),
        test=dataset.test.histories(dataset.num_users),
        content=content,
        mesh=mesh,
    )
    return problem if mesh is None else _on_every_device(problem, mesh)


def strategies_of(config: RunConfig, with_content: bool) -> dict[str, scoring.Strategy]:
    """The inference strategies a run's model is evaluated under.

    A model trained with the training strategy: `training_strategy`, `d` and `u`. A plain
    model: `vanilla`, and `u`, which is then the paper's "U w/o TS". Without content, only
    `vanilla`.
    """
    strategies = {"vanilla": scoring.vanilla()}
    if config.training_strategy:
        strategies = {
            "training_strategy": scoring.training_strategy(config.gamma),
            "d": scoring.d_isolator(),
        }
    if with_content:
        strategies["u"] = scoring.u_isolator(config.alpha, config.beta, config.iota)
    return strategies


def train_run(
    config: RunConfig,
    problem: Problem,
    run_dir: str | Path,
    *,
    checkpoint_every: Callable[[EpochRecord], bool],
    cache_dir: str | Path | None = None,
    splits: Sequence[str] = ("validation", "test"),
    on_epoch: Callable[[FitState, EpochRecord], None] = lambda state, record: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains, or resumes and finishes, the run of a folder, and writes its report.

    Args:
      config: the run's configuration.
      problem: its data, from `make_problem`.
      run_dir: the run folder; made if missing.
      checkpoint_every: whether to save a checkpoint after an epoch; the final state is
        always saved. When checkpoints are made does not change the result.
      cache_dir: where nearest-neighbour lists are kept; None for `run_dir/cache`.
      splits: which splits the report evaluates the best epoch on.
      on_epoch: called after each epoch.
      stop: asked before each epoch whether to save and end here.

    Returns:
      The report, as in `report.json`.

    Raises:
      RunError: the folder holds another run or something else, or another process is using it.
      CheckpointError: the run has checkpoints, and none is usable.
      TrainingDiverged: a loss or parameter is not finite; the last checkpoint stays.
      TrainingInterrupted: `stop` said so; the state is saved.
    """
    run_dir = Path(run_dir)
    check_run_folder(run_dir, config, problem.dataset)
    run_dir.mkdir(parents=True, exist_ok=True)
    with _only_user(run_dir):
        # Again: another process may have begun a run since.
        write_json(run_dir / "config.json", check_run_folder(run_dir, config, problem.dataset))
        return _train_run(
            config,
            problem,
            run_dir,
            checkpoint_every=checkpoint_every,
            cache_dir=Path(cache_dir or run_dir / "cache"),
            splits=splits,
            on_epoch=on_epoch,
            stop=stop,
        )


def _train_run(
    config: RunConfig,
    problem: Problem,
    run_dir: Path,
    *,
    checkpoint_every: Callable[[EpochRecord], bool],
    cache_dir: Path,
    splits: Sequence[str],
    on_epoch: Callable[[FitState, EpochRecord], None],
    stop: Callable[[], bool],
) -> dict[str, Any]:
    inputs = prepare_inputs(config, problem, cache_dir)
    with Checkpoints(run_dir / "checkpoints") as checkpoints:
        state = initial_state(config, problem)
        restored = checkpoints.restore_latest(state)
        state = state if restored is None else restored
        metrics = _MetricsFile(run_dir, last_epoch=int(state.train.epoch))
        checkpoints.discard_after(int(state.train.epoch))

        def after_epoch(state: FitState, record: EpochRecord) -> None:
            metrics.append(record)
            if checkpoint_every(record):
                checkpoints.save(record.epoch, state)
            on_epoch(state, record)

        state = fit(
            state,
            train_function(config, problem, inputs),
            validation_function(config, problem, inputs),
            max_epochs=config.max_epochs,
            patience=config.patience,
            on_epoch=after_epoch,
            stop=stop,
        )
        epoch = int(state.train.epoch)
        if checkpoints.latest_epoch() != epoch:
            checkpoints.save(epoch, state)
    if not finished(state, max_epochs=config.max_epochs, patience=config.patience):
        raise TrainingInterrupted(f"{run_dir}: stopped and saved after epoch {epoch}")
    report = {
        "config": config.to_dict(),
        "dataset": problem.dataset.counts(),
        "best_epoch": int(state.best_epoch),
        "epochs": epoch,
        "seconds_per_epoch": metrics.seconds_per_epoch(),
    }
    encoded = encode(config, problem, inputs, state.best_params)
    for split in splits:
        results = evaluate_problem(problem, encoded, split, strategies_of(config, problem.content is not None))
        report[split] = {name: result.metrics for name, result in results.items()}
    write_report(run_dir, report)
    return report


def write_report(run_dir: str | Path, report: dict[str, Any]) -> None:
    """Writes `report.json` and `report.md`."""
    write_json(Path(run_dir) / "report.json", report)
    write_text(Path(run_dir) / "report.md", report_markdown(report))


def load_run(run_dir: str | Path, mesh: Mesh | None = None) -> tuple[RunConfig, Problem, Encoded, int]:
    """Reads a run back: its configuration, data, embeddings of its best epoch, and that epoch.

    The number of devices it was trained on does not matter.

    Raises:
      RunError: not a run folder, no checkpoint in it, or the data has changed since.
      CheckpointError: none of its checkpoints is usable.
      DataError: the data is no longer readable.
    """
    config = RunConfig.from_dict(read_config(Path(run_dir))["config"])
    problem = make_problem(config, load_dataset(config), mesh)
    return config, problem, *load_model(run_dir, problem)


def load_model(run_dir: str | Path, problem: Problem, *, cache_dir: str | Path | None = None) -> tuple[Encoded, int]:
    """Reads a run's model back on a problem that is already made: embeddings of its best epoch, and that epoch.

    Args:
      cache_dir: where nearest-neighbour lists are kept; None for `run_dir/cache`.

    Raises:
      RunError: not a run folder, no checkpoint in it, or the run was trained on other data.
      CheckpointError: none of its checkpoints is usable.
    """
    run_dir = Path(run_dir)
    saved = read_config(run_dir)
    config = RunConfig.from_dict(saved["config"])
    if problem.dataset.fingerprint() != saved["data_fingerprint"]:
        raise RunError(f"{run_dir}: the dataset has changed since this run was trained; train again")
    with Checkpoints(run_dir / "checkpoints", read_only=True) as checkpoints:
        state = checkpoints.restore_latest(initial_state(config, problem))
    if state is None:
        raise RunError(f"{run_dir}: no checkpoint yet; train the run first")
    inputs = prepare_inputs(config, problem, cache_dir or run_dir / "cache")
    return encode(config, problem, inputs, state.best_params), int(state.best_epoch)


def read_report(run_dir: str | Path) -> dict[str, Any]:
    """The report of a finished run, as `train_run` returned it but with None for NaN.

    Raises:
      RunError: not a run folder, the run is not finished, or its report is not what was written.
    """
    run_dir = Path(run_dir)
    read_config(run_dir)
    if not (run_dir / "report.json").is_file():
        raise RunError(
            f"{run_dir}: the run is not finished, it has no report.json; "
            "give its experiments.train command again to finish it"
        )
    report = _read_json(run_dir / "report.json")
    try:
        _check_report(report)
    except (ConfigError, KeyError, TypeError) as error:
        raise RunError(
            f"{run_dir / 'report.json'}: not a run's report ({brief(repr(error))}); delete it and "
            "give the experiments.train command again to write it anew"
        ) from None
    return report


def _check_report(report: dict[str, Any]) -> None:
    """Raises where a report lacks what `train_run` writes, or has it of another type."""

    def is_number(value: Any) -> bool:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))

    RunConfig.from_dict(report["config"])
    counts = [report["dataset"][name] for name in ("users", "items", *SPLITS)]
    trainings = [report, report["baseline"]] if "baseline" in report else [report]
    for training in trainings:
        counts += [training["best_epoch"], training["epochs"]]
        seconds = [training["seconds_per_epoch"][name] for name in ("train", "validation")]
        if not all(map(is_number, seconds)):
            raise TypeError(f"seconds_per_epoch is {seconds}")
    if not all(isinstance(count, int) and not isinstance(count, bool) for count in counts):
        raise TypeError(f"counts are {counts}")
    for split in report.keys() & set(SPLITS):
        for strategy, metrics in dict.items(report[split]):
            if not all(map(is_number, dict.values(metrics))):
                raise TypeError(f"{split} {strategy} is {metrics}")


def read_metrics(run_dir: str | Path) -> list[EpochRecord]:
    """The epochs of a run's `metrics.jsonl`, without a last line that a kill cut short; none where there is no file.

    Raises:
      RunError: another line is not an epoch's record, or the epochs do not rise.
    """
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    records: list[EpochRecord] = []
    for number, line in enumerate(lines, start=1):
        record = _epoch_record(line)
        if record is not None and (not records or record.epoch > records[-1].epoch):
            records.append(record)
        elif number < len(lines):
            raise RunError(
                f"{path}, line {number}: not the record of a further epoch; delete the file to go on without "
                "the history it held"
            )
    return records


def _epoch_record(line: bytes) -> EpochRecord | None:
    """The record a line holds; None where it is none."""
    try:
        record = EpochRecord(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    whole = type(record.epoch) is int and record.epoch > 0
    return record if whole and all(type(value) in (int, float) for value in record) else None


def run_backbone(config: RunConfig, problem: Problem) -> Backbone:
    """The run's backbone, on the problem's devices."""
    backbone = get_backbone(config.backbone)
    if problem.mesh is None:
        return backbone
    return sharding.on_mesh(backbone, problem.mesh, problem.dataset, config.hyperparameters)


def prepare_inputs(config: RunConfig, problem: Problem, cache_dir: str | Path | None = None) -> Any:
    """The backbone's graphs and features; nearest-neighbour lists are kept in `cache_dir`, if one is given."""
    backbone = run_backbone(config, problem)
    if backbone.uses_neighbours and cache_dir is not None:
        return backbone.prepare(problem.dataset, config.hyperparameters, cached_nearest_neighbours(cache_dir))
    return backbone.prepare(problem.dataset, config.hyperparameters)


def encode(config: RunConfig, problem: Problem, inputs: Any, params: Any) -> Encoded:
    """The run's embeddings of all users and items under some parameters."""
    backbone, hyperparameters = run_backbone(config, problem), config.hyperparameters
    return jax.jit(lambda params, inputs: backbone.encode(params, inputs, hyperparameters))(params, inputs)


def evaluate_problem(
    problem: Problem,
    encoded: Encoded,
    split: str,
    strategies: dict[str, scoring.Strategy],
    **options: Any,
) -> dict[str, Evaluation]:
    """Evaluates embeddings on the `validation` or `test` split; options as of `evaluate`."""
    truth = {"validation": problem.validation, "test": problem.test}[split]
    return evaluate(encoded, problem.train.histories, truth, strategies, problem.content, rank=problem.rank, **options)


def train_function(config: RunConfig, problem: Problem, inputs: Any) -> Callable:
    """The compiled epoch of a run, `train state -> (train state, mean loss, all finite)`."""
    backbone, hyperparameters = run_backbone(config, problem), config.hyperparameters
    epoch = make_epoch(backbone, hyperparameters, make_optimizer(config, problem), config.batch_size)
    if problem.mesh is not None:
        epoch = sharding.epoch_on(epoch, problem.dataset, problem.mesh)
    epoch = jax.jit(epoch, donate_argnums=0)
    similarity, gamma = None, None
    if config.training_strategy:
        assert problem.content is not None, "make_problem refuses the training strategy without content"
        similarity, gamma = problem.content.similarity, jnp.float32(config.gamma)
    return lambda state: epoch(state, inputs, problem.train, similarity, gamma)


def validation_function(config: RunConfig, problem: Problem, inputs: Any) -> Callable:
    """The compiled validation of a run, `params -> mean Recall@20 of plain f`.

    Plain f ranks as D-ISOLATOR does, so the best epoch does not depend on alpha, beta and
    iota: one trained model answers all of their settings.
    """
    backbone, rank = run_backbone(config, problem), problem.rank
    users = users_to_validate(problem.train.histories, problem.validation)

    @jax.jit
    def validate(params, inputs, users, histories, truth):
        encoded = backbone.encode(params, inputs, config.hyperparameters)
        return mean_recall(encoded, users, histories, truth, rank=rank)

    return lambda params: validate(params, inputs, users, problem.train.histories, problem.validation)


def make_optimizer(config: RunConfig, problem: Problem) -> optax.GradientTransformation:
    """The backbone's optimiser, its schedule in steps of this run's epochs."""
    steps, _ = epoch_shape(problem.train.users.shape[0], config.batch_size)
    return get_backbone(config.backbone).optimizer(config.hyperparameters, steps)


def initial_state(config: RunConfig, problem: Problem) -> FitState:
    """The run's state before its first epoch."""
    backbone, optimizer = run_backbone(config, problem), make_optimizer(config, problem)
    state = FitState.start(init_state(backbone, config.hyperparameters, optimizer, problem.dataset, config.seed))
    return state if problem.mesh is None else sharding.place_state(state, problem.dataset, problem.mesh)


def _on_every_device(problem: Problem, mesh: Mesh) -> Problem:
    """The problem with all but the similarity, which lies by user or by item, on every device."""
    content = problem.content
    if content is not None:
        similarity = sharding.place_similarity(content.similarity, mesh)
        consistency = sharding.replicate(content.channel_consistency, mesh)
        content = dataclasses.replace(content, similarity=similarity, channel_consistency=consistency)
    held_out = {split: sharding.replicate(getattr(problem, split), mesh) for split in ("validation", "test")}
    return dataclasses.replace(problem, train=sharding.replicate(problem.train, mesh), content=content, **held_out)


@contextmanager
def _only_user(run_dir: Path) -> Iterator[None]:
    """Holds the folder's lock, which the operating system frees with the process."""
    try:
        with FileLock(run_dir / _LOCK, blocking=False):
            yield
    except Timeout:
        raise RunError(f"{run_dir}: another process is training in this folder; wait for it, or stop it") from None


def check_run_folder(run_dir: Path, config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """What `config.json` of a run says, for a folder that is free or holds that run.

    Raises:
      RunError: the folder holds something else than a run of this configuration on this data.
    """
    wanted: dict[str, Any] = {"config": config.to_dict(), "data_fingerprint": dataset.fingerprint()}
    if (run_dir / "config.json").is_file():
        saved = read_config(run_dir)
        different = [
            f"{name} was {saved['config'].get(name)!r}, now {value!r}"
            for name, value in wanted["config"].items()
            if name not in EXTENDABLE and saved["config"].get(name) != value
        ]
        if saved["data_fingerprint"] != wanted["data_fingerprint"]:
            different.append("the data has changed")
        if different:
            raise RunError(
                f"{run_dir} holds a run of another configuration ({'; '.join(different)}); "
                "choose another folder, or give the same flags to resume it"
            )
    elif run_dir.exists() and (not run_dir.is_dir() or any(path.name != _LOCK for path in run_dir.iterdir())):
        raise RunError(f"{run_dir} exists and is not a run folder; choose another --run_dir")
    return wanted


def is_finished(run_dir: Path, config: RunConfig, dataset: Dataset) -> bool:
    """Whether a folder holds this run, ended and reported, within the epochs that it may take.

    Raises:
      RunError: the folder holds something else than a run of this configuration on this data,
        or its report is not what was written.
    """
    check_run_folder(run_dir, config, dataset)
    if not (run_dir / "report.json").is_file():
        return False
    # Not config.json: that is already the longer run's where it was interrupted.
    reported = RunConfig.from_dict(read_report(run_dir)["config"])
    return (reported.max_epochs, reported.patience) == (config.max_epochs, config.patience)


def read_config(run_dir: Path) -> dict[str, Any]:
    """A run folder's `config.json`: `config` and `data_fingerprint`.

    Raises:
      RunError: not a run folder, or the file cannot be read or is no configuration.
    """
    path = run_dir / "config.json"
    if not path.is_file():
        raise RunError(f"{run_dir} is not a run folder: it has no config.json")
    saved = _read_json(path)
    if not isinstance(saved.get("data_fingerprint"), str):
        raise RunError(f"{path}: has no data_fingerprint; it is not what experiments.train wrote")
    try:
        RunConfig.from_dict(saved.get("config", {}))
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from None
    return saved


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({brief(error)})") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: cannot be read (it holds no names and values)")
    return value


class _MetricsFile:
    """`metrics.jsonl`: a line for each epoch, cut back to the checkpoint a run resumes from."""

    def __init__(self, run_dir: Path, last_epoch: int):
        self._path = run_dir / "metrics.jsonl"
        self._records = [record for record in read_metrics(run_dir) if record.epoch <= last_epoch]
        write_text(self._path, "".join(self._line(record) for record in self._records))

    def append(self, record: EpochRecord) -> None:
        self._records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._line(record))

    def seconds_per_epoch(self) -> dict[str, float]:
        """Median seconds of both phases; the first epoch, which compiles, only if it is the only one."""
        records = self._records[1:] or self._records
        if not records:  # the file was deleted after the last epoch
            return {"train": math.nan, "validation": math.nan}
        return {
            "train": float(np.median([record.train_seconds for record in records])),
            "validation": float(np.median([record.validation_seconds for record in records])),
        }

    @staticmethod
    def _line(record: EpochRecord) -> str:
        return json.dumps(record._asdict()) + "\n"
