"""The paper's tables in Markdown and LaTeX: best value bold, second underlined, significance marked."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from isolator_jax.evaluation.metrics import UCBIAS
from isolator_jax.reporting.model import SIGNIFICANT
from isolator_jax.reporting.tables import TIED, metric_label, strategy_label
from isolator_jax.reporting.text import latex, markdown
from isolator_jax.strategies import BASELINE


class Marks(NamedTuple):
    """How a format marks the best and the second value of a block, deviations and significance, and escapes text."""

    format: str
    best: str
    second: str
    deviation: str
    over_users: str
    over_seeds: str
    escape: Callable[[object], str]


MARKDOWN = Marks("github", "**{}**", "<u>{}</u>", "{} ± {}", "\\*", "†", markdown)
LATEX = Marks("latex_raw", "\\textbf{{{}}}", "\\underline{{{}}}", "{} $\\pm$ {}", "$^*$", "$^\\dagger$", latex)


class Table(NamedTuple):
    """A table's cells as they are to stand; the first `keys` columns name a row."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: int = 1


def typeset(table: Table, marks: Marks) -> str:
    """The table in the marks' format, however wide."""
    return tabulate(table.rows, table.headers, tablefmt=marks.format, disable_numparse=True)


def accuracy_table(frame: pd.DataFrame, rows: Mapping[str, str], marks: Marks) -> Table:
    """Rows by metrics, from the means of `paper.means`.

    The best value of a block, the rows of one model, is bold and the second underlined; values that
    are equal as printed share a mark, undefined ones have none, and of UCBias the smallest size is the
    best. Star and dagger: better than the same model's Vanilla, adjusted p over users and over seeds
    below 0.05.

    Args:
      frame: as `paper.means` gives it.
      rows: columns that tell the blocks apart, with their headings.
      marks: `MARKDOWN` or `LATEX`.
    """
    blocks = frame.groupby([*rows], sort=False)
    metrics = list(dict.fromkeys(frame["metric"]))
    body = []
    for block, cells in blocks:
        values = cells.set_index(["strategy", "metric"])
        texts = {metric: _column(values.xs(metric, level="metric"), metric, marks) for metric in metrics}
        for strategy in dict.fromkeys(cells["strategy"]):
            names = [marks.escape(name) for name in (*block, strategy_label(strategy))]
            body.append([*names, *(texts[metric].get(strategy, "-") for metric in metrics)])
    labels = [marks.escape(metric_label(metric)) for metric in metrics]
    return Table([*map(marks.escape, rows.values()), "", *labels], body, keys=len(rows) + 1)


def _column(values: pd.DataFrame, metric: str, marks: Marks) -> dict[Hashable, str]:
    """A block's cells of one metric, by strategy."""
    better = values["mean"].abs() * -1 if metric == UCBIAS else values["mean"]
    ranks = better.map(lambda value: float(f"{value:.4f}")).rank(method="dense", ascending=False)
    vanilla = better.get(BASELINE, np.nan)
    texts: dict[Hashable, str] = {}
    for strategy, row in values.iterrows():
        if np.isnan(row["mean"]):
            texts[strategy] = "-"
            continue
        text = f"{row['mean']:.4f}"
        if ranks.count() > 1:
            text = {1: marks.best, 2: marks.second}.get(ranks[strategy], "{}").format(text)
        if not np.isnan(row["deviation"]):
            text = marks.deviation.format(text, f"{row['deviation']:.4f}")
        for p, mark in (("p over users", marks.over_users), ("p over seeds", marks.over_seeds)):
            text += mark if better[strategy] > vanilla and row[p] < SIGNIFICANT else ""
        texts[strategy] = text
    return texts


def plain_table(frame: pd.DataFrame, marks: Marks) -> Table:
    """A frame as it is, floats with four decimals (a p-value with two digits), a dash where undefined."""

    def cell(column: str, value: object) -> str:
        if pd.isna(value):
            return "-"
        if isinstance(value, float):
            return f"{value:.2g}" if column.startswith("p over") else f"{value:.4f}"
        return marks.escape(value)

    # Whole numbers stay whole beside undefined ones.
    whole = frame.convert_dtypes()
    cells = [
        [cell(column, value) for column, value in zip(whole, row, strict=True)] for row in whole.itertuples(index=False)
    ]
    return Table([marks.escape(column) for column in whole], cells)


def tied_note(frame: pd.DataFrame) -> str:
    """How many users are tied at the cuts of the groups of a frame's UCBias; empty where nobody is.

    Args:
      frame: with `tied consistent` and `tied diverse`, NaN in rows without UCBias; what tells its groups
        apart is in `modalities`, `percent` or `where`.
    """
    told = [name for name in ("modalities", "percent", "where") if name in frame and frame[name].nunique() > 1]
    columns = ["tied consistent", "tied diverse"]
    cuts = frame[[*told, *columns]].dropna(subset=columns).drop_duplicates()
    cuts = cuts[(cuts[columns] > 0).any(axis=1)]
    parts = []
    for row in cuts.to_dict("records"):
        told_of = ", ".join(f"{row[name]} %" if name == "percent" else str(row[name]) for name in told)
        counts = f"{row['tied consistent']:,.0f} and {row['tied diverse']:,.0f}"
        parts.append(f"{told_of}: {counts}" if told else counts)
    if not parts:
        return ""
    return f"{TIED}: {'; '.join(parts)}."
