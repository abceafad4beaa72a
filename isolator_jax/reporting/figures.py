"""Figures: arrays in, a matplotlib `Figure` out. No files, no global matplotlib state.

A strategy has the same colour, marker and hatch in every figure. The colours are Okabe and
Ito's, which people with any common colour blindness tell apart, and none is the only sign.

`to_svg` makes a figure part of an HTML page; `Figure.savefig` writes it to a file.
"""

import functools
import io
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from isolator_jax.evaluation.bias import Groups
from isolator_jax.evaluation.metrics import RECALL, UCBIAS
from isolator_jax.reporting.tables import metric_label, strategy_label
from isolator_jax.reporting.text import literal, one_line
from isolator_jax.reporting.views import Curve, Interval
from isolator_jax.strategies import STRATEGIES

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

# Of names in figures: the longest, in characters, and how many stand beside each other untilted.
_LONGEST_NAME = 24
_CHARACTERS_AN_INCH = 8

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
    recall = f"Validation {metric_label(RECALL)}"
    for axes, field, label in zip(panels, ("loss", "validation"), ("Mean loss", recall), strict=True):
        for curve, (colour, line, marker) in zip(curves, looks, strict=False):
            values = getattr(curve, field)
            axes.plot(curve.epochs, values, line, color=colour, linewidth=1.6, label=literal(curve.name))
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
    for name, points in zip(drawn_names(runs), runs.values(), strict=True):
        first = next(iter(points.values()))
        for strategy, place in points.items():
            axes.plot(*zip(first, place, strict=True), color=GREY, linewidth=0.8, zorder=1)
            _mark(axes, strategy, *place)
        if len(runs) > 1:
            label = axes.annotate(literal(name), first, (7, -3), textcoords="offset points", fontsize=8, zorder=2)
            label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set(xlabel="rho, average content similarity of the lists", ylabel=metric_label(RECALL))
    axes.margins(0.12)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [name for name in (strategy_label(strategy) for strategy in LOOKS) if name in handles]
    axes.legend([handles[name] for name in names], names, **BESIDE)
    separate_labels(figure)
    return figure


@styled
def ucbias_bars(runs: Mapping[str, Mapping[str, Interval]], note: str = "") -> Figure:
    """UCBias@20 of each run and strategy with its interval (Figs. 2 and 5), and a note below."""
    strategies = [name for name in LOOKS if any(name in bars for bars in runs.values())]
    figure = Figure((max(7.0, 1.5 + 0.3 * len(strategies) * len(runs)), 4.0), layout="constrained")
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
            label=strategy_label(strategy),
        )
        interval(axes, x, (low + high) / 2, (high - low) / 2, capsize=4)
    axes.axhline(0, color=BLACK, linewidth=0.8)
    names = [literal(name) for name in drawn_names(runs)]
    tilted = len(names) * max(map(len, names)) > _CHARACTERS_AN_INCH * figure.get_figwidth()
    axes.set_xticks(range(len(runs)), names, rotation=30 * tilted, ha="right" if tilted else "center")
    axes.set_ylabel(f"{metric_label(UCBIAS)}, 95 % over users")
    axes.grid(axis="x", visible=False)
    legend_above(figure, [axes])
    annotate_below(figure, axes, note)
    return figure


@styled
def consistency_histogram(consistency: np.ndarray, groups: Groups, bins: int = 50) -> Figure:
    """How c_u is distributed, Content-Diverse and Content-Consistent users marked.

    Args:
      consistency: `[U]`, NaN where undefined.
      groups: weights of the same users; tied users count in part here and in part between.
    """
    figure = Figure((7, 3.4), layout="constrained")
    axes = figure.subplots()
    defined = ~np.isnan(consistency)
    diverse, consistent = groups.diverse[defined], groups.consistent[defined]
    parts = [
        ("Content-Diverse", diverse, SKY, "---"),
        ("between", 1.0 - diverse - consistent, "#D0D0D0", ""),
        ("Content-Consistent", consistent, ORANGE, "///"),
    ]
    axes.hist(
        [consistency[defined]] * len(parts),
        bins,
        weights=[weights for _, weights, _, _ in parts],
        stacked=True,
        label=[f"{name}, {weights.sum():.0f} users" for name, weights, _, _ in parts],
    )
    for (_, _, colour, hatch), bars in zip(parts, axes.containers, strict=True):
        for bar in bars:
            bar.set(facecolor=colour, edgecolor="white", hatch=hatch, linewidth=0.4)
    mean = consistency[defined].mean()
    axes.axvline(mean, color=BLACK, linestyle="--", linewidth=1.2, label=f"mean, {mean:.3f}")
    axes.set(xlabel="c_u, content consistency of a user's history", ylabel="Users")
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
      front: `[P, 2]`, recall and UCBias of the points of the front.
    """
    figure = Figure((7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    looks = [(SKY, "o"), (GREEN, "s"), (ORANGE, "^"), (PURPLE, "X"), (BLUE, "P"), (GREY, "*")]
    for place, iota in enumerate(iotas):
        colour, marker = looks[place % len(looks)]
        axes.plot(
            ucbias[..., place].ravel(),
            recall[..., place].ravel(),
            marker,
            color=colour,
            markersize=5,
            alpha=0.85,
            label=f"U, ι = {iota:g}",
        )
    for strategy, (gain, cost) in marked.items():
        _mark(axes, strategy, cost, gain, size=90)
    gains, costs = front.T
    axes.plot(costs, gains, "o", color=BLACK, markersize=11, fillstyle="none", label="Pareto front", zorder=4)
    x, y = metric_label(UCBIAS), metric_label(RECALL)
    axes.set(xlabel=f"{x} (the nearer to 0 the better)", ylabel=f"{y} (the higher the better)")
    axes.legend(**BESIDE)
    return figure


def drawn_names(names: Iterable[str]) -> list[str]:
    """Names short enough to draw: without the folders that all have, the middle left out of what is still long.

    What would be alike then is whole.

    Examples:
      >>> drawn_names(["runs/baby/vbpr/seed-0", "runs/baby/mgcn/seed-0"])
      ['vbpr/seed-0', 'mgcn/seed-0']
      >>> drawn_names(["a" * 30 + "b" * 30])
      ['aaaaaaaaaaaa…bbbbbbbbbbb']
    """
    paths = [name.split("/") for name in names]
    folders = zip(*(path[:-1] for path in paths), strict=False)
    common = len(list(itertools.takewhile(lambda parts: len(set(parts)) == 1, folders))) if len(paths) > 1 else 0
    shortened = ["/".join(path[common:]) for path in paths]
    keep = _LONGEST_NAME // 2
    drawn = [name if len(name) <= _LONGEST_NAME else f"{name[:keep]}…{name[1 - keep :]}" for name in shortened]
    return [short if drawn.count(short) == 1 else name for short, name in zip(drawn, shortened, strict=True)]


def interval(axes: Axes, x: ArrayLike, middle: ArrayLike, error: Any, *, capsize: float) -> None:
    """Intervals on filled bars, a white border around them; none where the error is NaN."""
    border = [withStroke(linewidth=3.5, foreground="white")]
    axes.errorbar(x, middle, error, fmt="none", ecolor=BLACK, capsize=capsize, path_effects=border)


def legend_above(figure: Figure, panels: Iterable[Axes], title: str | None = None) -> None:
    """One legend of all panels above them, each label once, in as many columns as fit the figure."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles.values(), handles.keys(), title=title, loc="outside upper center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= 0.95 * figure.bbox.width:
            return
        legend.remove()


def separate_labels(figure: Figure) -> None:
    """Moves the labels of each panel's points, from the highest down, off all points, each other and the right edge."""
    figure.draw_without_rendering()  # places the panels
    near = [(7, -3), (5, 5), (5, -11), (-5, 5), (-5, -11), (-7, -3), (5, 14), (5, -20), (-5, 14), (-5, -20)]
    for axes in figure.axes:
        labels = [text for text in axes.texts if isinstance(text, Annotation)]
        places = [place for points in axes.collections for place in np.asarray(points.get_offsets())]
        taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in map(axes.transData.transform, places)]
        for label in sorted(labels, key=lambda label: -label.xy[1]):
            for x, y in near:
                label.set(position=(x, y), horizontalalignment="left" if x > 0 else "right")
                box = label.get_window_extent()
                if box.x1 <= axes.bbox.x1 + 4 and not any(box.overlaps(other) for other in taken):
                    break
            taken.append(box)


def annotate_below(figure: Figure, axes: Axes, note: str) -> None:
    """A note under the axes' own label, broken to the figure's width."""
    if note:
        characters = int(figure.bbox.width / figure.dpi * 12)
        lines = [axes.get_xlabel(), "\n".join(textwrap.wrap(literal(note), characters))]
        axes.set_xlabel("\n".join(line for line in lines if line), fontsize=9)


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
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(one_line(description))}" ', 1)


def _mark(axes: Axes, strategy: str, x: float, y: float, size: float = 55) -> None:
    look = LOOKS[strategy]
    label = strategy_label(strategy)
    axes.scatter(x, y, size, look.colour, marker=look.marker, edgecolors="white", linewidths=0.8, label=label, zorder=3)
