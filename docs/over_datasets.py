"""Two tables over all datasets of the study, which train nothing.

docs/results/rankers.csv has UCBias of popularity and of content alone on all datasets, docs/results/fixed_setting.csv
U-ISOLATOR with one setting for all backbones and datasets that have been searched. With a setting that was chosen
elsewhere, which is alpha, beta and iota, it is docs/results/fixed_setting_tried.csv:

  python docs/over_datasets.py rankers --data_dir=DATA
  python docs/over_datasets.py fixed --study_dir=study
  python docs/over_datasets.py fixed 2 20 0.01 --study_dir=study
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from isolator_jax.experiments.common.tested import load_references
from study import BIAS, RECALL, RESULTS, U, trial_of, vanilla_on_test
from study_tables import confounding

from isolator_jax.backbones import BACKBONES
from isolator_jax.evaluation.significance import holm, paired_test
from isolator_jax.reporting import paper
from isolator_jax.runs import evaluate_problem, load_model
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import RunConfig
from isolator_jax.strategies import BASELINE, STRATEGIES

DATASETS = (
    ("lfm2k", ("text", "audio")),
    ("baby_knn", ("image", "text")),
    ("microlens50k", ("text",)),
    ("microlens50k", ("image", "text")),
    ("sports_knn", ("image", "text")),
    ("instruments", ("image", "text")),
    ("arts", ("text",)),
)


def rankers(data_dir: str) -> pd.DataFrame:
    """`confounding` of the rankers by popularity and by content alone, on every dataset of the protocol."""
    frames = []
    for dataset, modalities in DATASETS:
        print(dataset, *modalities, flush=True)
        references = load_references(RunConfig("mfbpr", data_dir=data_dir, dataset=dataset, modalities=modalities))
        shown = confounding(paper.confounding([], references, [])).rename(columns={"backbone": "ranker"})
        shown.insert(0, "dataset", dataset)
        shown.insert(1, "content", ", ".join(modalities))
        frames.append(shown.drop(columns="strategy"))
    return pd.concat(frames, ignore_index=True)


def fixed(study_dir: Path, setting: Sequence[float] | None = None) -> pd.DataFrame:
    """U with one setting of alpha, beta and iota for all searches, seed 0, on test.

    Where it isn't given, it is the one with the best validation Recall@20 over Vanilla's, on average.
    """
    gains, found = [], []
    for folder in sorted(study_dir.glob("*/gamma/*/validation.csv")):
        rows = pd.read_csv(folder)
        vanilla = rows.loc[rows["strategy"] == BASELINE, RECALL].mean()
        trained = rows[rows["training_strategy"]]
        gamma = trained.loc[trained[RECALL].idxmax(), "gamma"]
        of_u = trained[(trained["strategy"] == U) & (trained["gamma"] == gamma)].set_index(list(search.INFERENCE))
        gains.append(of_u[RECALL] / vanilla)
        found.append((folder.parent, gamma))
    setting = setting or pd.concat(gains, axis=1).mean(axis=1).idxmax()
    lines, p_values = [], []
    for folder, gamma in found:
        trained, problem = trial_of(folder / "trials" / f"gamma={gamma:g},seed=0")
        parameters = {"gamma": gamma, **dict(zip(search.INFERENCE, setting, strict=True))}
        of_u, _ = load_model(folder / "trials" / f"gamma={gamma:g},seed=0", problem, cache_dir=folder / "cache")
        u = evaluate_problem(problem, of_u, "test", {U: STRATEGIES[U].of(parameters)})[U]
        vanilla = vanilla_on_test(folder / "trials" / "plain,seed=0", problem)
        p_values.append(paired_test(u.per_user[RECALL], vanilla.per_user[RECALL]))
        lines.append(
            {
                "dataset": folder.parent.parent.name,
                "backbone": BACKBONES[trained.backbone].label,
                **{name: f"{value:g}" for name, value in parameters.items()},
                "Vanilla R@20": f"{vanilla.metrics[RECALL]:.4f}",
                "U R@20": f"{u.metrics[RECALL]:.4f}",
                "Vanilla UCBias@20": f"{vanilla.metrics[BIAS]:.4f}",
                "U UCBias@20": f"{u.metrics[BIAS]:.4f}",
            }
        )
    return pd.DataFrame(lines).assign(p=[f"{p:.2g}" for p in holm(np.asarray(p_values))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = parser.add_subparsers(dest="table", required=True)
    tables.add_parser("rankers").add_argument("--data_dir", required=True)
    of_fixed = tables.add_parser("fixed")
    of_fixed.add_argument("setting", nargs="*", type=float, help="alpha, beta and iota; default: chosen")
    of_fixed.add_argument("--study_dir", type=Path, default=Path("study"))
    given = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax's notes, a few for each model that is read
    if given.table == "rankers":
        rankers(given.data_dir).to_csv(RESULTS / "rankers.csv", index=False)
        return
    if len(given.setting) not in (0, len(search.INFERENCE)):
        of_fixed.error("a setting is alpha, beta and iota, or nothing")
    path = RESULTS / f"fixed_setting{'_tried' if given.setting else ''}.csv"
    fixed(given.study_dir.absolute(), tuple(given.setting) or None).to_csv(path, index=False)


if __name__ == "__main__":
    main()
