"""Makes the paper's tables and figures, training what is missing.

  isolator reproduce --artefact=table2,fig1 --data_dir=data --datasets=instruments \\
      --runs_dir=runs --output_dir=artefacts --seeds=0,1,2

The runs are isolator train's: RUNS_DIR/DATASET/BACKBONE/seed-SEED (of chosen modalities:
.../modalities-NAME+NAME/...), with plain BPR in `vanilla`; those that are finished are used, the others
are trained or resumed, and a run of another configuration is refused. Backbones have their default
hyper-parameters, but for what `--tuned` sets, such as what isolator sweep chose. U-ISOLATOR's alpha, beta
and iota are chosen on validation, by Recall@20 averaged over the seeds.

Tables are written as Markdown, LaTeX and CSV, figures as PNG, PDF and the CSV of what they
show. `claims` says which of the paper's claims hold on each dataset, `confounding` how much of UCBias activity
and popularity explain, beside rankers by popularity and by content alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from isolator_jax.backbones import BACKBONES, Encoded
from isolator_jax.content import Content
from isolator_jax.data import read_dataset
from isolator_jax.data.statistics import dataset_statistics
from isolator_jax.errors import ConfigError, RunError, brief
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

from .common import cli
from .common.artefacts import ARTEFACTS, Made, check_drawing, make, write_statistics
from .common.parsing import check_output, parse_counts, parse_seeds, parse_tuned
from .common.progress import progress
from .common.training import train_and_show

_ARTEFACT = flags.DEFINE_list("artefact", None, f"What to make, of {', '.join(ARTEFACTS)}; or all.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the datasets' folders.", required=True)
_DATASETS = flags.DEFINE_list("datasets", None, "Datasets.", required=True)
_MODALITIES = flags.DEFINE_list("modalities", None, "Modalities to use, in this order. Default: all there are.")
_BACKBONES = flags.DEFINE_list("backbones", list(BACKBONES), "Backbones, in the order shown.")
_TABLE3_BACKBONE = flags.DEFINE_enum("table3_backbone", "vbpr", list(BACKBONES), "Backbone of Table 3.")
_TUNED = flags.DEFINE_multi_string(
    "tuned",
    [],
    "Hyper-parameters, or gamma, of one backbone in place of the common ones: backbone:name=value,name=value; "
    "may be repeated.",
)
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds of every run.")
_FEWER_SEEDS = flags.DEFINE_list(
    "fewer_seeds", [], "backbone:COUNT, for backbones that are to have the first COUNT of --seeds alone."
)
_GAMMA = flags.DEFINE_float(
    "gamma", RunConfig.gamma, "Exponent of the training strategy (Eq. 7), but for what --tuned sets."
)
_MAX_EPOCHS = flags.DEFINE_integer("max_epochs", RunConfig.max_epochs, "Train at most so many epochs.", 1)
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs", "Folder of the runs.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "artefacts", "Folder for the tables and figures.")


def main() -> None:
    wanted = ARTEFACTS if _ARTEFACT.value == ["all"] else _ARTEFACT.value
    unknown = [name for name in wanted if name not in ARTEFACTS]
    for flag, names in [
        ("artefact", wanted),
        ("datasets", _DATASETS.value),
        ("backbones", _BACKBONES.value),
        ("modalities", _MODALITIES.value),
    ]:
        if names is not None and len(set(names)) < max(1, len(names)):
            raise ConfigError(f"--{flag} must have at least one name, and each once")
    if unknown:
        raise ConfigError(
            f"--artefact has no {brief(', '.join(unknown))}; there are {', '.join(ARTEFACTS)}, and all, by itself"
        )
    unknown = [name for name in _BACKBONES.value if name not in BACKBONES]
    if unknown:
        raise ConfigError(f"--backbones has no {brief(', '.join(unknown))}; there are {', '.join(BACKBONES)}")
    of_table3 = [_TABLE3_BACKBONE.value] if "table3" in wanted else []
    backbones = list(dict.fromkeys(_BACKBONES.value + of_table3))
    seeds = seeds_of(backbones)
    configs = make_configs(backbones)
    if any(name.startswith("fig") for name in wanted):
        check_drawing()
    check_output("runs_dir", _RUNS_DIR.value, folder=True)
    output = check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    if "table1" in wanted:
        statistics = [
            dataset_statistics(read_dataset(_DATA_DIR.value, name, _MODALITIES.value)) for name in _DATASETS.value
        ]
        write_statistics(statistics, output / "table1")
    for dataset in _DATASETS.value:
        made = load_all(wanted, configs, dataset, seeds)
        for name in wanted:
            if name != "table1":
                make(name, made, output / f"{name}-{dataset}")


def load_all(
    wanted: Sequence[str], configs: Mapping[str, RunConfig], dataset: str, seeds: Mapping[str, Sequence[int]]
) -> Made:
    """What the wanted artefacts of a dataset need, trained where it is missing."""
    models, of_modalities, references = [], [], []
    wanted_modalities = None if _MODALITIES.value is None else tuple(_MODALITIES.value)
    if set(wanted) - {"table1", "table3"}:
        models = [
            load_models(configs[backbone], dataset, wanted_modalities, seeds[backbone]) for backbone in _BACKBONES.value
        ]
    if "table3" in wanted:
        names = list(read_dataset(_DATA_DIR.value, dataset, wanted_modalities).features)
        subsets = [*((name,) for name in names if len(names) > 1), wanted_modalities]
        backbone = _TABLE3_BACKBONE.value
        of_modalities = [load_models(configs[backbone], dataset, subset, seeds[backbone]) for subset in subsets]
    if "confounding" in wanted:
        of_first = dataclasses.replace(configs[_BACKBONES.value[0]], dataset=dataset, modalities=wanted_modalities)
        references = load_references(of_first)
    return Made(models, of_modalities, references)


def seeds_of(backbones: Sequence[str]) -> dict[str, list[int]]:
    """The seeds of each backbone: --seeds, or the first of them.

    Raises:
      ConfigError: seeds that are none, or --fewer_seeds of a backbone that is not wanted.
    """
    seeds = parse_seeds("seeds", _SEEDS.value)
    counts = parse_counts("fewer_seeds", _FEWER_SEEDS.value, most=len(seeds))
    if unwanted := counts.keys() - set(backbones):
        raise ConfigError(f"--fewer_seeds names {brief(', '.join(unwanted))}; the backbones are {', '.join(backbones)}")
    return {backbone: seeds[: counts.get(backbone)] for backbone in backbones}


def make_configs(backbones: Sequence[str]) -> dict[str, RunConfig]:
    """Each backbone's configuration, on the first dataset.

    Raises:
      ConfigError: an impossible value, or --tuned of a backbone that is not wanted.
    """
    tuned = parse_tuned("tuned", _TUNED.value)
    if unwanted := tuned.keys() - set(backbones):
        raise ConfigError(f"--tuned names {brief(', '.join(unwanted))}; the backbones are {', '.join(backbones)}")
    configs = {}
    for backbone in backbones:
        hparams = tuned.get(backbone, {})
        try:
            gamma = float(hparams.pop("gamma", _GAMMA.value))
        except ValueError:
            raise ConfigError(f"--tuned: gamma of {backbone} must be a number") from None
        configs[backbone] = RunConfig(
            backbone=backbone,
            hparams=hparams,
            data_dir=_DATA_DIR.value,
            dataset=_DATASETS.value[0],
            gamma=gamma,
            max_epochs=_MAX_EPOCHS.value,
        )
    return configs


def load_models(
    config: RunConfig, dataset: str, modalities: tuple[str, ...] | None, seeds: Sequence[int]
) -> ModelResults:
    """One backbone's runs of all seeds, trained where they are missing, evaluated on the test split.

    `modalities` are those it is to use; None for all there are.

    Raises:
      RunError: a run in its place has another configuration.
    """
    base = dataclasses.replace(config, dataset=dataset, modalities=modalities)
    backbone = base.backbone
    problem = make_problem(base, load_dataset(base))
    content = _content(problem)
    parts = [dataset, backbone] + ([] if modalities is None else [f"modalities-{'+'.join(modalities)}"])
    encoded: list[Encoded] = []
    plain: list[Encoded] = []
    for seed in seeds:
        folder = Path(_RUNS_DIR.value, *parts, f"seed-{seed}")
        of_seed = dataclasses.replace(base, seed=seed)
        both = {folder: of_seed, vanilla_folder(folder): dataclasses.replace(of_seed, training_strategy=False)}
        if not all(is_finished(run_dir, of_run, problem.dataset) for run_dir, of_run in both.items()):
            train_and_show(of_seed, problem, folder, vanilla=True, checkpoint_seconds=30.0)
        for models, (run_dir, of_run) in zip((encoded, plain), both.items(), strict=True):
            models.append(_load_finished(run_dir, of_run, problem, cache_dir=folder / "cache"))
    setting, setting_of_plain = tuned_setting(problem, encoded), tuned_setting(problem, plain)
    ts = _variants(True, (base.gamma, *setting))
    without = _variants(False, (base.gamma, *setting_of_plain))
    description = f"{backbone} on {dataset}: evaluating"
    evaluations: dict[str, list[Evaluation]] = {name: [] for name in STRATEGIES}
    for of_seed, strategies in progress(
        [*((e, ts) for e in encoded), *((e, without) for e in plain)], desc=description
    ):
        for name, evaluation in evaluate_problem(problem, of_seed, "test", strategies).items():
            evaluations[name].append(evaluation)
    return ModelResults(
        dataset=dataset,
        backbone=backbone,
        label=BACKBONES[backbone].label,
        graph_based=BACKBONES[backbone].graph_based,
        uses_content=BACKBONES[backbone].uses_content,
        modalities=tuple(problem.dataset.features),
        config={
            "seeds": " ".join(map(str, seeds)),
            "gamma": base.gamma,
            **dict(zip(("alpha", "beta", "iota"), setting, strict=True)),
            **dict(zip(("alpha w/o TS", "beta w/o TS", "iota w/o TS"), setting_of_plain, strict=True)),
            "hyper-parameters": " ".join(f"{name}={value}" for name, value in base.hparams.items()),
        },
        evaluations=evaluations,
        consistency=content.consistency,
        lengths=np.asarray(problem.train.histories.lengths),
        equal_popularity={
            name: [_at_equal_popularity(problem, evaluation) for evaluation in of_seeds]
            for name, of_seeds in evaluations.items()
        },
    )


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


def _content(problem: Problem) -> Content:
    if problem.content is None:
        raise ConfigError(f"dataset {problem.dataset.name} has no features; only table1 can be made of it")
    return problem.content


def _at_equal_popularity(problem: Problem, evaluation: Evaluation) -> float:
    groups = consistency_groups(_content(problem).consistency)
    pairs = held_out_hits(evaluation, problem.train.histories, problem.test, k=UCBIAS_K)
    return ucbias_at_equal_popularity(*pairs, groups).ucbias


def _variants(trained: bool, parameters: Sequence[float]) -> dict[str, Strategy]:
    """The variants of models trained with the training score, or by plain BPR, from gamma, alpha, beta and iota."""
    values = dict(zip(("gamma", "alpha", "beta", "iota"), parameters, strict=True))
    return {name: entry.of(values) for name, entry in STRATEGIES.items() if entry.trained == trained}


def tuned_setting(problem: Problem, encoded: Sequence[Encoded]) -> UParameters:
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
        raise ConfigError(f"dataset {problem.dataset.name} has no validation data to choose U-ISOLATOR's setting by")
    return grid.all()[best]


if __name__ == "__main__":
    cli.run(main)
