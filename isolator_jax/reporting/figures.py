"""Figures: arrays in, a matplotlib `Figure` out. No files, no global matplotlib state.

A strategy has the same colour, marker and hatch in every figure. The colours are Okabe and
Ito's, which people with any common colour blindness tell apart, and none is the only sign.

`to_svg` makes a figure part of an HTML page; `Figure.savefig` writes it to a file.
"""

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from isolator_jax.evaluation.bias import Groups
from isolator_jax.strategies import LABELS, STRATEGIES

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#8C8C8C"

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E0E0E0",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "hatch.linewidth": 0.6,
}

# A legend outside the axes, at their right.
BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}


class Look(NamedTuple):
    """How a strategy is drawn."""

    colour: str
    marker: str
    hatch: str


# In the catalogue's order.
_LOOKS = (
    Look(BLACK, "o", ""),
    Look(GREEN, "v", "xxx"),
    Look(SKY, "s", "///"),
    Look(BLUE, "^", "---"),
    Look(VERMILLION, "D", "\\\\\\"),
)
LOOKS = dict(zip(STRATEGIES, _LOOKS, strict=True))


class Curve(NamedTuple):
    """One training: epochs `[E]`, mean loss `[E]`, validation Recall@20 `[E]`, and its best epoch."""

    name: str
    epochs: np.ndarray
    loss: np.ndarray
    validation: np.ndarray
    best_epoch: int


class Interval(NamedTuple):
    """A value and the ends of its interval, NaN where there is none."""

    value: float
    low: float
    high: float


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Runs a drawing function under `STYLE` and leaves matplotlib's settings as they were."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **options)

    return drawn


@styled
def training_curves(curves: Sequence[Curve]) -> Figure:
    """Loss and validation Recall@20 against the epoch, the best epoch marked on both."""
    figure = Figure((9, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    looks = [(VERMILLION, "-", "D"), (BLACK, "--", "o")]
    for axes, field, label in zip(panels, ("loss", "validation"), ("Mean loss", "Validation Recall@20"), strict=True):
        for curve, (colour, line, marker) in zip(curves, looks, strict=False):
            values = getattr(curve, field)
            axes.plot(curve.epochs, values, line, color=colour, linewidth=1.6, label=curve.name)
            best = curve.epochs == curve.best_epoch
            label_best = f"best epoch, {curve.best_epoch}"
            axes.plot(curve.epochs[best], values[best], marker, color=colour, markersize=8, label=label_best)
        axes.set(xlabel="Epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return figure


@styled
def accuracy_against_rho(runs: Mapping[str, Mapping[str, tuple[float, float]]]) -> Figure:
    """Recall@20 against rho (Fig. 1): a point for each run and strategy.

    Args:
      runs: for each run, for each strategy, `(rho, recall)`. Grey lines join a run's first
        point to its others; where there are several runs, the name stands at the first.
    """
    figure = Figure((7, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, points in runs.items():
        first = next(iter(points.values()))
        for strategy, place in points.items():
            axes.plot(*zip(first, place, strict=True), color=GREY, linewidth=0.8, zorder=1)
            _mark(axes, strategy, *place)
        if len(runs) > 1:
            label = axes.annotate(name, first, (0, 12), textcoords="offset points", fontsize=8, ha="center", zorder=2)
            label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set(xlabel="ρ, average content similarity of the lists", ylabel="Recall@20")
    axes.margins(0.12)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [name for name in (LABELS[strategy] for strategy in LOOKS) if name in handles]
    axes.legend([handles[name] for name in names], names, **BESIDE)
    return figure


@styled
def ucbias_bars(runs: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """UCBias@20 of each run and strategy with its interval (Figs. 2 and 5)."""
    strategies = [name for name in LOOKS if any(name in bars for bars in runs.values())]
    figure = Figure((max(6.0, 1.5 + 0.3 * len(strategies) * len(runs)), 4.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(strategies)
    for place, strategy in enumerate(strategies):
        look = LOOKS[strategy]
        having = [(number, bars[strategy]) for number, bars in enumerate(runs.values()) if strategy in bars]
        x = np.array([number for number, _ in having]) + (place - (len(strategies) - 1) / 2) * width
        value, low, high = np.array([interval for _, interval in having]).T
        axes.bar(
            x,
            value,
            0.9 * width,
            color=look.colour,
            edgecolor="white",
            hatch=look.hatch,
            label=LABELS[strategy],
        )
        # The white border keeps the interval visible on a filled bar.
        axes.errorbar(
            x,
            (low + high) / 2,
            (high - low) / 2,
            fmt="none",
            ecolor=BLACK,
            capsize=4,
            path_effects=[withStroke(linewidth=3.5, foreground="white")],
        )
    axes.axhline(0, color=BLACK, linewidth=0.8)
    tilted = len(runs) > 4
    axes.set_xticks(range(len(runs)), list(runs), rotation=30 * tilted, ha="right" if tilted else "center")
    axes.set_ylabel("UCBias@20")
    axes.grid(axis="x", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(strategies))
    return figure


@styled
def consistency_histogram(consistency: np.ndarray, groups: Groups, bins: int = 50) -> Figure:
    """How c_u is distributed, Content-Diverse and Content-Consistent users marked.

    Args:
      consistency: `[U]`, NaN where undefined.
      groups: weights of the same users.
    """
    figure = Figure((7, 3.4), layout="constrained")
    axes = figure.subplots()
    defined = ~np.isnan(consistency)
    between = np.where(defined, 1.0 - groups.diverse - groups.consistent, 0.0)
    parts = [
        ("Content-Diverse", groups.diverse, SKY, "---"),
        ("between", between, "#D0D0D0", ""),
        ("Content-Consistent", groups.consistent, ORANGE, "///"),
    ]
    axes.hist(
        [consistency[defined]] * len(parts),
        bins,
        weights=[weight[defined] for _, weight, _, _ in parts],
        range=(consistency[defined].min(), consistency[defined].max()),
        stacked=True,
        label=[f"{name}, {weight.sum():.0f} users" for name, weight, _, _ in parts],
    )
    for (_, _, colour, hatch), bars in zip(parts, axes.containers, strict=True):
        for bar in bars:
            bar.set(facecolor=colour, edgecolor="white", hatch=hatch, linewidth=0.4)
    mean = consistency[defined].mean()
    axes.axvline(mean, color=BLACK, linestyle="--", linewidth=1.2, label=f"mean, {mean:.3f}")
    axes.set(xlabel="$c_u$, content consistency of a user's history", ylabel="Users")
    axes.legend()
    return figure


@styled
def trade_off(
    recall: np.ndarray,
    ucbias: np.ndarray,
    iotas: Sequence[float],
    marked: Mapping[str, tuple[float, float]],
    front: np.ndarray,
) -> Figure:
    """Recall@20 against UCBias@20 of all settings of U-ISOLATOR, with the Pareto front.

    Args:
      recall, ucbias: `[A, B, J]`, over alpha, beta and iota.
      iotas: `[J]`; each has a colour and marker.
      marked: other strategies' `(recall, ucbias)`, drawn large.
      front: `[P, 2]`, recall and UCBias of the points of the front, in order.
    """
    figure = Figure((7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    looks = [(SKY, "o"), (GREEN, "s"), (ORANGE, "^"), (PURPLE, "X"), (BLUE, "P"), (GREY, "*")]
    for place, iota in enumerate(iotas):
        colour, marker = looks[place % len(looks)]
        x, y = ucbias[..., place].ravel(), recall[..., place].ravel()
        axes.plot(x, y, marker, color=colour, markersize=5, alpha=0.85, label=f"U, ι = {iota:g}")
    for strategy, (gain, cost) in marked.items():
        _mark(axes, strategy, cost, gain, size=90)
    gains, costs = front.T
    axes.plot(costs, gains, color=BLACK, linewidth=1.2, linestyle=":", label="Pareto front", zorder=1)
    axes.set(xlabel="UCBias@20 (lower is better)", ylabel="Recall@20 (higher is better)")
    axes.legend(**BESIDE)
    return figure


def to_svg(figure: Figure, name: str, description: str) -> str:
    """A figure as an `<svg>` element for an HTML page.

    Args:
      figure: what to draw.
      name: prefix of the element's ids, one for each figure of a page.
      description: what the figure shows, for people who do not see it.
    """
    drawing = io.StringIO()
    # Text as outlines: the page looks the same whatever fonts its reader has.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(drawing, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = drawing.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)


def _mark(axes: Axes, strategy: str, x: float, y: float, size: float = 55) -> None:
    look = LOOKS[strategy]
    label = LABELS[strategy]
    axes.scatter(x, y, size, look.colour, marker=look.marker, edgecolors="white", linewidths=0.8, label=label, zorder=3)
