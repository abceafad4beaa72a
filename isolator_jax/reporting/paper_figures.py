"""The paper's figures, drawn from the tables of `paper`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from isolator_jax.evaluation.metrics import RECALL, RHO, UCBIAS
from isolator_jax.reporting.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LOOKS,
    ORANGE,
    VERMILLION,
    annotate_below,
    interval,
    legend_above,
    separate_labels,
    styled,
    ucbias_bars,
)
from isolator_jax.reporting.paper_tables import tied_note
from isolator_jax.reporting.tables import metric_label, strategy_label
from isolator_jax.reporting.text import literal
from isolator_jax.reporting.views import Interval


@styled
def recall_against_rho(frame: pd.DataFrame) -> Figure:
    """Fig. 1: a panel for each similarity; markers by architecture, colours by use of content.

    Args:
      frame: of `paper.rho_and_recall`, one dataset.
    """
    similarities = list(dict.fromkeys(frame["similarity"]))
    figure = Figure((3.4 * len(similarities), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(similarities), sharey=True))
    for axes, similarity in zip(panels, similarities, strict=True):
        for row in frame[frame["similarity"] == similarity].to_dict("records"):
            colour, marker, label = _kind(row)
            point = (row["rho"], row[RECALL])
            axes.scatter(*point, 60, colour, marker=marker, edgecolors="white", label=label, zorder=3)
            axes.annotate(literal(row["label"]), point, (5, 5), textcoords="offset points", fontsize=8)
        averaged = ", averaged" if similarity == RHO and len(similarities) > 1 else ""
        axes.set(xlabel=literal(metric_label(similarity)) + averaged)
        axes.margins(0.2)
        # Numbers near 1 are long: few ticks, written out, and aslant.
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.tick_params(axis="x", labelrotation=20)
    panels[0].set_ylabel(metric_label(RECALL))
    legend_above(figure, panels)
    separate_labels(figure)
    return figure


@styled
def bias_by_share(frame: pd.DataFrame) -> Figure:
    """Fig. 2: UCBias of each model for several shares of the groups, with intervals.

    Args:
      frame: of `paper.bias`, one dataset and strategy.
    """
    backbones = list(dict.fromkeys(frame["backbone"]))
    percents = sorted(set(frame["percent"]))
    figure = Figure((max(5.0, 1.2 * len(backbones) + 2), 3.8), layout="constrained")
    axes = figure.subplots()
    for place, percent in enumerate(percents):
        rows = frame[frame["percent"] == percent].set_index("backbone").loc[backbones]
        axes.errorbar(
            np.arange(len(backbones)) + (place - (len(percents) - 1) / 2) * 0.14,
            rows["ucbias"],
            [rows["ucbias"] - rows["low"], rows["high"] - rows["ucbias"]],
            fmt="os^Dv"[place % 5],
            color=[BLACK, ORANGE, BLUE, VERMILLION, GREEN][place % 5],
            capsize=2,
            markersize=5,
            label=f"{percent} %",
        )
    _label(axes, frame)
    legend_above(figure, [axes], title="share of each group")
    annotate_below(figure, axes, tied_note(frame))
    return figure


@styled
def bias_at_equal_activity(frame: pd.DataFrame) -> Figure:
    """Fig. 3: UCBias among equally active users, its bootstrap interval, and the spread of repeated draws.

    Args:
      frame: of `paper.bias_at_equal_activity`, one dataset.
    """
    figure = Figure((max(5.5, 1.0 * len(frame) + 2.5), 4.2), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(frame.to_dict("records")):
        colour, marker, label = _kind(row)
        ends = [row["draws low"], row["draws high"]]
        spread = "95 % of draws without replacement\n(no confidence interval)"
        axes.plot([place, place], ends, color=GREY, alpha=0.5, linewidth=9, solid_capstyle="butt", label=spread)
        error = [[row["ucbias"] - row["low"]], [row["high"] - row["ucbias"]]]
        axes.errorbar(place, row["ucbias"], error, fmt=marker, color=colour, capsize=4, markersize=8, label=label)
    _label(axes, frame)
    axes.margins(x=0.1)
    first = frame.iloc[0]
    window = f"{first['median']}"
    if first["most"] > first["median"]:
        window = f"{first['fewest']} to {first['most']} (around the median, {first['median']})"
    axes.set_xlabel(
        f"users with {window} training interactions:\n{first['consistent users']:,} content-consistent, "
        f"{first['diverse users']:,} content-diverse;\ndraws of {first['size']:,} each; bars: 95 % bootstrap"
    )
    legend_above(figure, [axes])
    annotate_below(figure, axes, tied_note(frame))
    return figure


def bias_of_strategies(frame: pd.DataFrame) -> Figure:
    """Fig. 5: UCBias of each model under Vanilla, D and U, with intervals.

    Args:
      frame: of `paper.bias`, one dataset.
    """
    bars = {
        rows["label"].iloc[0]: {row.strategy: Interval(row.ucbias, row.low, row.high) for row in rows.itertuples()}
        for _, rows in frame.groupby("backbone", sort=False)
    }
    return ucbias_bars(bars, note=tied_note(frame))


@styled
def ablation(means: pd.DataFrame, bias: pd.DataFrame, strategies: Sequence[str]) -> Figure:
    """Fig. 6: Recall@20 and UCBias@20 of the five variants of each model.

    Args:
      means: of `paper.means` for Recall@20, one dataset.
      bias: of `paper.bias`, the same models.
      strategies: the variants, in order.
    """
    backbones = list(dict.fromkeys(means["backbone"]))
    figure = Figure((max(5.0, 1.5 * len(backbones) + 2), 5.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    width = 0.8 / len(strategies)
    for place, strategy in enumerate(strategies):
        look = LOOKS[strategy]
        x = np.arange(len(backbones)) + (place - (len(strategies) - 1) / 2) * width
        for axes, frame, value in ((panels[0], means, "mean"), (panels[1], bias, "ucbias")):
            rows = frame[frame["strategy"] == strategy].set_index("backbone").loc[backbones]
            label = strategy_label(strategy)
            axes.bar(x, rows[value], 0.9 * width, color=look.colour, hatch=look.hatch, edgecolor="white", label=label)
            if value == "ucbias":
                error = [rows[value] - rows["low"], rows["high"] - rows[value]]
            else:
                error = rows["deviation"]
            interval(axes, x, rows[value], error, capsize=2)
            axes.grid(axis="x", visible=False)
    spread = "\n± deviation over seeds" if means["deviation"].notna().any() else ""
    panels[0].set_ylabel(metric_label(RECALL) + spread)
    _label(panels[1], bias)
    panels[1].set_ylabel(f"{metric_label(UCBIAS)}\n95 % over users")
    legend_above(figure, panels)
    annotate_below(figure, panels[1], tied_note(bias))
    return figure


def _label(axes: Axes, frame: pd.DataFrame) -> None:
    """The axes of a UCBias by backbone."""
    axes.axhline(0, color=BLACK, linewidth=0.8)
    labels = [literal(label) for label in frame.drop_duplicates("backbone")["label"]]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylabel(metric_label(UCBIAS))


def _kind(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Colour, marker and label of a model's kind."""
    graph, content = row["graph based"], row["uses content"]
    label = f"{'multi-modal' if content else 'conventional'}, {'graph' if graph else 'MF'}"
    return (VERMILLION if content else BLUE), ("^" if graph else "o"), label
