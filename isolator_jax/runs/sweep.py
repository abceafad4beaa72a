"""A search over hyper-parameters: its trials, what each yields, and the choice by validation.

alpha, beta and iota touch inference alone, so a trial is one training (hyper-parameters,
gamma or plain BPR, seed) and yields a row for each of its inference settings.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isolator_jax.backbones import Encoded
from isolator_jax.errors import RunError
from isolator_jax.evaluation import Baseline, Evaluation, Settings, choose_setting, evaluate_settings
from isolator_jax.evaluation.metrics import RECALL, UCBIAS
from isolator_jax.evaluation.significance import holm, paired_test
from isolator_jax.runs import Problem, evaluate_problem, load_model
from isolator_jax.runs.config import RunConfig
from isolator_jax.strategies import BASELINE, STRATEGIES, TUNED, name_beside_others

# Which columns say how a row was trained, and which how it was scored.
TRAINING = ("training_strategy", "gamma")
INFERENCE = STRATEGIES[TUNED].parameters

# Of a search of plain BPR alone, which is for Vanilla.
NO_SETTINGS = Settings((), (), ())


def make_trials(
    base: RunConfig, grid: Mapping[str, Sequence[str]], gammas: Sequence[float], seeds: Sequence[int]
) -> list[RunConfig]:
    """Every training of a search: the grid's product, with plain BPR and each gamma, with each seed.

    Args:
      base: what all trials share.
      grid: values to try for some of the backbone's hyper-parameters.
      gammas: exponents of the training strategy; none for plain BPR alone.
      seeds: of each.

    Raises:
      ConfigError: a hyper-parameter the backbone does not have, or a value it cannot take.
    """
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    trained: list[dict[str, Any]] = [
        {"training_strategy": False},
        *({"training_strategy": True, "gamma": gamma} for gamma in gammas),
    ]
    return [
        dataclasses.replace(base, hparams={**base.hparams, **hparams}, seed=seed, **training)
        for hparams, training, seed in itertools.product(combinations, trained, seeds)
    ]


def trial_name(trial: RunConfig, grid: Iterable[str]) -> str:
    """A trial's folder name: what it was trained with, the searched hyper-parameters, the seed."""
    trained = f"gamma={trial.gamma:g}" if trial.training_strategy else "plain"
    return ",".join([trained, *(f"{name}={trial.hparams[name]}" for name in grid), f"seed={trial.seed}"])


def naive_trainings(trials: Sequence[RunConfig], settings: Settings) -> int:
    """Trainings that the same search costs where every inference setting is trained anew."""
    size = int(np.prod([len(values) for values in settings]))
    return sum(size if trial.training_strategy else 1 for trial in trials)


def trial_rows(
    trial: RunConfig, report: Mapping[str, Any], problem: Problem, encoded: Encoded, settings: Settings
) -> pd.DataFrame:
    """A finished trial as rows of validation metrics, one for each way to score its model.

    The rows of Vanilla, D and the training strategy are the report's. Those of U are all
    settings; a plain model's are called `u_without_training_strategy`.

    Args:
      trial: its configuration.
      report: of `run.train_run`.
      problem: the data.
      encoded: the model's embeddings.
      settings: U-ISOLATOR's grid; `NO_SETTINGS` where U is not searched.
    """
    trained = {
        "dataset": problem.dataset.name,
        "backbone": trial.backbone,
        "seed": trial.seed,
        "fusion": trial.fusion,
        "training_strategy": trial.training_strategy,
        "gamma": trial.gamma if trial.training_strategy else np.nan,
        **{f"hparams.{name}": value for name, value in trial.hparams.items()},
        "best_epoch": report["best_epoch"],
        "epochs": report["epochs"],
    }
    rows = [
        {**trained, "strategy": strategy, **metrics}
        for strategy, metrics in report["validation"].items()
        if strategy != TUNED
    ]
    if settings != NO_SETTINGS:
        rows += _rows_of_settings(trial, trained, problem, encoded, settings)
    frame = pd.DataFrame(rows)
    first = [*trained, "strategy", *INFERENCE]
    return frame.reindex(columns=first + [column for column in frame if column not in first])


def _rows_of_settings(
    trial: RunConfig, trained: Mapping[str, Any], problem: Problem, encoded: Encoded, settings: Settings
) -> list[dict[str, Any]]:
    assert problem.content is not None, "a search of U's settings needs content"
    metrics = evaluate_settings(
        encoded, None, problem.train.histories, settings, problem.content, truth=problem.validation
    )
    name = name_beside_others(TUNED, trained=trial.training_strategy)
    return [
        {
            **trained,
            "strategy": name,
            **dict(zip(INFERENCE, setting, strict=True)),
            **{metric: float(grid.flat[place]) for metric, grid in metrics.items()},
        }
        for place, setting in enumerate(settings.all())
    ]


def choose(rows: pd.DataFrame, grid: Sequence[str], aim: str = "recall", *, seeds: int) -> pd.DataFrame:
    """The best setting of each strategy by validation metrics averaged over the seeds.

    It is the best by Recall@20; that of a strategy with alpha, beta and iota is the best for the
    aim, held against the chosen Vanilla. Settings that lack a seed, because a trial failed, are
    passed over. Of equal settings the first stays.

    Args:
      rows: of all trials.
      grid: names of the searched hyper-parameters.
      aim: one of `evaluation.AIMS`.
      seeds: how many seeds each setting was given.

    Returns:
      A row for each strategy that a setting qualifies for: `strategy`, the searched
      hyper-parameters, gamma, alpha, beta, iota (NaN where they play no part), `validation
      recall@20` and `validation ucbias@20`, both means, the latter NaN without content.

    Raises:
      RunError: the aim needs Vanilla, and no plain trial is complete.
    """
    keys = ["strategy", *(f"hparams.{name}" for name in grid), *TRAINING, *INFERENCE]
    if UCBIAS not in rows:  # without content
        rows = rows.assign(**{UCBIAS: np.nan})
    settings = rows.groupby(keys, dropna=False, sort=False).agg(
        trained=("seed", "nunique"), recall=(RECALL, "mean"), ucbias=(UCBIAS, "mean")
    )
    complete = settings[settings["trained"] == seeds].reset_index()
    # In the catalogue's order, so that Vanilla comes before what is held against it.
    by_strategy = {name: complete[complete["strategy"] == name] for name in STRATEGIES}
    vanilla, places = None, []
    for name, found in by_strategy.items():
        own_aim = aim if set(INFERENCE) <= set(STRATEGIES[name].parameters) else "recall"
        if own_aim != "recall" and vanilla is None:
            raise RunError(f"the aim {aim} is held against Vanilla, and no plain BPR trial is complete")
        recall, ucbias = found["recall"].to_numpy(), found["ucbias"].to_numpy()
        place = choose_setting(recall, ucbias, aim=own_aim, vanilla=vanilla) if len(found) else None
        places += [] if place is None else [found.index[place]]
        if name == BASELINE and place is not None:
            vanilla = Baseline(float(recall[place]), float(ucbias[place]))
    columns = {"recall": f"validation {RECALL}", "ucbias": f"validation {UCBIAS}"}
    return complete.loc[places].rename(columns=columns).reset_index(drop=True)


def value(rows: pd.DataFrame, grid: Sequence[str], aim: str, trials: Collection[RunConfig]) -> float | None:
    """What a search makes as large as it can: of plain trials, Vanilla's mean Recall@20; of others, what U's best
    setting for the aim reaches: mean Recall@20, or the size of its mean UCBias@20 with its sign turned.

    Args:
      rows: of the trials, and of the Vanilla that they are held against.
      grid, aim: as of `choose`.
      trials: those of one setting, one a seed, all of whose rows there are.

    Returns:
      The value; None where no setting of U qualifies.
    """
    strategy = TUNED if next(iter(trials)).training_strategy else BASELINE
    chosen = choose(rows, grid, aim if strategy == TUNED else "recall", seeds=len(trials)).set_index("strategy")
    if strategy not in chosen.index:
        return None
    of_bias = strategy == TUNED and aim == "least_bias_no_less_recall"
    found = chosen.loc[strategy]
    return -abs(found[f"validation {UCBIAS}"]) if of_bias else float(found[f"validation {RECALL}"])


def without_setting(rows: pd.DataFrame, chosen: pd.DataFrame) -> list[str]:
    """Strategies with alpha, beta and iota that trials were scored by, and for which `choose` found no setting."""
    return [
        name
        for name, entry in STRATEGIES.items()
        if set(INFERENCE) <= set(entry.parameters) and (rows["strategy"] == name).any()
        if not (chosen["strategy"] == name).any()
    ]


def test_chosen(
    chosen: pd.DataFrame,
    grid: Sequence[str],
    trials: Mapping[Path, RunConfig],
    problem: Problem,
    cache_dir: Path,
    checkpoints: Mapping[Path, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Evaluates what was chosen, and nothing else, on the test split.

    Args:
      chosen: of `choose`.
      grid: names of the searched hyper-parameters.
      trials: configurations by run folder.
      problem: the data.
      cache_dir: where nearest-neighbour lists are kept.
      checkpoints: what the validation rows of each run folder are of, as its report names it.

    Returns:
      For each row of `chosen` its setting, the test metrics of each seed, their mean and
      standard deviation over the seeds (NaN for one), and `p`: the p-value of the paired
      t-test of test Recall@20 against Vanilla over the users, values averaged over the seeds,
      adjusted by Holm's method for the number of strategies.

    Raises:
      RunError: a run folder holds another checkpoint by now.
    """
    results, per_user = [], {}
    for row in chosen.to_dict("records"):
        folders = [folder for folder, trial in trials.items() if _is_of(trial, row, grid)]
        evaluations = [_evaluate_on_test(row, problem, folder, cache_dir, checkpoints[folder]) for folder in folders]
        metrics = pd.DataFrame([evaluation.metrics for evaluation in evaluations])
        per_user[row["strategy"]] = np.mean([evaluation.per_user[RECALL] for evaluation in evaluations], axis=0)
        results.append(
            {
                **row,
                "seeds": [trials[folder].seed for folder in folders],
                "test": metrics.to_dict("records"),
                "mean": metrics.mean().to_dict(),
                "deviation": metrics.std().to_dict(),
            }
        )
    others = [result for result in results if result["strategy"] != BASELINE]
    p_values = [
        paired_test(per_user[result["strategy"]], per_user[BASELINE]) if BASELINE in per_user else np.nan
        for result in others
    ]
    for result, p in zip(others, holm(p_values), strict=True):
        result["p"] = float(p)
    return results


def _is_of(trial: RunConfig, row: Mapping[str, Any], grid: Sequence[str]) -> bool:
    """Whether a trial was trained with the setting of a row of `choose`."""
    return (
        trial.training_strategy == row["training_strategy"]
        and (not trial.training_strategy or trial.gamma == row["gamma"])
        and all(trial.hparams[name] == row[f"hparams.{name}"] for name in grid)
    )


def _evaluate_on_test(
    row: Mapping[str, Any], problem: Problem, folder: Path, cache_dir: Path, checkpoint: Mapping[str, Any]
) -> Evaluation:
    strategy = STRATEGIES[row["strategy"]].of(row)
    encoded, _ = load_model(folder, problem, cache_dir=cache_dir, checkpoint=checkpoint)
    return evaluate_problem(problem, encoded, "test", {"chosen": strategy})["chosen"]
