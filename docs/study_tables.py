"""The study's tables on the pages, from the artefacts of `isolator reproduce` and what a backbone adds by itself."""

from pathlib import Path

import numpy as np
import pandas as pd

from isolator_jax.backbones import BACKBONES
from isolator_jax.evaluation.metrics import RECALL, UCBIAS
from isolator_jax.reporting.claims import VERDICTS
from isolator_jax.strategies import BASELINE, MAIN, STRATEGIES

# Recall@20 of Vanilla, D-ISOLATOR and U-ISOLATOR in the paper's Table 2, Amazon Baby; of its split and features.
PUBLISHED = {
    "mfbpr": (0.0611,),
    "lightgcn": (0.0751,),
    "vbpr": (0.0654, 0.0682, 0.0715),
    "grcn": (0.0827, 0.0839, 0.0851),
    "slmrec": (0.0799, 0.0851, 0.0852),
    "mgcn": (0.0958, 0.0969, 0.0980),
    "gume": (0.1041, 0.1062, 0.1063),
}


def add_rows(path: Path, rows: pd.DataFrame) -> None:
    """Writes these rows to the file, in place of those of the same backbones, in the backbones' order."""
    if path.exists():
        there = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = pd.concat([there[~there["backbone"].isin(rows["backbone"])], rows])
    order = {backbone.label: place for place, backbone in enumerate(BACKBONES.values())}
    rows = rows.sort_values("backbone", key=lambda labels: labels.map(order), kind="stable", ignore_index=True)
    rows.to_csv(path, index=False)


def _or_none(deviation: float) -> str:
    """Of one seed there is none."""
    return "" if np.isnan(deviation) else f"{deviation:.4f}"


def summary(results: Path) -> pd.DataFrame:
    """A row a backbone: Recall@20 (deviation over seeds), UCBias@20 (interval), seeds, seconds and their device."""
    means, biases = (pd.read_csv(results / f"{name}.csv") for name in ("table2", "fig5"))
    of_training = pd.read_csv(results / "training.csv", dtype=str)
    means = means[means["metric"] == RECALL].set_index(["label", "strategy"])
    biases = biases.set_index(["label", "strategy"])
    lines = []
    for label, line in of_training.set_index("backbone").iterrows():
        of_label: dict[str, str] = {"dataset": results.name, "backbone": str(label)}
        for strategy in MAIN:
            name, row = STRATEGIES[strategy].label, means.loc[label, strategy]
            of_label |= {f"R@20 {name}": f"{row['mean']:.4f}", f"R@20 {name} sd": _or_none(row["deviation"])}
        for strategy in MAIN:
            name, row = f"UCBias@20 {STRATEGIES[strategy].label}", biases.loc[label, strategy]
            of_label |= {name: f"{row['ucbias']:.3f}", f"{name} low": f"{row['low']:.3f}"}
            of_label |= {f"{name} high": f"{row['high']:.3f}"}
        of_label["seeds"] = means.loc[(label, BASELINE), "seeds"]
        lines.append(of_label | line[["training s", "on"]].to_dict())
    return pd.DataFrame(lines)


def by_modality(results: Path) -> pd.DataFrame:
    """Table 3: Recall@20 and UCBias@20 (deviations over seeds) of one backbone by the modalities that it reads."""
    means = pd.read_csv(results / "table3.csv").set_index(["modalities", "strategy", "metric"])
    lines = []
    for modalities in means.index.unique("modalities"):
        line = {"modalities": modalities.replace("+", ", ")}
        for metric, digits in ((RECALL, 4), (UCBIAS, 3)):
            for strategy in MAIN:
                name = f"{'R@20' if metric == RECALL else 'UCBias@20'} {STRATEGIES[strategy].label}"
                row = means.loc[modalities, strategy, metric]
                line |= {name: f"{row['mean']:.{digits}f}", f"{name} sd": f"{row['deviation']:.{digits}f}"}
        lines.append(line)
    return pd.DataFrame(lines)


def beside_published(results: Path) -> pd.DataFrame:
    """Recall@20 and the gains over Vanilla, the paper's on Baby beside ours; a row a backbone that both have."""
    means = pd.read_csv(results / "table2.csv").query("metric == @RECALL")
    means = means.pivot(index="label", columns="strategy", values="mean")
    lines = []
    for backbone, published in PUBLISHED.items():
        label = BACKBONES[backbone].label
        if label in means.index:
            here = means.loc[label, list(MAIN)].to_numpy()
            line = {"backbone": label, "Vanilla, paper": f"{published[0]:.4f}", "here": f"{here[0]:.4f}"}
            for place, strategy in enumerate(MAIN[1:], start=1):
                name = f"{STRATEGIES[strategy].label} gain %"
                of_paper = f"{100 * (published[place] / published[0] - 1):.1f}" if len(published) > 1 else ""
                line |= {f"{name}, paper": of_paper, f"{name}, here": f"{100 * (here[place] / here[0] - 1):.1f}"}
            lines.append(line)
    return pd.DataFrame(lines)


def counted(claims: pd.DataFrame) -> pd.DataFrame:
    """How many of each claim's comparisons hold, a row a claim."""
    verdicts = claims.groupby(["section", "claim"], sort=False)["verdict"].value_counts().unstack(fill_value=0)
    return verdicts.reindex(columns=[verdict for verdict in VERDICTS if verdict in verdicts]).reset_index()


def confounding(explained: pd.DataFrame) -> pd.DataFrame:
    """UCBias@20 with its interval, among users of equal activity, and among items of equal popularity."""
    shown = explained[["label"]].rename(columns={"label": "backbone"})
    shown["strategy"] = [STRATEGIES[name].label for name in explained["strategy"]]
    shown["R@20"] = [f"{value:.4f}" for value in explained[RECALL]]
    places = {
        "UCBias@20": (UCBIAS, "low", "high"),
        "at equal activity": ("at equal activity", "activity low", "activity high"),
    }
    for name, columns in places.items():
        for suffix, column in zip(("", " low", " high"), columns, strict=True):
            shown[name + suffix] = [f"{value:.3f}" for value in explained[column]]
    shown["at equal popularity"] = [f"{value:.3f}" for value in explained["at equal popularity"]]
    return shown
