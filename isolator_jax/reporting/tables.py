"""Tables for people: rounded here and nowhere else."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from isolator_jax.strategies import LABELS

COLUMNS = {
    "recall@10": "R@10",
    "recall@20": "R@20",
    "ndcg@10": "N@10",
    "ndcg@20": "N@20",
    "ucbias@20": "UCBias@20",
    "rho": "rho",
}


def metrics_table(metrics: Mapping[str, Mapping[str, float]], columns: Sequence[str] = tuple(COLUMNS)) -> str:
    """Strategies by metrics, as a Markdown table with four decimals; a dash where undefined.

    Columns that no strategy has (bias metrics of data without content) are left out.
    """
    columns = [column for column in columns if any(column in values for values in metrics.values())]
    rows = [
        [LABELS.get(name, name), *(format_value(values.get(column)) for column in columns)]
        for name, values in metrics.items()
    ]
    headers = ["", *(COLUMNS.get(column, column) for column in columns)]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def report_markdown(report: Mapping[str, Any]) -> str:
    """A run's report as a page: results on test and validation, and where they come from."""
    config, dataset = report["config"], report["dataset"]
    name = config["dataset"] or "the embedded dataset"
    trained = f"gamma {config['gamma']:g}" if config["training_strategy"] else "plain BPR"
    hparams = ", ".join(f"{key} {value}" for key, value in config["hparams"].items())
    seconds = {phase: math.nan if value is None else value for phase, value in report["seconds_per_epoch"].items()}
    lines = [
        f"# {config['backbone']} on {name}",
        "",
        f"Seed {config['seed']}, {trained}, alpha {config['alpha']:g}, beta {config['beta']:g}, "
        f"iota {config['iota']:g}, fusion {config['fusion']}; {hparams}.",
        f"{dataset['users']} users, {dataset['items']} items; {dataset['train']} training, "
        f"{dataset['validation']} validation and {dataset['test']} test interactions.",
        f"Best epoch {report['best_epoch']} of {report['epochs']}, chosen by validation Recall@20; "
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
    return "\n".join(lines)


def search_markdown(report: Mapping[str, Any]) -> str:
    """A search's report as a page: what it cost, what was chosen on validation, and its test result."""
    config, trainings = report["config"], report["trainings"]
    rows = []
    for row in report["chosen"]:
        searched = [f"{name} {row[f'hparams.{name}']}" for name in report["grid"]]
        inference = [
            f"{name} {row[name]:g}" for name in ("gamma", "alpha", "beta", "iota") if not math.isnan(row[name])
        ]
        rows.append(
            [
                LABELS[row["strategy"]],
                ", ".join(searched + inference),
                format_value(row["validation recall@20"]),
                *(_mean_cell(row["mean"][column], row["deviation"][column]) for column in COLUMNS),
                f"{row['p']:.2g}" if "p" in row else "",
            ]
        )
    headers = ["", "chosen on validation", "validation R@20", *COLUMNS.values(), "p"]
    return "\n".join(
        [
            f"# Search for {config['backbone']} on {config['dataset'] or 'the embedded dataset'}",
            "",
            f"Trainings: {trainings['of the naive product']} if every inference setting were trained, "
            f"{trainings['of this search']} in this search, {trainings['run now']} of them run now, "
            f"{trainings['failed']} failed.",
            f"Seeds {', '.join(map(str, report['seeds']))}; test metrics are means over them"
            f"{' with the standard deviation' if len(report['seeds']) > 1 else ''}.",
            "p: paired t-test of test Recall@20 against Vanilla over the users, Holm-adjusted; "
            "from 0.05 on the difference is within noise.",
            "",
            tabulate(rows, headers, tablefmt="github", disable_numparse=True),
            "",
        ]
    )


def statistics_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Dataset statistics (Table 1) as a Markdown table, one row a dataset."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_statistic(key, row.get(key)) for key in keys] for row in rows]
    return tabulate(cells, keys, tablefmt="github", disable_numparse=True)


def format_value(value: float | None) -> str:
    """Four decimals; a dash where undefined (None or NaN)."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def _mean_cell(mean: float, deviation: float) -> str:
    return format_value(mean) if math.isnan(deviation) else f"{format_value(mean)} ± {deviation:.4f}"


def _statistic(key: str, value: Any) -> str:
    if key == "sparsity" and value is not None:
        return f"{100 * value:.3f}%"
    return format_value(value) if value is None or isinstance(value, float) else str(value)
