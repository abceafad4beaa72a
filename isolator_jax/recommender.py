"""The library in one object, for notebooks: fit on tables with ids of any kind, recommend, evaluate, save."""

import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from isolator_jax import checks
from isolator_jax.backbones import get_backbone
from isolator_jax.data.folder import new_folder
from isolator_jax.data.identified import Identified, held_out_of, identify, keep_identified, read_kinds
from isolator_jax.errors import ConfigError, RunError, brief
from isolator_jax.files import write_json
from isolator_jax.runs import (
    begin_run,
    check_run_folder,
    data_folder,
    evaluate_problem,
    load_model,
    load_run,
    locked,
    make_problem,
    original_ids,
    read_config,
    read_report,
    recommendations,
    time_to_save,
    train_run,
    write_report,
)
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.fitted import Fitted, Scratch
from isolator_jax.runs.folder import newest_checkpoint
from isolator_jax.strategies import BASELINE, TUNED
from isolator_jax.training import EpochRecord, FitState

_DATASET = "interactions"
_SAVE_SECONDS = 30.0
_GIVEN = ("backbone", "data_dir", "dataset")  # otherwise than as options


class Recommender:
    """A backbone, trained with or without ISOLATOR, on users and items by their original ids.

    Attributes:
      config: the run's configuration. What it says of the data is made by `fit`.

    Examples:
      >>> from isolator_jax import Recommender
      >>> recommender = Recommender("mgcn", gamma=1.0, seed=0, max_epochs=200)
      >>> recommender.config.alpha  # as of `RunConfig`
      2.0
    """

    def __init__(self, backbone: str, **options: Any):
        """Checks the configuration.

        Args:
          backbone: name in the registry, such as "mgcn".
          **options: fields of `runs.config.RunConfig`, whose defaults they have: hparams, modalities, seed,
            training_strategy, gamma, alpha, beta, iota, fusion, batch_size, max_epochs, patience, ...

        Raises:
          ConfigError: an unknown name, or a value of the wrong type or out of range.
        """
        names = [field.name for field in dataclasses.fields(RunConfig) if field.name not in _GIVEN]
        unknown = [name for name in options if name not in names]
        if unknown:
            raise ConfigError(f"{brief(unknown[0])} is no option of Recommender; it has {', '.join(names)}")
        modalities = options.get("modalities")
        if isinstance(modalities, list):
            options["modalities"] = tuple(modalities)
        self.config = RunConfig(backbone, **options)
        self._fitted: Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else repr(self._fitted)
        return f"Recommender({self.config.backbone!r}, {state})"

    def fit(
        self,
        interactions: Any,
        features: Mapping[str, Any] | None = None,
        *,
        validation: Any = None,
        test: Any = None,
        item_ids: Any = None,
        run_dir: str | Path | None = None,
        progress: bool = True,
    ) -> "Recommender":
        """Trains, until validation Recall@20 is no better for `patience` epochs; the best epoch is kept.

        Ids are text or whole numbers, and come back as such.

        Args:
          interactions: a DataFrame with columns of users and items, found by the usual names (user,
            user_id, userID, item, item_id, asin, ...); or a tuple `(users, items)`; or an array `[E, 2]`.
          features: by modality, a DataFrame with a row an item, whose ids are its index, or a column
            of a usual name; or an array `[I, F]`, row r of item `item_ids[r]`, or of the item with
            the id r if no `item_ids` are given. Items with features in all modalities are the
            catalogue; all items of the pairs must be in it.
          validation, test: held-out pairs, as interactions. What is not given is held out of the
            interactions, of each user and by `seed` as `isolator prepare` does: a tenth each.
            Give both to train on all interactions.
          item_ids: `[I]`, of the rows of arrays, and of tables whose index only counts the rows.
          run_dir: the run's folder. The same call goes on there after an interruption. None keeps the
            run in a temporary folder, which `save` copies.
          progress: whether to show a bar.

        Returns:
          Itself.

        Raises:
          ConfigError, DataError, TypeError, ValueError: what does not fit, before training.
          RunError: the folder holds another run or something else.
          TrainingDiverged: a loss or parameter is not finite.
        """
        features = {} if features is None else features
        checks.instance("features", features, Mapping)
        self._check_features(features)
        names = self.config.modalities or tuple(features)
        identified = identify(
            _DATASET,
            interactions,
            {name: features[name] for name in names},
            validation=validation,
            test=test,
            item_ids=item_ids,
            seed=self.config.seed,
        )
        scratch = Scratch() if run_dir is None else None
        folder = Path(scratch.path if scratch is not None else str(run_dir)).absolute()
        config = dataclasses.replace(
            self.config, data_dir=str(data_folder(folder)), dataset=_DATASET, modalities=names or None
        )
        check_run_folder(folder, config, identified.dataset)
        problem = make_problem(config, identified.dataset)
        with locked(folder), _quiet():
            begin_run(folder, check_run_folder(folder, config, identified.dataset))
            keep_identified(data_folder(folder) / _DATASET, identified)
            with _bar(config, progress) as show:
                train_run(
                    config, problem, folder, checkpoint_every=time_to_save(_SAVE_SECONDS), on_epoch=show, lock=False
                )
            encoded, _ = load_model(folder, problem)
            checkpoint = newest_checkpoint(folder)
        self._fitted = Fitted(config, problem, encoded, identified, folder, checkpoint, scratch)
        return self

    def recommend(self, users: Any = None, k: int = 20, strategy: str | None = None) -> pd.DataFrame:
        """The k best items of each user that are none of the user's training items.

        Args:
          users: original ids, one or several; None for all with training items. Users without are left
            out, with a warning: the model knows nothing of them.
          k: list length; lists are shorter where fewer items are left.
          strategy: one of `strategies`; None for U-ISOLATOR, or Vanilla of a model without features.

        Returns:
          Columns user, item, rank (from 1) and score; a user's lines together, in the order of `users`.

        Raises:
          ConfigError, DataError, TypeError, ValueError: an unknown strategy or user, or k is no length.
        """
        fitted = self._needed()
        k = checks.count("k", k, least=1)
        strategies = fitted.strategies
        strategy = (TUNED if TUNED in strategies else BASELINE) if strategy is None else strategy
        checks.instance("strategy", strategy, str)
        if strategy not in strategies:
            raise ConfigError(f"strategy {brief(repr(strategy))} is none of this model's: {', '.join(strategies)}")
        table = recommendations(
            fitted.problem,
            fitted.encoded,
            fitted.chosen_users(users),
            strategies[strategy],
            k=k,
            user_ids=fitted.identified.user_ids,
            item_ids=fitted.identified.item_ids,
        )
        return table[["user", "item", "rank", "score"]]

    def evaluate(self, test: Any = None, ks: Sequence[int] = (10, 20)) -> pd.DataFrame:
        """Accuracy and bias under each strategy, over the users with training items.

        Args:
          test: held-out pairs, as interactions of `fit`, none of them trained on; None: the test split
            of `fit`.
          ks: list lengths; UCBias and rho are at 20.

        Returns:
          A row a strategy and a column a metric, both named as in report.json.

        Raises:
          DataError, TypeError, ValueError: unknown users or items, pairs of training, or no list lengths.
        """
        fitted = self._needed()
        problem = fitted.problem
        if test is not None:
            held_out = held_out_of("test", test, fitted.identified)
            problem = dataclasses.replace(problem, test=held_out.histories(problem.dataset.num_users))
        results = evaluate_problem(problem, fitted.encoded, "test", fitted.strategies, ks=ks)
        metrics = {name: result.metrics for name, result in results.items()}
        return pd.DataFrame.from_dict(metrics, orient="index").rename_axis("strategy")

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the inference strategies that fit the model."""
        return tuple(self._needed().strategies)

    @property
    def report(self) -> dict[str, Any]:
        """What report.json says of the run: epochs, seconds, metrics on validation and test.

        Raises:
          RunError: another command has gone on with the run since: it is of another model.
        """
        self._needed().refuse_another_model()
        return read_report(self._needed().folder)

    def save(self, path: str | Path) -> Path:
        """Writes the run to a new folder, with its dataset: one that `load` and the commands take.

        Returns:
          The folder.

        Raises:
          FileExistsError: the folder is there.
          RunError: the run's folder is gone, or another command has gone on with the run since.
        """
        fitted, target = self._needed(), Path(path).absolute()
        if target.exists():
            raise FileExistsError(f"{target} exists; choose another name or remove it")
        config = fitted.config
        name = config.dataset or fitted.problem.dataset.name
        config = dataclasses.replace(config, data_dir=str(data_folder(target)), dataset=name)
        # Where nothing can be written, there is no lock to take either.
        held = locked(fitted.folder) if os.access(fitted.folder, os.W_OK) else nullcontext()
        with held, new_folder(target) as draft:
            fitted.refuse_another_model()
            ignored = shutil.ignore_patterns(".*", data_folder(draft).name)
            shutil.copytree(fitted.folder, draft, dirs_exist_ok=True, ignore=ignored)
            keep_identified(data_folder(draft) / name, fitted.identified)
            write_json(draft / "config.json", {**read_config(fitted.folder), "config": config.to_dict()})
            if (draft / "report.json").is_file():
                write_report(draft, {**read_report(fitted.folder), "config": config.to_dict()})
        return target

    @classmethod
    def load(cls, path: str | Path) -> "Recommender":
        """Reads a run folder of `save`, `fit` or `isolator train` back; it raises what `runs.load_run` raises."""
        folder = Path(path).absolute()
        with _quiet():
            config, problem, encoded, _ = load_run(folder)
            checkpoint = newest_checkpoint(folder)
        kinds = read_kinds(Path(config.data_dir, config.dataset)) if config.data_dir and config.dataset else {}
        ids = original_ids(config, problem.dataset.num_users, problem.dataset.num_items)
        users, items = (
            original.astype(kinds.get(column, original.dtype))
            for column, original in zip(("userID", "itemID"), ids, strict=True)
        )
        loaded = cls.__new__(cls)
        loaded.config = dataclasses.replace(config, data_dir=None, dataset=None)
        loaded._fitted = Fitted(config, problem, encoded, Identified(problem.dataset, users, items), folder, checkpoint)
        return loaded

    def _check_features(self, features: Mapping[str, Any]) -> None:
        missing = [name for name in self.config.modalities or () if name not in features]
        if missing:
            found = brief(", ".join(map(str, features))) or "none"
            raise ConfigError(f"features has no modality {brief(missing[0])}, which modalities names; it has {found}")
        name = self.config.backbone
        if not features and get_backbone(name).uses_content:
            raise ConfigError(f"{name} needs item features; give fit features, such as {{'image': table}}")
        if not features and self.config.training_strategy:
            raise ConfigError("the training strategy needs item features; give them, or training_strategy=False")

    def _needed(self) -> "Fitted":
        if self._fitted is None:
            raise RunError("this Recommender is not fitted; call fit, or load a run")
        return self._fitted


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notes that orbax logs as warnings."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _bar(config: RunConfig, shown: bool) -> Iterator[Any]:
    """A progress bar, as what `train_run` calls after each epoch."""
    with tqdm(total=config.max_epochs, desc=config.backbone, unit="epoch", disable=not shown) as bar:

        def show(state: FitState, record: EpochRecord) -> None:
            best = f"{float(state.best_value):.4f} at {int(state.best_epoch)}"
            bar.set_postfix({"loss": f"{record.loss:.4f}", "R@20": f"{record.validation:.4f}", "best": best}, False)
            bar.update(record.epoch - bar.n)

        yield show
        bar.total = bar.n  # it ended by patience
        bar.refresh()
