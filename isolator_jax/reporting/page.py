"""One HTML page about one or several runs, whole in itself: no scripts, no network."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from isolator_jax.evaluation import Groups, Settings
from isolator_jax.evaluation.tradeoff import pareto_front
from isolator_jax.reporting import figures
from isolator_jax.reporting.figures import Curve, Interval
from isolator_jax.reporting.tables import COLUMNS, format_value
from isolator_jax.strategies import LABELS

SPLITS = ("test", "validation")


class ListItem(NamedTuple):
    """An item as the page shows it: its id, s_ui (None without content), whether it is a test item."""

    item: str
    similarity: float | None
    held_out: bool


@dataclasses.dataclass(frozen=True)
class UserExample:
    """One user's history and lists.

    Attributes:
      user: id.
      consistency: c_u, None where undefined.
      held_out: ids of the user's test items.
      history: training items.
      lists: for each strategy the list, best first.
    """

    user: str
    consistency: float | None
    held_out: Sequence[str]
    history: Sequence[ListItem]
    lists: Mapping[str, Sequence[ListItem]]


class SettingsMetrics(NamedTuple):
    """U-ISOLATOR on the validation split under a grid of A alphas, B betas and J iotas.

    Attributes:
      grid: the settings.
      recall, ucbias: Recall@20 and UCBias@20, `[A, B, J]`.
    """

    grid: Settings
    recall: np.ndarray
    ucbias: np.ndarray


@dataclasses.dataclass(frozen=True)
class RunView:
    """What the page shows of one run.

    Attributes:
      name: heading, one for each run of a page.
      data: fingerprint of the dataset; runs on the same data share figures.
      report: as in `report.json`.
      metrics: for each split, for each strategy, its metrics.
      curves: the trainings, the run's own first.
      ucbias: UCBias@20 on test by strategy; empty without content.
      consistency: c_u, `[U]`, NaN where undefined; None without content.
      groups: of the users; None without content.
      settings: None without content or validation items.
      example: a user.
    """

    name: str
    data: str
    report: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    curves: Sequence[Curve]
    ucbias: Mapping[str, Interval]
    consistency: np.ndarray | None
    groups: Groups | None
    settings: SettingsMetrics | None
    example: UserExample

    @property
    def dataset(self) -> str:
        """Name of the dataset, with the modalities where they were chosen."""
        config = self.report["config"]
        name = config["dataset"] or "the embedded dataset"
        return f"{name} ({', '.join(config['modalities'])})" if config["modalities"] else name


def report_page(runs: Sequence[RunView]) -> str:
    """The page, as HTML.

    Args:
      runs: at least one.
    """
    environment = Environment(
        loader=PackageLoader("isolator_jax.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["metric"] = format_value
    datasets = {run.data: [other for other in runs if other.data == run.data] for run in runs}
    return environment.get_template("report.html").render(
        title=", ".join(dict.fromkeys(f"{run.report['config']['backbone']} on {run.dataset}" for run in runs)),
        runs=runs,
        configuration=_configuration(runs),
        curves=[_curves_figure(run, f"curves{number}") for number, run in enumerate(runs)],
        splits=SPLITS,
        columns={run.name: _columns(run) for run in runs},
        column_names=COLUMNS,
        names=LABELS,
        datasets=[
            {"name": group[0].dataset, "runs": group, **_dataset_figures(group, number)}
            for number, group in enumerate(datasets.values())
        ],
        trade_offs=[_trade_off(run, f"settings{number}") for number, run in enumerate(runs)],
    )


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
        "seed": config["seed"],
        "trained with": f"training strategy, gamma {config['gamma']:g}" if isolator else "plain BPR",
        **{name: f"{config[name]:g}" for name in ("alpha", "beta", "iota")},
        **{name.replace("_", " "): config[name] for name in ("fusion", "batch_size", "max_epochs", "patience")},
        **{f"hyper-parameter {name}": value for name, value in config["hparams"].items()},
    }
    for curve in run.curves:
        values[f"best epoch, {curve.name}"] = f"{curve.best_epoch} of {len(curve.epochs)}"
    seconds = run.report["seconds_per_epoch"]
    values["seconds an epoch"] = f"{_nan(seconds['train']):.3g} training, {_nan(seconds['validation']):.3g} validation"
    return {name: str(value) for name, value in values.items()}


def _columns(run: RunView) -> list[str]:
    """The metrics of the tables: those of `COLUMNS` and rho of each modality, where the run has them."""
    have = dict.fromkeys(metric for values in run.metrics["test"].values() for metric in values)
    return [name for name in COLUMNS if name in have] + [name for name in have if name.startswith("rho/")]


def _dataset_figures(runs: Sequence[RunView], number: int) -> dict[str, Markup | None]:
    """The figures that hold all runs on one dataset; None where it has no content."""
    first = runs[0]
    if first.consistency is None or first.groups is None:
        return {"rho": None, "bars": None, "consistency": None}
    points = {
        run.name: {
            name: (_nan(values["rho"]), _nan(values["recall@20"])) for name, values in run.metrics["test"].items()
        }
        for run in runs
    }
    return {
        "rho": _svg(
            figures.accuracy_against_rho(points),
            f"rho{number}",
            f"Scatter plot of test Recall@20 against rho on {first.dataset}: "
            + _in_words(points, "rho {}, Recall@20 {}"),
        ),
        "bars": _svg(
            figures.ucbias_bars({run.name: run.ucbias for run in runs}),
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
        strategy: (_nan(validation[strategy]["recall@20"]), _nan(validation[strategy]["ucbias@20"]))
        for strategy in ("vanilla", "d")
        if strategy in validation
    }
    settings_of_u = itertools.product(*settings.grid)
    labels = [("u", setting) for setting in settings_of_u] + [(strategy, None) for strategy in marked]
    points = np.stack([settings.recall, settings.ucbias], axis=-1).reshape(-1, 2)
    points = np.concatenate([points, np.array(list(marked.values())).reshape(-1, 2)])
    # Equal metrics summed in another order differ in their last digits: that is no trade-off.
    front = pareto_front(*points.T.round(9))
    figure = figures.trade_off(settings.recall, settings.ucbias, settings.grid.iotas, marked, points[front])
    rows = [(*labels[point], *points[point]) for point in front[::-1]]
    description = (
        f"Scatter plot of validation Recall@20 against UCBias@20 of {run.name} under {settings.recall.size} "
        f"settings of U-ISOLATOR: Recall@20 from {settings.recall.min():.4f} to {settings.recall.max():.4f}, "
        f"UCBias@20 from {settings.ucbias.min():.4f} to {settings.ucbias.max():.4f}; "
        f"{len(rows)} points are on the Pareto front."
    )
    return {"figure": _svg(figure, name, description), "front": rows, "count": settings.recall.size}


def _in_words(runs: Mapping[str, Mapping[str, Sequence[float]]], form: str) -> str:
    return "; ".join(
        f"{run}, {LABELS[strategy]}: {form.format(*map(format_value, values))}"
        for run, points in runs.items()
        for strategy, values in points.items()
    )


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _svg(figure: Figure, name: str, description: str) -> Markup:
    return Markup(figures.to_svg(figure, name, description))
