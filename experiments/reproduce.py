"""Makes the paper's tables and figures, training what is missing.

  python -m experiments.reproduce --artefact=table2,fig1 --data_dir=data --datasets=instruments \\
      --runs_dir=runs --output_dir=artefacts --seeds=0,1,2

The runs are experiments.train's: RUNS_DIR/DATASET/BACKBONE/seed-SEED (a modality alone: .../modalities-NAME/...),
with plain BPR in `vanilla`; those that are finished are used, the others are trained or resumed, and a
run of another configuration is refused. Backbones have their default hyper-parameters, but for what
`--tuned` sets, such as what experiments.sweep chose. U-ISOLATOR's alpha, beta and iota are chosen on
validation, by Recall@20 averaged over the seeds.

Tables are written as Markdown, LaTeX and CSV, figures as PNG, PDF and the CSV of what they
show. `claims` says which of the paper's claims hold on each dataset.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from absl import flags

from isolator_jax import scoring
from isolator_jax.backbones import BACKBONES, Encoded
from isolator_jax.data import read_dataset
from isolator_jax.data.statistics import dataset_statistics
from isolator_jax.errors import ConfigError, brief
from isolator_jax.evaluation import Evaluation, Settings, evaluate_settings
from isolator_jax.files import write_atomically, write_text
from isolator_jax.reporting import paper, paper_tables
from isolator_jax.reporting.paper import Model
from isolator_jax.runs import Problem, evaluate_problem, is_finished, load_dataset, load_model, make_problem
from isolator_jax.runs.config import RunConfig

from .common import cli
from .common.parsing import check_output, parse_seeds, parse_tuned
from .common.progress import progress
from .common.training import train_with_baseline

try:
    from matplotlib.figure import Figure

    from isolator_jax.reporting import paper_figures
except ModuleNotFoundError as error:
    _MISSING: str | None = f"{error}; the figures need matplotlib: pip install -e '.[plots]'"
else:
    _MISSING = None

ARTEFACTS = ("table1", "table2", "table3", "fig1", "fig2", "fig3", "fig5", "fig6", "claims")
VARIANTS = ("vanilla", "u_without_training_strategy", "training_strategy", "d", "u")
MAIN = ("vanilla", "d", "u")

_ARTEFACT = flags.DEFINE_list("artefact", None, f"What to make, of {', '.join(ARTEFACTS)}; or all.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the datasets' folders.", required=True)
_DATASETS = flags.DEFINE_list("datasets", None, "Datasets.", required=True)
_BACKBONES = flags.DEFINE_list("backbones", list(BACKBONES), "Backbones, in the order shown.")
_TABLE3_BACKBONE = flags.DEFINE_enum("table3_backbone", "vbpr", list(BACKBONES), "Backbone of Table 3.")
_TUNED = flags.DEFINE_multi_string(
    "tuned",
    [],
    "Hyper-parameters, or gamma, of one backbone in place of the common ones: backbone:name=value,name=value; "
    "may be repeated.",
)
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds of every run.")
_GAMMA = flags.DEFINE_float("gamma", 0.1, "Exponent of the training strategy (Eq. 7), but for what --tuned sets.")
_MAX_EPOCHS = flags.DEFINE_integer("max_epochs", 1000, "Train at most so many epochs.", 1)
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs", "Folder of the runs.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "artefacts", "Folder for the tables and figures.")


def main() -> None:
    if _MISSING is not None:
        raise ConfigError(_MISSING)
    wanted = ARTEFACTS if _ARTEFACT.value == ["all"] else _ARTEFACT.value
    unknown = [name for name in wanted if name not in ARTEFACTS]
    for flag, names in (("artefact", wanted), ("datasets", _DATASETS.value), ("backbones", _BACKBONES.value)):
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"--{flag} must have at least one name, and each once")
    if unknown:
        raise ConfigError(f"--artefact has no {brief(', '.join(unknown))}; there are {', '.join(ARTEFACTS)} and all")
    unknown = [name for name in _BACKBONES.value if name not in BACKBONES]
    if unknown:
        raise ConfigError(f"--backbones has no {brief(', '.join(unknown))}; there are {', '.join(BACKBONES)}")
    seeds = parse_seeds("seeds", _SEEDS.value)
    of_table3 = [_TABLE3_BACKBONE.value] if "table3" in wanted else []
    configs = make_configs(list(dict.fromkeys(_BACKBONES.value + of_table3)))
    check_output("runs_dir", _RUNS_DIR.value, folder=True)
    output = check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    if "table1" in wanted:
        rows = [dataset_statistics(read_dataset(_DATA_DIR.value, name)) for name in _DATASETS.value]
        _write_table(output / "table1", pd.DataFrame(rows), paper_tables.plain_table)
    for dataset in _DATASETS.value:
        if set(wanted) - {"table1", "table3"}:
            models = [load_models(configs[backbone], dataset, None, seeds) for backbone in _BACKBONES.value]
            for name in wanted:
                if name in MAKERS:
                    MAKERS[name](models, output / f"{name}-{dataset}")
        if "table3" in wanted:
            names = list(read_dataset(_DATA_DIR.value, dataset).features)
            alone = [(name,) for name in names] if len(names) > 1 else []
            subsets: list[tuple[str, ...] | None] = [*alone, None]
            models = [load_models(configs[_TABLE3_BACKBONE.value], dataset, subset, seeds) for subset in subsets]
            _accuracy(models, output / f"table3-{dataset}", ("recall@20", "ndcg@20", "ucbias@20"), ["modalities"])


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


def load_models(config: RunConfig, dataset: str, modalities: tuple[str, ...] | None, seeds: Sequence[int]) -> Model:
    """One backbone's runs of all seeds, trained where they are missing, evaluated on the test split.

    `modalities` are those it is to use; None for all there are.

    Raises:
      RunError: a run in its place has another configuration.
    """
    base = dataclasses.replace(config, dataset=dataset, modalities=modalities)
    backbone = base.backbone
    problem = make_problem(base, load_dataset(base))
    if problem.content is None:
        raise ConfigError(f"dataset {dataset} has no features; only table1 can be made of it")
    parts = [dataset, backbone] + ([] if modalities is None else [f"modalities-{'+'.join(modalities)}"])
    folders = [Path(_RUNS_DIR.value, *parts, f"seed-{seed}") for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        of_seed = dataclasses.replace(base, seed=seed)
        both = {folder: of_seed, folder / "vanilla": dataclasses.replace(of_seed, training_strategy=False)}
        if not all(is_finished(run_dir, config, problem.dataset) for run_dir, config in both.items()):
            train_with_baseline(of_seed, problem, folder, baseline=True, checkpoint_seconds=30.0)
    encoded = [load_model(folder, problem)[0] for folder in folders]
    plain = [load_model(folder / "vanilla", problem, cache_dir=folder / "cache")[0] for folder in folders]
    setting, setting_of_plain = choose_setting(problem, encoded), choose_setting(problem, plain)
    ts = {
        "training_strategy": scoring.training_strategy(base.gamma),
        "d": scoring.d_isolator(),
        "u": scoring.u_isolator(*setting),
    }
    without = {"vanilla": scoring.vanilla(), "u_without_training_strategy": scoring.u_isolator(*setting_of_plain)}
    description = f"{backbone} on {dataset}: evaluating"
    evaluations: dict[str, list[Evaluation]] = {name: [] for name in VARIANTS}
    for of_seed, strategies in progress(
        [*((e, ts) for e in encoded), *((e, without) for e in plain)], desc=description
    ):
        for name, evaluation in evaluate_problem(problem, of_seed, "test", strategies).items():
            evaluations[name].append(evaluation)
    return Model(
        dataset=dataset,
        backbone=backbone,
        modalities=tuple(problem.dataset.features),
        config={
            "seeds": " ".join(map(str, seeds)),
            "gamma": base.gamma,
            **dict(zip(("alpha", "beta", "iota"), setting, strict=True)),
            **dict(zip(("alpha w/o TS", "beta w/o TS", "iota w/o TS"), setting_of_plain, strict=True)),
            "hyper-parameters": " ".join(f"{name}={value}" for name, value in base.hparams.items()),
        },
        evaluations=evaluations,
        consistency=problem.content.consistency,
        lengths=np.asarray(problem.train.histories.lengths),
    )


def choose_setting(problem: Problem, encoded: Sequence[Encoded]) -> tuple[float, float, float]:
    """alpha, beta and iota with the highest validation Recall@20, averaged over the seeds' models."""
    grid = Settings()
    recall = np.mean(
        [
            evaluate_settings(model, problem.train.histories, problem.validation, problem.content, grid)[paper.RECALL]
            for model in encoded
        ],
        axis=0,
    )
    return list(itertools.product(*grid))[int(np.argmax(recall))]


def _accuracy(models: Sequence[Model], path: Path, metrics: Sequence[str], rows: Sequence[str]) -> None:
    frame = paper.means(models, MAIN, metrics)
    _write_table(path, frame, lambda frame, marks: paper_tables.accuracy_table(frame, rows, marks), _notes(models))


def _notes(models: Sequence[Model]) -> list[str]:
    """What a table's numbers carry: dataset, seeds, configuration, and what the marks mean."""
    lines = [
        "Best value of a column bold, second underlined. Star: better than the same model's Vanilla, paired t-test "
        "over users (values averaged over the seeds; none for UCBias), Holm-adjusted p < 0.05. Dagger: the same over "
        "seeds, where there are several. A difference without a mark may be chance.",
        f"Dataset {models[0].dataset}, seeds {models[0].config['seeds']}; "
        "± is the standard deviation over the seeds. alpha, beta and iota were chosen on validation.",
    ]
    return lines + [
        f"{paper.NAMES[model.backbone]} ({'+'.join(model.modalities)}): gamma {model.config['gamma']:g}, "
        f"alpha {model.config['alpha']:g}, beta {model.config['beta']:g}, iota {model.config['iota']:g}; "
        f"{model.config['hyper-parameters']}."
        for model in models
    ]


def _claims(models: Sequence[Model], path: Path) -> None:
    _write_table(path, paper.claims(models), paper_tables.plain_table, _notes(models)[1:])


def _rho(models: Sequence[Model], path: Path) -> None:
    frame = paper.rho_and_recall(models)
    _write_figure(path, paper_figures.recall_against_rho(frame), frame)


def _shares(models: Sequence[Model], path: Path) -> None:
    frame = paper.bias(models, ["vanilla"], paper.SHARES)
    _write_figure(path, paper_figures.bias_by_share(frame), frame)


def _equal_activity(models: Sequence[Model], path: Path) -> None:
    frame = paper.bias_at_equal_activity(models)
    _write_figure(path, paper_figures.bias_at_equal_activity(frame), frame)


def _strategies(models: Sequence[Model], path: Path) -> None:
    frame = paper.bias(models, MAIN)
    _write_figure(path, paper_figures.bias_of_strategies(frame), frame)


def _ablation(models: Sequence[Model], path: Path) -> None:
    means, bias = paper.means(models, VARIANTS, [paper.RECALL]), paper.bias(models, VARIANTS)
    keys = [column for column in bias if column in means]
    _write_figure(path, paper_figures.ablation(means, bias, VARIANTS), means.merge(bias, on=keys))


MAKERS: Mapping[str, Callable[[Sequence[Model], Path], None]] = {
    "table2": lambda models, path: _accuracy(models, path, paper.ACCURACY, ["backbone"]),
    "fig1": _rho,
    "fig2": _shares,
    "fig3": _equal_activity,
    "fig5": _strategies,
    "fig6": _ablation,
    "claims": _claims,
}


def _write_table(
    path: Path, frame: pd.DataFrame, render: Callable[[pd.DataFrame, Any], str], notes: Sequence[str] = ()
) -> None:
    markdown = render(frame, paper_tables.MARKDOWN)
    write_text(path.with_name(path.name + ".md"), "\n\n".join([markdown, *notes]) + "\n")
    comments = "".join(f"% {note}\n" for note in notes)
    write_text(path.with_name(path.name + ".tex"), comments + render(frame, paper_tables.LATEX) + "\n")
    _write_csv(path, frame)
    print(f"\n{path.name}\n\n{markdown}\n\nWritten: {path}.md, .tex, .csv")


def _write_figure(path: Path, figure: Figure, frame: pd.DataFrame) -> None:
    for suffix in ("png", "pdf"):
        target = path.with_name(f"{path.name}.{suffix}")
        write_atomically(target, lambda draft, suffix=suffix: figure.savefig(draft, dpi=200, format=suffix))
    _write_csv(path, frame)
    print(f"Written: {path}.png, .pdf, .csv")


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    write_atomically(path.with_name(path.name + ".csv"), lambda draft: frame.to_csv(draft, index=False))


if __name__ == "__main__":
    cli.run(main)
