"""Which of the verdicts of lfm2k, made over users alone, are also beyond what trainings differ by.

  python docs/seeds_too.py        writes docs/results/seeds_too.csv, prints how much UCBias@20 varies over seeds

The values of single users and seeds are no longer there, so this is an estimate from the published files: the standard
error over users is that of the p-value in claims.csv, the variance over seeds that of fig6.csv, pooled over the
backbones. It takes both sides as independent, which can be far too strict, and is of Recall@20 of different trainings:
plain BPR beside the training strategy, or two backbones.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from isolator_jax.strategies import BASELINE, STRATEGIES

DATASET = "lfm2k"
RESULTS = Path(__file__).resolve().parent / "results"
LABELS = {entry.label: name for name, entry in STRATEGIES.items()}


def sides_of(claim: str, case: str) -> list[tuple[str, str]] | None:
    """Backbone and strategy of both sides, where they are trained apart."""
    if claim == "R@20 is higher for multi-modal models than for their counterparts":
        return [(backbone, BASELINE) for backbone in case.split(" over ")]
    found = re.fullmatch(r"(.+) has (?:higher|lower) R@20 than (.+)", claim)
    if found is None:
        return None
    strategies = [LABELS[label] for label in found.groups()]
    apart = STRATEGIES[strategies[0]].trained != STRATEGIES[strategies[1]].trained
    return [(case, strategy) for strategy in strategies] if apart else None


def rows() -> pd.DataFrame:
    """A row for each comparison that was beyond noise over users."""
    trained = pd.read_csv(RESULTS / DATASET / "fig6.csv")
    trained["degrees"] = trained["seeds"].astype(str).str.split().str.len() - 1
    weighted = trained.assign(variance=trained["deviation"] ** 2 * trained["degrees"]).groupby("strategy")
    pooled = weighted["variance"].sum() / weighted["degrees"].sum()
    seeds = trained.drop_duplicates("label").set_index("label")["degrees"] + 1
    claims = pd.read_csv(RESULTS / DATASET / "claims.csv")
    tested = claims[claims["p over users"].notna()].sort_values("p over users", kind="stable")
    factors = len(tested) - np.arange(len(tested))  # Holm's, undone where the adjusted p is below 1
    lines = []
    for factor, row in zip(factors, tested.to_dict("records"), strict=True):
        sides = sides_of(row["claim"], row["case"])
        if sides is None or "beyond" not in row["verdict"]:
            continue
        over_users = abs(row["difference"]) / stats.norm.isf(row["p over users"] / factor / 2)
        over_seeds = sum(pooled[strategy] / seeds[backbone] for backbone, strategy in sides)
        p = 2 * stats.norm.sf(abs(row["difference"]) / np.sqrt(over_users**2 + over_seeds))
        lines.append(
            {
                "dataset": DATASET,
                "claim": row["claim"],
                "model": row["case"],
                "difference": f"{row['difference']:.4f}",
                "p over users": f"{row['p over users']:.2g}",
                "p with seeds": f"{min(1.0, factor * p):.2g}",
            }
        )
    return pd.DataFrame(lines)


def ucbias_over_seeds() -> float:
    """Deviation over seeds of Vanilla's UCBias@20, from seed 0 (knock_out.csv) beside the means of all seeds."""
    first = pd.read_csv(RESULTS / DATASET / "knock_out.csv").query("shuffled == 'nothing'").set_index("backbone")
    means = (
        pd.read_csv(RESULTS / DATASET / "fig5.csv").query("strategy == @BASELINE").set_index("label").loc[first.index]
    )
    shares = 1 - 1 / means["seeds"].astype(str).str.split().str.len()
    return float(np.sqrt(((first["ucbias@20"] - means["ucbias"]) ** 2).sum() / shares.sum()))


if __name__ == "__main__":
    print(f"UCBias@20 varies by {ucbias_over_seeds():.4f} over seeds")
    rows().sort_values("claim", kind="stable").to_csv(RESULTS / "seeds_too.csv", index=False)
