"""Every model of some searches on the test split, as a CSV file: U with the setting that validation chose for it.

  python docs/searched_models.py study/*/gamma/freedom study/*/plain/freedom > docs/results/new_backbones.csv

Each folder is the output of `isolator sweep`; trials that are not finished are left out. Vanilla models that are in
several searches appear once.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from study import RECALL, trial_of

from isolator_jax.backbones import BACKBONES
from isolator_jax.runs import evaluate_problem, load_model
from isolator_jax.runs.config import RunConfig
from isolator_jax.strategies import STRATEGIES

SHOWN = {RECALL: "R@20", "ndcg@20": "N@20", "ucbias@20": "UCBias@20", "rho": "rho"}


def lines_of(trial: Path) -> Iterator[dict[str, str]]:
    """A line for each strategy of a trained model."""
    config, problem = trial_of(trial)
    rows = pd.read_parquet(trial / "validation.parquet")
    rows = rows.loc[rows.groupby("strategy", sort=False)[RECALL].idxmax()].set_index("strategy")
    made = {name: STRATEGIES[name].of({"gamma": config.gamma} | dict(row)) for name, row in rows.iterrows()}
    checkpoint = json.loads((trial / "report.json").read_text())["checkpoint"]
    encoded, epoch = load_model(trial, problem, cache_dir=trial.parent.parent / "cache", checkpoint=checkpoint)
    tested = evaluate_problem(problem, encoded, "test", made)
    defaults = RunConfig(backbone=config.backbone).hparams
    changed = ", ".join(f"{name} {value:g}" for name, value in config.hparams.items() if value != defaults[name])
    for name, row in rows.iterrows():
        parameters = {"gamma": config.gamma} if config.training_strategy else {}
        parameters |= {name: row[name] for name in ("alpha", "beta", "iota") if not pd.isna(row[name])}
        yield {
            "dataset": str(config.dataset),
            "backbone": BACKBONES[config.backbone].label,
            "hyper-parameters": changed or "defaults",
            "strategy": STRATEGIES[name].label,
            "chosen": ", ".join(f"{name} {value:g}" for name, value in parameters.items()),
            "epoch": str(epoch),
            "validation R@20": f"{row[RECALL]:.4f}",
            **{label: f"{tested[name].metrics[metric]:.4f}" for metric, label in SHOWN.items()},
            "groups": "shared",
        }


def main(folders: list[str]) -> None:
    trials = [trial for folder in folders for trial in sorted(Path(folder, "trials").iterdir())]
    finished = [trial for trial in trials if (trial / "validation.parquet").exists()]
    searched = {(c.dataset, c.modalities, c.seed) for c in (trial_of(trial)[0] for trial in finished)}
    if len(searched) > len({dataset for dataset, *_ in searched}):
        sys.exit(
            "a dataset was searched with several choices of modalities or seeds; give the searches of one at a time"
        )
    plain_first = sorted(finished, key=lambda trial: not trial.name.startswith("plain"))
    table = pd.DataFrame([line for trial in plain_first for line in lines_of(trial)])
    table = table.drop_duplicates(["dataset", "backbone", "hyper-parameters", "strategy", "chosen"])
    table["changed"] = table["hyper-parameters"] != "defaults"
    table = table.sort_values(["dataset", "backbone", "changed", "hyper-parameters"], kind="stable")
    table.drop(columns="changed").to_csv(sys.stdout, index=False, lineterminator="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
