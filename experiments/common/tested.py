"""Models of `reproduce` on the test split: trained where they are missing, U's settings chosen on validation."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isolator_jax.backbones import BACKBONES, Encoded
from isolator_jax.content import Content
from isolator_jax.data import Dataset
from isolator_jax.errors import ConfigError, RunError
from isolator_jax.evaluation import (
    Evaluation,
    Settings,
    UParameters,
    choose_setting,
    consistency_groups,
    evaluate_lists,
    evaluate_settings,
    held_out_hits,
    reference_lists,
    ucbias_at_equal_popularity,
)
from isolator_jax.evaluation.metrics import RECALL, UCBIAS_K
from isolator_jax.reporting.model import ModelResults
from isolator_jax.runs import (
    Problem,
    evaluate_problem,
    finished_report,
    is_finished,
    load_dataset,
    load_model,
    make_problem,
    vanilla_folder,
)
from isolator_jax.runs.config import RunConfig
from isolator_jax.strategies import BASELINE, STRATEGIES, Strategy

from .progress import progress
from .training import among_others, train_and_show


def run_folder(runs_dir: str | Path, config: RunConfig) -> Path:
    """Where a run lies: DATASET/BACKBONE/seed-SEED, of chosen modalities .../modalities-NAME+NAME/seed-SEED."""
    chosen = [] if config.modalities is None else [f"modalities-{'+'.join(config.modalities)}"]
    return Path(runs_dir, str(config.dataset), config.backbone, *chosen, f"seed-{config.seed}")


def runs_of(config: RunConfig, seed: int, runs_dir: str | Path) -> dict[Path, RunConfig]:
    """The two trainings of a seed by folder: with the training strategy, and plain BPR."""
    of_seed = dataclasses.replace(config, seed=seed)
    folder = run_folder(runs_dir, of_seed)
    return {folder: of_seed, vanilla_folder(folder): dataclasses.replace(of_seed, training_strategy=False)}


def check_models(config: RunConfig, seeds: Sequence[int], runs_dir: str | Path) -> None:
    """Refuses, before anything is trained, data that `load_models` cannot use and runs of others in its places.

    Raises:
      ConfigError: a dataset without features or validation data.
      RunError: a run in its place has another configuration.
    """
    dataset = load_dataset(config)
    if not dataset.features:
        raise _without_features(dataset)
    if not len(dataset.validation):
        raise _without_validation(dataset)
    for seed in seeds:
        for run_dir, of_run in runs_of(config, seed, runs_dir).items():
            is_finished(run_dir, of_run, dataset)


def load_models(config: RunConfig, seeds: Sequence[int], runs_dir: str | Path) -> ModelResults:
    """One backbone's runs of all seeds, trained where they are missing, evaluated on the test split.

    Args:
      config: of the runs, but for their seeds.
      seeds: of each.
      runs_dir: of `run_folder`.

    Raises:
      RunError: a run in its place has another configuration.
    """
    backbone = BACKBONES[config.backbone]
    problem = make_problem(config, load_dataset(config))
    content = _content(problem)
    encoded: list[Encoded] = []
    plain: list[Encoded] = []
    for seed in seeds:
        both = runs_of(config, seed, runs_dir)
        folder, of_seed = next(iter(both.items()))
        if not all(is_finished(run_dir, of_run, problem.dataset) for run_dir, of_run in both.items()):
            with among_others(folder):
                train_and_show(of_seed, problem, folder, vanilla=True, checkpoint_seconds=30.0)
        for models, (run_dir, of_run) in zip((encoded, plain), both.items(), strict=True):
            models.append(_load_finished(run_dir, of_run, problem, cache_dir=folder / "cache"))
    setting, setting_of_plain = _tuned_setting(problem, encoded), _tuned_setting(problem, plain)
    ts = _variants(True, (config.gamma, *setting))
    without = _variants(False, (config.gamma, *setting_of_plain))
    description = f"{config.backbone} on {config.dataset}: evaluating"
    evaluations: dict[str, list[Evaluation]] = {name: [] for name in STRATEGIES}
    for of_model, strategies in progress(
        [*((e, ts) for e in encoded), *((e, without) for e in plain)], desc=description
    ):
        for name, evaluation in evaluate_problem(problem, of_model, "test", strategies).items():
            evaluations[name].append(evaluation)
    return ModelResults(
        dataset=str(config.dataset),
        backbone=config.backbone,
        label=backbone.label,
        graph_based=backbone.graph_based,
        uses_content=backbone.uses_content,
        modalities=tuple(problem.dataset.features),
        config={
            "seeds": " ".join(map(str, seeds)),
            "gamma": config.gamma,
            **dict(zip(("alpha", "beta", "iota"), setting, strict=True)),
            **dict(zip(("alpha w/o TS", "beta w/o TS", "iota w/o TS"), setting_of_plain, strict=True)),
            "hyper-parameters": " ".join(f"{name}={value}" for name, value in config.hparams.items()),
        },
        evaluations=evaluations,
        consistency=content.consistency,
        lengths=np.asarray(problem.train.histories.lengths),
        equal_popularity={
            name: [_at_equal_popularity(problem, evaluation) for evaluation in of_seeds]
            for name, of_seeds in evaluations.items()
        },
    )


def load_references(config: RunConfig) -> list[ModelResults]:
    """The rankers by popularity and by content alone, on the configuration's dataset; no training."""
    problem = make_problem(config, load_dataset(config))
    content = _content(problem)
    lists = reference_lists(None, problem.train.histories, content, num_items=problem.dataset.num_items, k=UCBIAS_K)
    users = problem.train.histories.users_with_items()
    results = evaluate_lists(lists, users, problem.train.histories, problem.test, content, ks=(UCBIAS_K,))
    return [
        ModelResults(
            dataset=config.dataset or "",
            backbone=name,
            label=f"{name} alone",
            graph_based=False,
            uses_content=name == "content",
            modalities=tuple(problem.dataset.features),
            config={},
            evaluations={BASELINE: [result]},
            consistency=content.consistency,
            lengths=np.asarray(problem.train.histories.lengths),
            equal_popularity={BASELINE: [_at_equal_popularity(problem, result)]},
        )
        for name, result in results.items()
    ]


def _load_finished(run_dir: Path, config: RunConfig, problem: Problem, cache_dir: Path) -> Encoded:
    """The model that a run's report is of.

    No lock is held, so that finished runs can be read where nothing may be written: the report's
    checkpoint, and no other, is this run's, whoever goes on in the folder.

    Raises:
      RunError: another command has gone on with the run since it was finished.
    """
    report = finished_report(run_dir, config, problem.dataset)
    if report is None:
        raise RunError(f"{run_dir}: another command has gone on with this run; wait for it, or choose other --runs_dir")
    return load_model(run_dir, problem, cache_dir=cache_dir, checkpoint=report["checkpoint"])[0]


def _content(problem: Problem) -> Content:
    if problem.content is None:
        raise _without_features(problem.dataset)
    return problem.content


def _without_features(dataset: Dataset) -> ConfigError:
    return ConfigError(f"dataset {dataset.name} has no features; only table1 can be made of it")


def _without_validation(dataset: Dataset) -> ConfigError:
    return ConfigError(f"dataset {dataset.name} has no validation data to choose U-ISOLATOR's setting by")


def _at_equal_popularity(problem: Problem, evaluation: Evaluation) -> float:
    groups = consistency_groups(_content(problem).consistency)
    pairs = held_out_hits(evaluation, problem.train.histories, problem.test, k=UCBIAS_K)
    return ucbias_at_equal_popularity(*pairs, groups).ucbias


def _variants(trained: bool, parameters: Sequence[float]) -> dict[str, Strategy]:
    """The variants of models trained with the training score, or by plain BPR, from gamma, alpha, beta and iota."""
    values = dict(zip(("gamma", "alpha", "beta", "iota"), parameters, strict=True))
    return {name: entry.of(values) for name, entry in STRATEGIES.items() if entry.trained == trained}


def _tuned_setting(problem: Problem, encoded: Sequence[Encoded]) -> UParameters:
    """alpha, beta and iota with the highest validation Recall@20, averaged over the seeds' models."""
    grid = Settings()
    recalls = [
        evaluate_settings(model, None, problem.train.histories, grid, _content(problem), truth=problem.validation)[
            RECALL
        ]
        for model in encoded
    ]
    best = choose_setting(np.mean(recalls, axis=0))
    if best is None:
        raise _without_validation(problem.dataset)
    return grid.all()[best]
