"""Runs the study of docs/results/protocol.md on one dataset, and writes its results to docs/results/DATASET.

  python docs/study.py --data_dir=DATA --dataset=lfm2k --modalities=text,audio --study_dir=study

Every step goes on where it was interrupted. A backbone's test results are kept in docs/results/DATASET/tested, and
the tables are of all backbones there: more of them can be added where the runs of the others no longer are. What was
chosen before is trained on other seeds by --tuned, gamma among it:

  python docs/study.py --data_dir=DATA --dataset=baby_knn --name=anew/baby_knn --backbones=vbpr --seeds=3,4 \\
      --tuned=vbpr:reg=0.5,gamma=1 --study_dir=study

Table 3, one backbone on each modality alone beside all of them, with what was chosen on all:

  python docs/study.py --data_dir=DATA --dataset=baby_knn --backbones= --table3=gume --tuned=gume:gamma=1 \\
      --study_dir=study
"""

import argparse
import dataclasses
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import tested
from isolator_jax.experiments.common.artefacts import Made, make
from isolator_jax.experiments.common.parsing import parse_counts, parse_tuned
from isolator_jax.experiments.common.tested import load_models, load_references, run_folder
from study_tables import add_rows, beside_published, by_modality, confounding, counted, summary

from isolator_jax.backbones import BACKBONES
from isolator_jax.evaluation import Evaluation, Settings
from isolator_jax.files import write_atomically
from isolator_jax.reporting.model import ModelResults
from isolator_jax.runs import (
    Problem,
    evaluate_problem,
    load_dataset,
    load_model,
    make_problem,
    read_config,
    read_metrics,
    vanilla_folder,
)
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import RunConfig
from isolator_jax.strategies import BASELINE, STRATEGIES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
GRIDS = {
    "mfbpr": ("reg", "2,1,0.5,0.3,0.1,0.01"),
    "vbpr": ("reg", "2,1,0.5,0.3,0.1,0.01"),
    "lightgcn": ("reg", "0.01,0.001,0.0001"),
    "grcn": ("learning_rate", "0.003,0.001,0.0003,0.0001"),
    "smore": ("learning_rate", "0.01,0.003,0.001"),
}
GAMMAS = "0.01,0.1,1"
RECALL, BIAS = "recall@20", "ucbias@20"
U, U_PLAIN = "u", "u_without_training_strategy"
TABLES, FIGURES = ("table2", "claims", "confounding"), ("fig1", "fig2", "fig3", "fig5", "fig6")


@dataclasses.dataclass(frozen=True)
class Study:
    """What is studied, and where.

    Attributes:
      dataset, data_dir, modalities: the data, as the commands' flags name them.
      study_dir: of the searches and runs of all datasets.
      name: of this one's folders, there and in docs/results.
    """

    dataset: str
    data_dir: str
    modalities: str | None
    study_dir: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.study_dir / self.name

    @property
    def results(self) -> Path:
        return RESULTS / self.name

    def flags(self) -> list[str]:
        modalities = [] if self.modalities is None else [f"--modalities={self.modalities}"]
        return [f"--data_dir={self.data_dir}", f"--dataset={self.dataset}", *modalities]

    def config(self, backbone: str, **trained: Any) -> RunConfig:
        modalities = None if self.modalities is None else tuple(self.modalities.split(","))
        return RunConfig(backbone, data_dir=self.data_dir, dataset=self.dataset, modalities=modalities, **trained)

    def run_folder(self, backbone: str, seed: int) -> Path:
        return run_folder(self.study_dir / "runs", self.config(backbone, seed=seed))

    def tested(self, backbone: str, modality: str | None = None) -> Path:
        """What is kept of a backbone, or of it on one modality alone."""
        return self.results / "tested" / f"{backbone if modality is None else f'{backbone}-{modality}'}.npz"

    def alone(self, modality: str) -> "Study":
        return dataclasses.replace(self, modalities=modality)


def run(*arguments: str) -> None:
    """A command of this checkout; interrupted with it, it is given the time to save."""
    print("isolator", *arguments, flush=True)
    with subprocess.Popen([sys.executable, "-m", "experiments", *arguments], cwd=ROOT) as child:
        if code := child.wait():
            sys.exit(code)


def choose_plain(study: Study, backbone: str) -> dict[str, str]:
    """Step 1: the hyper-parameter with the best validation Recall@20 of plain BPR."""
    if backbone not in GRIDS:
        return {}
    name, values = GRIDS[backbone]
    folder = study.folder / "plain" / backbone
    run(
        "sweep",
        f"--backbone={backbone}",
        *study.flags(),
        f"--grid={name}={values}",
        "--gammas=",
        f"--output_dir={folder}",
    )
    chosen = json.loads((folder / "report.json").read_text())["chosen"]
    vanilla = next(row for row in chosen if row["strategy"] == BASELINE)
    return {name: str(vanilla[f"hparams.{name}"])}


def choose_gamma(study: Study, backbone: str, hparams: dict[str, str]) -> float:
    """Step 2: the gamma with the best validation Recall@20 under any strategy of the models it trained."""
    folder = study.folder / "gamma" / backbone
    given = ",".join(f"{name}={value}" for name, value in hparams.items())
    if hparams:
        bring_plain(study, backbone, hparams)
    run(
        "sweep", f"--backbone={backbone}", *study.flags(), f"--hparams={given}", f"--gammas={GAMMAS}",
        f"--output_dir={folder}",
    )  # fmt: skip
    rows = pd.read_csv(folder / "validation.csv")
    rows = rows[rows["training_strategy"]]
    return float(rows.loc[rows[RECALL].idxmax(), "gamma"])


def bring_plain(study: Study, backbone: str, hparams: dict[str, str]) -> None:
    """Gives step 2 the plain model that step 1 trained with these hyper-parameters: it would train the same."""
    target = study.folder / "gamma" / backbone / "trials" / "plain,seed=0"
    wanted = {name: float(value) for name, value in hparams.items()}
    for trial in (study.folder / "plain" / backbone / "trials").iterdir():
        if not target.exists() and wanted.items() <= read_config(trial)["config"]["hparams"].items():
            copied(trial, target).rename(target)


def copied(folder: Path, target: Path) -> Path:
    """A copy of a run folder beside `target`, to be renamed to it once it is whole."""
    copy = target.with_name("copied")
    shutil.rmtree(copy, ignore_errors=True)  # of an interruption
    shutil.copytree(folder, copy)
    return copy


def adopt(study: Study, backbone: str, gamma: float) -> None:
    """Lets `reproduce` find the search's models of seed 0, which are those that it would train."""
    trials, target = study.folder / "gamma" / backbone / "trials", study.run_folder(backbone, 0)
    if target.exists():
        return
    copy = copied(trials / f"gamma={gamma:g},seed=0", target)
    plain = vanilla_folder(copy)
    shutil.copytree(trials / "plain,seed=0", plain)
    for path in (plain / name for name in ("config.json", "report.json")):
        written = json.loads(path.read_text())
        written["config"]["gamma"] = gamma  # plain BPR does not read it
        path.write_text(json.dumps(written, indent=2))
    copy.rename(target)


def test_rows(study: Study, backbone: str) -> pd.DataFrame:
    """Test metrics of every model of step 2 under every strategy and setting, as `search.trial_rows`."""
    path = study.folder / "test" / f"{backbone}.parquet"
    trials = sorted((study.folder / "gamma" / backbone / "trials").iterdir())
    newest = max((trial / "report.json").stat().st_mtime for trial in trials)
    if path.exists() and path.stat().st_mtime > newest:
        return pd.read_parquet(path)
    frames = []
    for folder in trials:
        trial, problem = trial_of(folder)
        encoded, _ = load_model(folder, problem, cache_dir=folder.parent.parent / "cache")
        made = {
            name: entry.of({"gamma": trial.gamma})
            for name, entry in STRATEGIES.items()
            if entry.trained == trial.training_strategy and name not in (U, U_PLAIN)
        }
        results = evaluate_problem(problem, encoded, "test", made)
        report = json.loads((folder / "report.json").read_text())
        tested = {**report, "validation": {name: result.metrics for name, result in results.items()}}
        as_validation = dataclasses.replace(problem, validation=problem.test)
        frames.append(search.trial_rows(trial, tested, as_validation, encoded, Settings()))
    rows = pd.concat(frames, ignore_index=True)
    write_atomically(path, lambda draft: rows.to_parquet(draft, index=False))
    return rows


_PROBLEMS: dict[str, Problem] = {}


def trial_of(folder: Path) -> tuple[RunConfig, Problem]:
    """What a trial of a search was trained with, and its problem, made once for each dataset."""
    config = RunConfig.from_dict(read_config(folder)["config"])
    return config, problem_of(config)


def problem_of(config: RunConfig) -> Problem:
    """The data that a configuration trains on, read once; it is the same for all backbones."""
    key = f"{config.data_dir} {config.dataset} {config.modalities}"
    if key not in _PROBLEMS:
        _PROBLEMS[key] = make_problem(config, load_dataset(config))
    return _PROBLEMS[key]


def vanilla_on_test(trial: Path, problem: Problem) -> Evaluation:
    """A plain model of a search on the test split."""
    encoded, _ = load_model(trial, problem, cache_dir=trial.parent.parent / "cache")
    return evaluate_problem(problem, encoded, "test", {BASELINE: STRATEGIES[BASELINE].of({})})[BASELINE]


def choice(study: Study, backbone: str) -> pd.DataFrame:
    """What choosing on test data adds: the best setting by test beside the best by validation, seed 0."""
    validation = pd.read_csv(study.folder / "gamma" / backbone / "validation.csv")
    tested_too = test_rows(study, backbone)
    keys = ["strategy", *search.TRAINING, *search.INFERENCE]
    by_validation = search.choose(validation, [], seeds=1).merge(tested_too[[*keys, RECALL]], on=keys)
    by_test = search.choose(tested_too, [], seeds=1)
    vanilla = float(by_validation.loc[by_validation["strategy"] == BASELINE, RECALL].iloc[0])
    lines = []
    for row in by_validation.to_dict("records"):
        if row["strategy"] == BASELINE:
            continue
        best = float(by_test.loc[by_test["strategy"] == row["strategy"], f"validation {RECALL}"].iloc[0])
        lines.append(
            {
                "backbone": BACKBONES[backbone].label,
                "strategy": STRATEGIES[row["strategy"]].label,
                "Vanilla R@20": f"{vanilla:.4f}",
                "R@20 by validation": f"{row[RECALL]:.4f}",
                "R@20 by test": f"{best:.4f}",
                "gain % by validation": f"{100 * (row[RECALL] / vanilla - 1):.2f}",
                "gain % by test": f"{100 * (best / vanilla - 1):.2f}",
            }
        )
    return pd.DataFrame(lines)


def knock_out(study: Study, backbone: str, hparams: dict[str, str]) -> pd.DataFrame:
    """Recall@20 and UCBias@20 of plain BPR with each modality, then all of them, shuffled among the items, seed 0."""
    given = ",".join(f"{name}={value}" for name, value in hparams.items())
    whole = study.folder / "gamma" / backbone / "trials" / "plain,seed=0"
    _, problem = trial_of(whole)
    names = tuple(problem.dataset.features)
    lines = []
    for shuffled in dict.fromkeys([(), *((name,) for name in names), names]):
        if not shuffled:
            metrics = vanilla_on_test(whole, problem).metrics
        else:
            folder = study.folder / "knock_out" / backbone / "+".join(shuffled)
            run(
                "train", f"--backbone={backbone}", *study.flags(), f"--hparams={given}", "--notraining_strategy",
                f"--knock_out={','.join(f'{name}:shuffle' for name in shuffled)}", f"--run_dir={folder}",
            )  # fmt: skip
            metrics = json.loads((folder / "report.json").read_text())["test"][BASELINE]
        lines.append(
            {
                "backbone": BACKBONES[backbone].label,
                "shuffled": " and ".join(shuffled) or "nothing",
                **{name: f"{metrics[name]:.4f}" for name in (RECALL, BIAS, "rho")},
            }
        )
    return pd.DataFrame(lines)


def training(study: Study, backbone: str, seeds: Sequence[int]) -> pd.DataFrame:
    """How long a model of step 3 trains, both its trainings: epochs, and seconds at the rate of the fastest one.

    `on` is this process' device, which the runs are taken to come from, unless the results have the same times already.
    """
    seconds, epochs, fastest = [], [], []
    for folder in (study.run_folder(backbone, seed) for seed in seeds):
        for run_dir in (folder, vanilla_folder(folder)):
            records = read_metrics(run_dir)
            fastest.append(min(record.train_seconds + record.validation_seconds for record in records))
            epochs.append(len(records))
            seconds.append(len(records) * fastest[-1])
    line = {
        "backbone": BACKBONES[backbone].label,
        "epochs": f"{np.mean(epochs):.0f}",
        "epoch s": f"{min(fastest):.2f}",
        "training s": f"{np.mean(seconds):.0f}",
    }
    path = study.results / "training.csv"
    kept = pd.read_csv(path, dtype=str).to_dict("records") if path.exists() else []
    return pd.DataFrame([next((row for row in kept if line.items() <= row.items()), line | {"on": machine()})])


def machine() -> str:
    """What this process computes on: the device's name, of a CPU the processor's, where Linux tells it."""
    device, told = jax.devices()[0].device_kind, Path("/proc/cpuinfo")
    if device != "cpu" or not told.exists():
        return device
    names = re.findall(r"^model name\s*: (.*)", told.read_text(), flags=re.MULTILINE)
    return re.sub(r"\(\w+\)|( \d+-Core)? Processor", "", names[0]) if names else device


def lost(study: Study, backbones: Sequence[str]) -> list[str]:
    """Labels of what the results have, and these backbones and the tested ones have not."""
    kept = [backbone for backbone in BACKBONES if backbone in backbones or study.tested(backbone).exists()]
    path = study.results / "summary.csv"
    there = pd.read_csv(path)["backbone"] if path.exists() else []
    return sorted(set(there) - {BACKBONES[backbone].label for backbone in kept})


def train_and_test(study: Study, backbone: str, seeds: Sequence[int], gamma: float, hparams: dict[str, str]) -> None:
    """Step 3 for one backbone, and what is kept of it."""
    config = study.config(backbone, hparams=hparams, gamma=gamma)
    model = load_models(config, seeds, study.study_dir / "runs")
    add_rows(study.results / "training.csv", training(study, backbone, seeds))
    tested.write(study.tested(backbone), model, problem_of(config))


def add_backbone(study: Study, backbone: str, seeds: Sequence[int]) -> None:
    """Steps 1 to 3 for one backbone, and what is beside the paper: all that is not compared with other backbones."""
    hparams = choose_plain(study, backbone)
    gamma = choose_gamma(study, backbone, hparams)
    adopt(study, backbone, gamma)
    add_rows(study.results / "choice.csv", choice(study, backbone))
    if BACKBONES[backbone].uses_content:
        add_rows(study.results / "knock_out.csv", knock_out(study, backbone, hparams))
    train_and_test(study, backbone, seeds, gamma, hparams)  # last: what is tested counts as there


def train_alone(study: Study, backbone: str, seeds: Sequence[int], gamma: float, hparams: dict[str, str]) -> None:
    """A backbone on each modality alone, and what is kept of it."""
    for modality in problem_of(study.config(backbone)).dataset.features:
        config = study.alone(modality).config(backbone, hparams=hparams, gamma=gamma)
        model = load_models(config, seeds, study.study_dir / "runs")
        tested.write(study.tested(backbone, modality), model, problem_of(config))


def of_modalities(study: Study) -> list[ModelResults]:
    """Table 3's models, if they are there: those on one modality alone, and that on all."""
    problem = problem_of(study.config("mfbpr"))
    for backbone in BACKBONES:
        paths = {modality: study.tested(backbone, modality) for modality in problem.dataset.features}
        if all(path.exists() for path in (*paths.values(), study.tested(backbone))):
            of_each = [tested.read(path, problem_of(study.alone(m).config(backbone))) for m, path in paths.items()]
            return [*of_each, tested.read(study.tested(backbone), problem)]
    return []


def make_artefacts(study: Study) -> None:
    """The tables and figures of all tested backbones; figures in the study's folder alone."""
    problem = problem_of(study.config("mfbpr"))
    there = [study.tested(backbone) for backbone in BACKBONES if study.tested(backbone).exists()]
    models, alone = [tested.read(path, problem) for path in there], of_modalities(study)
    made = Made(models, alone, load_references(study.config("mfbpr")))
    for name in (*TABLES, *(["table3"] if alone else []), *FIGURES):
        path = study.folder / "artefacts" / f"{name}-{study.dataset}"
        make(name, made, path)
        if name not in ("fig1", "confounding"):
            shutil.copy(path.with_suffix(".csv"), study.results / f"{name}.csv")
    explained = pd.read_csv(study.folder / "artefacts" / f"confounding-{study.dataset}.csv")
    confounding(explained).to_csv(study.results / "confounding.csv", index=False)
    counted(pd.read_csv(study.results / "claims.csv")).to_csv(study.results / "claims_counted.csv", index=False)
    summary(study.results).to_csv(study.results / "summary.csv", index=False)
    if alone:
        by_modality(study.results).to_csv(study.results / "modalities.csv", index=False)
    if study.dataset == "baby_knn":
        beside_published(study.results).to_csv(study.results / "published.csv", index=False)


def gamma_and_others(chosen: dict[str, str]) -> tuple[float, dict[str, str]]:
    """What --tuned has of a backbone: gamma, and its hyper-parameters."""
    return float(chosen["gamma"]), {name: value for name, value in chosen.items() if name != "gamma"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study_dir", type=Path, default=Path("study"))
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--modalities")
    parser.add_argument("--name", help="of the results' folder; default: the dataset's")
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--fewer_seeds", default="", help="backbone:COUNT, as reproduce has it; separated by commas")
    parser.add_argument("--tuned", action="append", default=[], help="as reproduce has it: then nothing is searched")
    parser.add_argument("--table3", help="backbone that is trained on each modality alone, as --tuned has it")
    given = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax's notes, a few for each model that is read
    study = Study(
        given.dataset, given.data_dir, given.modalities, given.study_dir.absolute(), given.name or given.dataset
    )
    backbones = list(filter(None, given.backbones.split(",")))
    if missing := lost(study, backbones):
        parser.error(f"{study.results} has {', '.join(missing)} too: name them, or another --name of results")
    every = [int(seed) for seed in given.seeds.split(",")]
    counts = parse_counts("fewer_seeds", list(filter(None, given.fewer_seeds.split(","))), most=len(every))
    chosen = parse_tuned("tuned", given.tuned)
    if given.table3 and given.table3 not in chosen:
        parser.error("--table3 trains what was chosen on all modalities: name that by --tuned")
    if without := [backbone for backbone, values in chosen.items() if "gamma" not in values]:
        parser.error(f"--tuned names no gamma for {', '.join(without)}")
    study.results.mkdir(parents=True, exist_ok=True)
    for backbone in backbones:
        of_backbone = every[: counts.get(backbone)]
        if backbone in chosen:
            train_and_test(study, backbone, of_backbone, *gamma_and_others(chosen[backbone]))
        else:
            add_backbone(study, backbone, of_backbone)
    if given.table3:
        of_table3 = every[: counts.get(given.table3)]
        train_alone(study, given.table3, of_table3, *gamma_and_others(chosen[given.table3]))
    make_artefacts(study)


if __name__ == "__main__":
    main()
