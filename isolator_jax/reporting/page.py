"""One HTML page about one or several runs, whole in itself: no scripts, no network."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from isolator_jax.evaluation.metrics import RECALL, UCBIAS
from isolator_jax.evaluation.tradeoff import pareto_front
from isolator_jax.reporting import figures
from isolator_jax.reporting.tables import (
    MAIN_METRICS,
    few_users_sentence,
    format_value,
    metric_label,
    strategy_label,
    tied_sentence,
)
from isolator_jax.reporting.text import one_line
from isolator_jax.reporting.views import SPLITS, RunView
from isolator_jax.strategies import LABELS, MAIN, STRATEGIES, TUNED, name_beside_others

_PARTS = {"train": "training", "validation": "validation"}


def report_page(runs: Sequence[RunView]) -> str:
    """The page, as HTML.

    Args:
      runs: at least one.
    """
    environment = Environment(
        loader=PackageLoader("isolator_jax.reporting"),
        autoescape=True,
        finalize=_one_line,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"metric": format_value, "metric_label": metric_label}
    datasets = {run.data: [other for other in runs if other.data == run.data] for run in runs}
    return environment.get_template("report.html").render(
        title=", ".join(dict.fromkeys(f"{run.report['config']['backbone']} on {run.dataset}" for run in runs)),
        runs=runs,
        configuration=_configuration(runs),
        curves=[_curves_figure(run, f"curves{number}") for number, run in enumerate(runs)],
        splits=SPLITS,
        columns={run.name: _columns(run) for run in runs},
        names=LABELS,
        datasets=[
            {"name": group[0].dataset, "runs": group, **_dataset_figures(group, number)}
            for number, group in enumerate(datasets.values())
        ],
        trade_offs=[_trade_off(run, f"settings{number}") for number, run in enumerate(runs)],
    )


def _one_line(value: Any) -> Any:
    """Text without control characters; markup and numbers as they are."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _configuration(runs: Sequence[RunView]) -> dict[str, list[str]]:
    """Rows of the configuration table: a name and a cell for each run."""
    columns = [_configuration_of(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: [column.get(name, "-") for column in columns] for name in names}


def _configuration_of(run: RunView) -> dict[str, str]:
    config, counts = run.report["config"], run.report["dataset"]
    isolator = config["training_strategy"]
    values = {
        "backbone": config["backbone"],
        "dataset": run.dataset,
        **{name: f"{counts[name]:,}" for name in ("users", "items")},
        **{f"{name} interactions": f"{counts[name]:,}" for name in ("train", "validation", "test")},
        "knocked out": ", ".join(f"{name} ({way})" for name, way in config["knock_out"].items()) or "-",
        "seed": config["seed"],
        "trained with": f"training strategy, gamma {config['gamma']:g}" if isolator else "plain BPR",
        **{name: f"{config[name]:g}" for name in ("alpha", "beta", "iota")},
        **{name.replace("_", " "): config[name] for name in ("fusion", "batch_size", "max_epochs", "patience")},
        **{f"hyper-parameter {name}": value for name, value in config["hparams"].items()},
    }
    for curve in run.curves:
        values[f"best epoch, {curve.name}"] = f"{curve.best_epoch} of {len(curve.epochs)}"
    seconds = run.report["seconds_per_epoch"]
    told = [f"{seconds[part]:.3g} {name}" for part, name in _PARTS.items() if seconds[part] is not None]
    values["seconds an epoch"] = ", ".join(told) or "-"
    return {name: str(value) for name, value in values.items()}


def _columns(run: RunView) -> list[str]:
    """The metrics of the tables: those of `MAIN_METRICS` and rho of each modality, where the run has them."""
    have = dict.fromkeys(metric for values in run.metrics["test"].values() for metric in values)
    return [name for name in MAIN_METRICS if name in have] + [name for name in have if name.startswith("rho/")]


def _dataset_figures(runs: Sequence[RunView], number: int) -> dict[str, Markup | str | None]:
    """The figures that hold all runs on one dataset, and what belongs below a UCBias; None where it has no content."""
    first = runs[0]
    if first.consistency is None or first.groups is None:
        return {"rho": None, "bars": None, "consistency": None, "tied": None, "few": None}
    points = {
        run.name: {name: (_nan(values["rho"]), _nan(values[RECALL])) for name, values in run.metrics["test"].items()}
        for run in runs
    }
    tied = tied_sentence(first.groups_in_numbers)
    return {
        "tied": tied,
        "few": few_users_sentence(first.groups_in_numbers),
        "rho": _svg(
            figures.accuracy_against_rho(points),
            f"rho{number}",
            f"Scatter plot of test Recall@20 against rho on {first.dataset}: "
            + _in_words(points, "rho {}, Recall@20 {}"),
        ),
        "bars": _svg(
            figures.ucbias_bars({run.name: run.ucbias for run in runs}, note=tied),
            f"bars{number}",
            f"Bar chart of test UCBias@20 with intervals on {first.dataset}: "
            + _in_words({run.name: run.ucbias for run in runs}, "{} from {} to {}"),
        ),
        "consistency": _svg(
            figures.consistency_histogram(first.consistency, first.groups),
            f"consistency{number}",
            f"Histogram of the content consistency of users of {first.dataset}, from "
            f"{np.nanmin(first.consistency):.3f} to {np.nanmax(first.consistency):.3f} with mean "
            f"{np.nanmean(first.consistency):.3f}; content-diverse users at the low end, content-consistent "
            "users at the high end.",
        ),
    }


def _curves_figure(run: RunView, name: str) -> Markup:
    described = "; ".join(
        f"{curve.name}: loss from {curve.loss[0]:.4f} to {curve.loss[-1]:.4f} in {len(curve.epochs)} epochs, "
        f"best validation Recall@20 {curve.validation.max():.4f} at epoch {curve.best_epoch}"
        for curve in run.curves
        if len(curve.epochs)
    )
    return _svg(figures.training_curves(run.curves), name, f"Line plots of the training of {run.name}. {described}.")


def _trade_off(run: RunView, name: str) -> dict[str, Any] | None:
    """The figure over U-ISOLATOR's settings and the rows of its Pareto front; None without content."""
    settings = run.settings
    if settings is None:
        return None
    validation = run.metrics["validation"]
    marked = {
        strategy: (_nan(validation[strategy][RECALL]), _nan(validation[strategy][UCBIAS]))
        for strategy in MAIN
        if strategy in validation and not STRATEGIES[strategy].parameters
    }
    of_u = name_beside_others(TUNED, trained=run.report["config"]["training_strategy"])
    settings_of_u = itertools.product(*settings.grid)
    labels = [(of_u, setting) for setting in settings_of_u] + [(strategy, None) for strategy in marked]
    points = np.stack([settings.recall, settings.ucbias], axis=-1).reshape(-1, 2)
    points = np.concatenate([points, np.array(list(marked.values())).reshape(-1, 2)])
    # Equal metrics summed in another order differ in their last digits: that is no trade-off.
    front = pareto_front(points[:, 0].round(9), np.abs(points[:, 1]).round(9))
    figure = figures.trade_off(settings.recall, settings.ucbias, settings.grid.iotas, marked, points[front])
    rows = [(*labels[point], *points[point]) for point in front[::-1]]
    description = (
        f"Scatter plot of validation Recall@20 against UCBias@20 of {run.name} under {settings.recall.size} "
        f"settings of {strategy_label(of_u)}: Recall@20 from {settings.recall.min():.4f} to "
        f"{settings.recall.max():.4f}, UCBias@20 from {settings.ucbias.min():.4f} to {settings.ucbias.max():.4f}; "
        f"{len(rows)} points are on the Pareto front."
    )
    return {
        "figure": _svg(figure, name, description),
        "front": rows,
        "count": settings.recall.size,
        "of": strategy_label(of_u),
    }


def _in_words(runs: Mapping[str, Mapping[str, Sequence[float]]], form: str) -> str:
    return "; ".join(
        f"{run}, {strategy_label(strategy)}: {form.format(*map(format_value, values))}"
        for run, points in runs.items()
        for strategy, values in points.items()
    )


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _svg(figure: Figure, name: str, description: str) -> Markup:
    return Markup(figures.to_svg(figure, name, description))
