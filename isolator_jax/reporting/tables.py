"""Tables for people: rounded here and nowhere else, and labelled here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from isolator_jax.evaluation.metrics import RECALL, RHO, UCBIAS
from isolator_jax.reporting.text import markdown
from isolator_jax.strategies import LABELS

MAIN_METRICS = ("recall@10", RECALL, "ndcg@10", "ndcg@20", UCBIAS, RHO)
WIDTH = 80
TIED = "Users tied at the cut of the content-consistent and of the content-diverse group"

# Users of a group, below which the bootstrap's level is far from what it says.
_FEW = 10

_METRICS = {
    "recall": "R",
    "ndcg": "N",
    "precision": "P",
    "map": "MAP",
    "hit_rate": "HitRate",
    "mrr": "MRR",
    "ucbias": "UCBias",
    "coverage": "Coverage",
    "gini": "Gini",
    "popularity": "Popularity",
    "aplt": "APLT",
    "ils": "ILS",
}
# What a metric is of, where it is no modality.
_OF = ("equal_activity", "equal_popularity", *(f"activity_{fifth}" for fifth in range(1, 6)))


def metric_label(metric: str) -> str:
    """How a metric is called in tables and figures; an unknown name stays.

    Examples:
      >>> [metric_label(name) for name in ("recall@5", "ucbias@20", "rho/image", "validation ndcg@20")]
      ['R@5', 'UCBias@20', 'rho (image)', 'validation N@20']
    """
    name, _, of = metric.partition("/")
    name, at, k = name.partition("@")
    *before, name = name.split(" ")
    label = " ".join([*before, _METRICS.get(name, name) if at else name]) + at + k
    return f"{label} ({of.replace('_', ' ') if of in _OF else of})" if of else label


def strategy_label(name: str) -> str:
    """How a strategy is called in tables and figures; an unknown name (of foreign lists) stays."""
    return LABELS.get(name, name)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1) -> str:
    """A Markdown table of at most `WIDTH` characters a line, or several.

    A table that is too wide is turned, one row for what was a column, where that fits; else it
    is cut into tables of fewer columns that begin with the same `keys` columns.

    Args:
      headers, rows: cells as they are to stand.
      keys: how many columns, from the first on, name a row.
    """
    columns = [list(column) for column in zip(headers, *rows, strict=True)]
    whole = _table(columns)
    if _width(whole) <= WIDTH:
        return whole
    turned = _table([list(row) for row in zip(*columns, strict=True)])
    if keys == 1 and _width(turned) <= WIDTH:
        return turned
    blocks: list[list[list[str]]] = []
    for column in columns[keys:]:
        if blocks and _width(_table([*blocks[-1], column])) <= WIDTH:
            blocks[-1].append(column)
        else:
            blocks.append([*columns[:keys], column])
    return "\n\n".join(map(_table, blocks))


def metrics_table(metrics: Mapping[str, Mapping[str, float]], columns: Sequence[str] = MAIN_METRICS) -> str:
    """Strategies by metrics, as Markdown with four decimals; a dash where undefined.

    Columns that no strategy has (bias metrics of data without content) are left out.
    """
    columns = [column for column in columns if any(column in values for values in metrics.values())]
    rows = [
        [markdown(strategy_label(name)), *(format_value(values.get(column)) for column in columns)]
        for name, values in metrics.items()
    ]
    return markdown_table(["", *(markdown(metric_label(column)) for column in columns)], rows)


def tied_sentence(groups: Mapping[str, Mapping[str, Any]] | None) -> str:
    """What belongs below a UCBias: how many users are tied at the cuts of its groups; empty where nobody is.

    Args:
      groups: as `Groups.summary` gives them and reports hold them.

    Examples:
      >>> tied_sentence({"consistent": {"users": 20.0, "tied": 0}, "diverse": {"users": 20.0, "tied": 61}})
      'Users tied at the cut of the content-consistent and of the content-diverse group: 0 and 61.'
    """
    tied = [group["tied"] for group in (groups or {}).values()]
    return f"{TIED}: {' and '.join(f'{count:,}' for count in tied)}." if any(tied) else ""


def few_users_sentence(groups: Mapping[str, Mapping[str, Any]] | None, of: str = "group") -> str:
    """What belongs below a bootstrap interval of UCBias; empty where its groups are not small, or too small for one.

    Args:
      groups: as `measured_summary` gives them.
      of: what they are called.

    Examples:
      >>> few_users_sentence({"consistent": {"members": 12}, "diverse": {"members": 9}})
      'A group has fewer than ten users with held-out items: resamples of so few are too sure.'
    """
    fewest = min((group["members"] for group in (groups or {}).values()), default=_FEW)
    if not 2 <= fewest < _FEW:
        return ""
    return f"A {of} has fewer than ten users with held-out items: resamples of so few are too sure."


# What a setting of U-ISOLATOR is chosen for on validation (`evaluation.AIMS`).
AIMS_IN_WORDS = {
    "recall": "the best R@20",
    "recall_no_more_bias": "the best R@20 where the size of UCBias@20 is at most Vanilla's",
    "least_bias_no_less_recall": "the least size of UCBias@20 where R@20 is at least Vanilla's",
}


def none_qualifies(aim: str, where: str) -> str:
    """What there is to say where no setting of U-ISOLATOR reaches what was aimed at."""
    return f"No setting of {where} qualifies for {AIMS_IN_WORDS[aim]}, on validation: Vanilla's lists stand."


def knocked_out(config: Mapping[str, Any]) -> str:
    """Which modalities a run's model did not see as they are; empty where it saw all.

    Examples:
      >>> knocked_out({"knock_out": {"image": "shuffle"}})
      'Knocked out, for model and strategies alike: image (shuffle).'
    """
    ways = ", ".join(f"{markdown(name)} ({way})" for name, way in config["knock_out"].items())
    return f"Knocked out, for model and strategies alike: {ways}." if ways else ""


def report_markdown(report: Mapping[str, Any]) -> str:
    """A run's report as a page: results on test and validation, and where they come from."""
    config, dataset = report["config"], report["dataset"]
    name = markdown(config["dataset"] or "the embedded dataset")
    trained = f"gamma {config['gamma']:g}" if config["training_strategy"] else "plain BPR"
    hparams = ", ".join(f"{key} {value}" for key, value in config["hparams"].items())
    seconds = {phase: math.nan if value is None else value for phase, value in report["seconds_per_epoch"].items()}
    lines = [
        f"# {config['backbone']} on {name}",
        "",
        f"Seed {config['seed']}, {trained}, alpha {config['alpha']:g}, beta {config['beta']:g}, "
        f"iota {config['iota']:g}, fusion {config['fusion']}; {markdown(hparams)}.",
        *([without] if (without := knocked_out(config)) else []),
        f"{dataset['users']} users, {dataset['items']} items; {dataset['train']} training, "
        f"{dataset['validation']} validation and {dataset['test']} test interactions.",
        f"Best epoch {report['best_epoch']} of {report['epochs']}, chosen by validation R@20; "
        f"{seconds['train']:.2f} s training and {seconds['validation']:.2f} s validation an epoch.",
        "",
    ]
    if "baseline" in report:
        baseline = report["baseline"]
        lines += [
            f"Vanilla is the same backbone trained with plain BPR: best epoch "
            f"{baseline['best_epoch']} of {baseline['epochs']}.",
            "",
        ]
    for split in ("test", "validation"):
        if split in report:
            lines += [f"## {split.capitalize()}", "", metrics_table(report[split]), ""]
    if note := tied_sentence(report.get("groups")):
        lines += [note, ""]
    return "\n".join(lines)


def search_markdown(report: Mapping[str, Any]) -> str:
    """A search's report as a page: what it cost, what was chosen on validation, and its test result."""
    config, trainings, several = report["config"], report["trainings"], len(report["seeds"]) > 1
    metrics = [name for name in MAIN_METRICS if any(name in row["mean"] for row in report["chosen"])]
    compared = any("p" in row for row in report["chosen"])
    chosen, rows = [], []
    for row in report["chosen"]:
        label = strategy_label(row["strategy"])
        searched = [f"{name} {row[f'hparams.{name}']}" for name in report["searched"]]
        inference = [
            f"{name} {row[name]:g}" for name in ("gamma", "alpha", "beta", "iota") if not math.isnan(row[name])
        ]
        setting = markdown(", ".join(searched + inference))
        chosen.append(
            f"- {label}: {setting}; validation R@20 {format_value(row[f'validation {RECALL}'])}, UCBias@20 "
            f"{format_value(row[f'validation {UCBIAS}'])}"
        )
        cells = [_mean_cell(row["mean"][metric], row["deviation"][metric]) for metric in metrics]
        rows.append([label, *cells, *([format_value(row["p"], ".2g") if "p" in row else ""] if compared else [])])
    of_u = f", alpha, beta and iota for {AIMS_IN_WORDS[report['aim']]}" if report["gammas"] else ""
    of_p = (
        "p: paired t-test of test R@20 against Vanilla over the users, Holm-adjusted; "
        "from 0.05 on the difference is within noise."
    )
    return "\n".join(
        [
            f"# Search for {config['backbone']} on {markdown(config['dataset'] or 'the embedded dataset')}",
            "",
            f"Trainings: {trainings['of the naive product']} if every inference setting were trained, "
            f"{trainings['of this search']} in this search, {trainings['failed']} failed.",
            "",
            f"Chosen on validation for the best R@20{of_u}:",
            "",
            *chosen,
            *(f"- {none_qualifies(report['aim'], strategy_label(name))}" for name in report["none qualifies"]),
            "",
            f"Test metrics of seeds {', '.join(map(str, report['seeds']))}"
            f"{': mean ± standard deviation' if several else ''}.",
            *([of_p] if compared else []),
            "",
            markdown_table(["", *map(metric_label, metrics), *(["p"] if compared else [])], rows),
            "",
            *([note, ""] if (note := tied_sentence(report.get("groups"))) else []),
        ]
    )


def statistics_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Dataset statistics (Table 1) as a Markdown table, one row a dataset."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[markdown(_statistic(key, row.get(key))) for key in keys] for row in rows]
    return markdown_table(list(map(markdown, keys)), cells)


def format_value(value: float | None, form: str = ".4f") -> str:
    """Four decimals, or another form; a dash where undefined (None or NaN)."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def _table(columns: Sequence[Sequence[str]]) -> str:
    """A Markdown table no wider than its cells; the first cell of a column is its heading."""
    widths = [max(3, *map(len, column)) for column in columns]
    padded = [[cell.ljust(width) for cell in column] for column, width in zip(columns, widths, strict=True)]
    head, *rows = (f"| {' | '.join(cells)} |" for cells in zip(*padded, strict=True))
    return "\n".join([head, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *rows])


def _width(table: str) -> int:
    return max(map(len, table.splitlines()))


def _mean_cell(mean: float, deviation: float) -> str:
    return format_value(mean) if math.isnan(deviation) else f"{format_value(mean)} ± {deviation:.4f}"


def _statistic(key: str, value: Any) -> str:
    if key == "sparsity" and value is not None:
        return f"{100 * value:.3f}%"
    return format_value(value) if value is None or isinstance(value, float) else str(value)
