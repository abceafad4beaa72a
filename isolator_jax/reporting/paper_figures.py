"""The paper's figures, drawn from the tables of `paper`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from isolator_jax.reporting.figures import BLACK, BLUE, LOOKS, ORANGE, VERMILLION, Interval, styled, ucbias_bars
from isolator_jax.reporting.paper import CONVENTIONAL, MATRIX_FACTORISATION, NAMES, RECALL
from isolator_jax.strategies import LABELS


@styled
def recall_against_rho(frame: pd.DataFrame) -> Figure:
    """Fig. 1: a panel for each similarity; markers by architecture, colours by use of content.

    Args:
      frame: of `paper.rho_and_recall`, one dataset.
    """
    similarities = list(dict.fromkeys(frame["similarity"]))
    figure = Figure((3.4 * len(similarities), 3.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(similarities), sharey=True))
    for axes, similarity in zip(panels, similarities, strict=True):
        for row in frame[frame["similarity"] == similarity].to_dict("records"):
            colour, marker, label = _kind(row["backbone"])
            point = (row["rho"], row[RECALL])
            axes.scatter(*point, 60, colour, marker=marker, edgecolors="white", label=label, zorder=3)
            axes.annotate(NAMES[row["backbone"]], point, (5, 5), textcoords="offset points", fontsize=8)
        axes.set(xlabel=f"ρ, {similarity}")
        axes.margins(0.2)
    panels[0].set_ylabel("Recall@20")
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    figure.draw_without_rendering()  # places the panels
    for axes in panels:
        _separate([text for text in axes.texts if isinstance(text, Annotation)])
    return figure


def _separate(labels: Sequence[Annotation]) -> None:
    """Moves each label around its point, from the highest down, until it covers no point and no label before it."""
    sides = ((7, -3, "left"), (5, 5, "left"), (5, -11, "left"), (-5, 5, "right"), (-5, -11, "right"), (-7, -3, "right"))
    points = [label.axes.transData.transform(label.xy) for label in labels if label.axes is not None]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in points]
    for label in sorted(labels, key=lambda label: -label.xy[1]):
        for x, y, side in sides:
            label.set(position=(x, y), horizontalalignment=side)
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


@styled
def bias_by_share(frame: pd.DataFrame) -> Figure:
    """Fig. 2: UCBias of each model for several shares of the groups, with intervals.

    Args:
      frame: of `paper.bias`, one dataset and strategy.
    """
    backbones = list(dict.fromkeys(frame["backbone"]))
    percents = sorted(set(frame["percent"]))
    figure = Figure((1.2 * len(backbones) + 2, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, percent in enumerate(percents):
        rows = frame[frame["percent"] == percent].set_index("backbone").loc[backbones]
        x = np.arange(len(backbones)) + (place - (len(percents) - 1) / 2) * 0.14
        axes.errorbar(
            x,
            rows["ucbias"],
            [rows["ucbias"] - rows["low"], rows["high"] - rows["ucbias"]],
            fmt="os^Dv"[place % 5],
            color=[BLACK, ORANGE, BLUE, VERMILLION, "#009E73"][place % 5],
            capsize=2,
            markersize=5,
            label=f"{percent} %",
        )
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set_xticks(range(len(backbones)), [NAMES[name] for name in backbones])
    axes.set_ylabel("UCBias@20")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, title="share of each group", loc="outside upper center", ncols=len(percents))
    return figure


@styled
def bias_at_equal_activity(frame: pd.DataFrame) -> Figure:
    """Fig. 3: UCBias among equally active users, with the interval of the repeated draws.

    Args:
      frame: of `paper.bias_at_equal_activity`, one dataset.
    """
    figure = Figure((1.0 * len(frame) + 2, 3.4), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(frame.to_dict("records")):
        colour, marker, label = _kind(row["backbone"])
        error = [[row["ucbias"] - row["low"]], [row["high"] - row["ucbias"]]]
        axes.errorbar(place, row["ucbias"], error, fmt=marker, color=colour, capsize=4, markersize=8, label=label)
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set_xticks(range(len(frame)), [NAMES[name] for name in frame["backbone"]])
    axes.set_ylabel(f"UCBias@20, users with {frame['interactions'].iloc[0]} interactions")
    axes.margins(x=0.1)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return figure


def bias_of_strategies(frame: pd.DataFrame) -> Figure:
    """Fig. 5: UCBias of each model under Vanilla, D and U, with intervals.

    Args:
      frame: of `paper.bias`, one dataset.
    """
    bars = {
        NAMES[backbone]: {row.strategy: Interval(row.ucbias, row.low, row.high) for row in rows.itertuples()}
        for backbone, rows in frame.groupby("backbone", sort=False)
    }
    return ucbias_bars(bars)


@styled
def ablation(means: pd.DataFrame, bias: pd.DataFrame, strategies: Sequence[str]) -> Figure:
    """Fig. 6: Recall@20 and UCBias@20 of the five variants of each model.

    Args:
      means: of `paper.means` for Recall@20, one dataset.
      bias: of `paper.bias`, the same models.
      strategies: the variants, in order.
    """
    backbones = list(dict.fromkeys(means["backbone"]))
    figure = Figure((1.5 * len(backbones) + 2, 5.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    width = 0.8 / len(strategies)
    for place, strategy in enumerate(strategies):
        look = LOOKS[strategy]
        x = np.arange(len(backbones)) + (place - (len(strategies) - 1) / 2) * width
        for axes, frame, value in ((panels[0], means, "mean"), (panels[1], bias, "ucbias")):
            rows = frame[frame["strategy"] == strategy].set_index("backbone").loc[backbones]
            label = LABELS[strategy]
            axes.bar(x, rows[value], 0.9 * width, color=look.colour, hatch=look.hatch, edgecolor="white", label=label)
            if value == "ucbias":
                error = [rows[value] - rows["low"], rows["high"] - rows[value]]
            else:
                error = rows["deviation"].fillna(0)
            axes.errorbar(x, rows[value], error, fmt="none", ecolor=BLACK, capsize=2)
    for axes, label in zip(panels, ("Recall@20", "UCBias@20"), strict=True):
        axes.set_ylabel(label)
        axes.grid(axis="x", visible=False)
    panels[1].axhline(0, color=BLACK, linewidth=0.8)
    panels[1].set_xticks(range(len(backbones)), [NAMES[name] for name in backbones])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(strategies))
    return figure


def _kind(backbone: str) -> tuple[str, str, str]:
    """Colour, marker and label of a model's kind."""
    factorisation, conventional = backbone in MATRIX_FACTORISATION, backbone in CONVENTIONAL
    label = f"{'conventional' if conventional else 'multi-modal'}, {'MF' if factorisation else 'graph'}"
    return (BLUE if conventional else VERMILLION), ("o" if factorisation else "^"), label
