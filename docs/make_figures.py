"""Draws the pictures of the pages.

python docs/make_figures.py                reads docs/results/embedded.csv and docs/results/DATASET/summary.csv
python docs/make_figures.py runs/first     writes the first of them from a run folder before
"""

import csv
import itertools
import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
from make_tables import DOCS, rows_of
from matplotlib.figure import Figure

from isolator_jax import elu_prime, u_score
from isolator_jax.strategies import STRATEGIES

EMBEDDED = "results/embedded.csv"
METRICS = {
    "R@10": "recall@10", "R@20": "recall@20", "N@10": "ndcg@10", "N@20": "ndcg@20", "UCBias@20": "ucbias@20",
    "rho": "rho",
}  # fmt: skip
COLOURS = {"Vanilla": "0.45", "D-ISOLATOR": "#1b6ca8", "U-ISOLATOR": "#d1495b"}
SETTINGS = ((2, 5, 1), (2, 20, 1), (10, 5, 1), (2, 5, 0.1))  # alpha, beta, iota


def write_embedded(run_dir: Path) -> None:
    """The test metrics of a run, a row a strategy."""
    test = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))["test"]
    with open(DOCS / EMBEDDED, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["strategy", *METRICS, "groups"])
        for name, metrics in test.items():
            values = (f"{metrics[metric]:.4f}" for metric in METRICS.values())
            writer.writerow([STRATEGIES[name].label, *values, "shared"])


def start() -> Figure:
    """UCBias@20 and Recall@20 on the embedded dataset, by strategy."""
    rows = rows_of(EMBEDDED)
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")  # as wide as a phone shows legibly
    names = [row["strategy"] for row in rows]
    for axes, metric in zip(figure.subplots(2, 1), ("UCBias@20", "R@20"), strict=True):
        values = [float(row[metric]) for row in rows]
        bars = axes.barh(names, values, color=["0.75", "0.75", COLOURS["D-ISOLATOR"], COLOURS["U-ISOLATOR"]])
        axes.bar_label(bars, [row[metric] for row in rows], padding=3, fontsize=8)
        axes.set(xlabel=metric, xlim=(0, 1.15 * max(values)))
        axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis()
    return figure


def findings() -> Figure:
    """Recall@20 with its deviation over seeds and UCBias@20 with its interval, on the datasets of the study."""
    by_dataset = itertools.groupby(rows_of("results/*/summary.csv"), key=lambda row: row["dataset"])
    tables = [list(rows) for _, rows in by_dataset]
    figure = Figure(figsize=(5.2, 0.8 + 0.36 * sum(len(rows) for rows in tables)), layout="constrained")
    grid = figure.subplots(len(tables), 2, sharey="row", squeeze=False, height_ratios=[len(rows) for rows in tables])
    for rows, (recall, bias) in zip(tables, grid, strict=True):
        places = np.arange(len(rows))
        for shift, (name, colour) in zip((-0.22, 0, 0.22), COLOURS.items(), strict=True):
            style = {"fmt": "o", "markersize": 3.5, "elinewidth": 1, "color": colour, "label": name}
            mean, spread = (np.array([float(row[f"R@20 {name}{of}"]) for row in rows]) for of in ("", " sd"))
            recall.errorbar(mean, places + shift, xerr=spread, **style)
            value, low, high = (
                np.array([float(row[f"UCBias@20 {name}{of}"]) for row in rows]) for of in ("", " low", " high")
            )
            bias.errorbar(value, places + shift, xerr=(value - low, high - value), **style)
        recall.set(yticks=places, yticklabels=[row["backbone"] for row in rows], title=rows[0]["dataset"])
        recall.set_ylim(len(rows) - 0.5, -0.5)
        bias.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        for axes in (recall, bias):
            axes.spines[["top", "right"]].set_visible(False)
            axes.locator_params(axis="x", nbins=4)
    grid[-1][0].set_xlabel("Recall@20, sd over seeds")
    grid[-1][1].set_xlabel("UCBias@20, 95 % interval")
    figure.legend(*recall.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def elu() -> Figure:
    """ELU'."""
    figure = Figure(figsize=(4, 2.8), layout="constrained")
    axes = figure.subplots()
    x = np.linspace(-4, 3, 200, dtype=np.float32)
    axes.plot(x, elu_prime(x), color="#1b6ca8")
    axes.set(xlabel="f", ylabel="ELU'(f)", ylim=(0, None))
    return figure


def factor() -> Figure:
    """U-ISOLATOR's factor under some settings."""
    figure = Figure(figsize=(4, 2.8), layout="constrained")
    axes = figure.subplots()
    x = np.linspace(-1, 1, 401, dtype=np.float32)
    for (alpha, beta, iota), style in zip(SETTINGS, ("-", "--", "-.", ":"), strict=True):
        values = u_score(np.zeros_like(x), x[None], np.zeros((1, 1), np.float32), alpha, beta, iota)  # ELU'(0) = 1
        axes.plot(x, values, style, label=f"alpha {alpha}, beta {beta}, iota {iota}")
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="s - c", ylabel="factor", xticks=np.linspace(-1, 1, 5))
    axes.legend(fontsize=7, frameon=False)
    return figure


def main(run_dir: str | None = None) -> None:
    if run_dir is not None:
        write_embedded(Path(run_dir))
    with matplotlib.rc_context({"svg.hashsalt": "isolator", "svg.fonttype": "path", "font.size": 9}):
        for draw in (start, findings, elu, factor):
            draw().savefig(DOCS / "figures" / f"{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
