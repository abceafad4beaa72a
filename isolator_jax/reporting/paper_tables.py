"""The paper's tables in Markdown and LaTeX: best value bold, second underlined, significance marked."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from isolator_jax.reporting.paper import NAMES, SIGNIFICANT
from isolator_jax.strategies import BASELINE, LABELS


class Marks(NamedTuple):
    """How a format marks the best and the second value of a column, deviations and significance."""

    format: str
    best: str
    second: str
    deviation: str
    over_users: str
    over_seeds: str


MARKDOWN = Marks("github", "**{}**", "<u>{}</u>", "{} ± {}", "\\*", "†")
LATEX = Marks("latex_raw", "\\textbf{{{}}}", "\\underline{{{}}}", "{} $\\pm$ {}", "$^*$", "$^\\dagger$")


def accuracy_table(frame: pd.DataFrame, rows: Sequence[str], marks: Marks) -> str:
    """Rows by metrics, from the means of `paper.means`.

    Star and dagger: better than the same model's Vanilla, adjusted p over users and over seeds below 0.05.

    Args:
      frame: as `paper.means` gives it.
      rows: columns that tell the table's rows apart; the strategy comes last.
      marks: `MARKDOWN` or `LATEX`.
    """
    keys = [*rows, "strategy"]
    mean, deviation, over_users, over_seeds = (
        frame.pivot_table(index=keys, columns="metric", values=value, sort=False, dropna=False)
        for value in ("mean", "deviation", "p over users", "p over seeds")
    )
    mean = mean.dropna(how="all")
    cells = pd.DataFrame(index=mean.index, columns=mean.columns, dtype=object)
    for metric in mean:
        ranked = mean[metric].sort_values(ascending=False).index
        lower_is_better = metric.startswith("ucbias")
        best, second = (ranked[-1], ranked[-2]) if lower_is_better else ranked[:2]
        for key in mean.index:
            text = f"{mean.at[key, metric]:.4f}"
            text = marks.best.format(text) if key == best else marks.second.format(text) if key == second else text
            spread = deviation[metric].get(key, np.nan) if metric in deviation else np.nan
            if not np.isnan(spread):
                text = marks.deviation.format(text, f"{spread:.4f}")
            vanilla = (*key[:-1], BASELINE)
            gain = mean.at[key, metric] - mean[metric].get(vanilla, np.nan)
            better = gain < 0 if lower_is_better else gain > 0
            for p, mark in ((over_users, marks.over_users), (over_seeds, marks.over_seeds)):
                chance = p[metric].get(key, np.nan) if metric in p else np.nan
                text += mark if better and chance < SIGNIFICANT else ""
            cells.at[key, metric] = text
    labels = [[*(NAMES.get(name, name) for name in key[:-1]), LABELS[key[-1]]] for key in cells.index]
    body = [[*label, *values] for label, values in zip(labels, cells.to_numpy(), strict=True)]
    return tabulate(body, [*rows, "", *cells.columns], tablefmt=marks.format, disable_numparse=True)


def plain_table(frame: pd.DataFrame, marks: Marks) -> str:
    """A frame as it is, floats with four decimals, a dash where undefined."""

    def cell(value: object) -> str:
        if pd.isna(value):
            return "-"
        return f"{value:.4f}" if isinstance(value, float) else str(value)

    # Whole numbers stay whole beside undefined ones.
    cells = [[cell(value) for value in row] for row in frame.convert_dtypes().itertuples(index=False)]
    return tabulate(cells, list(frame.columns), tablefmt=marks.format, disable_numparse=True)
