"""The report of a model trained elsewhere, as a page."""

from collections.abc import Mapping
from typing import Any

from isolator_jax.evaluation.metrics import UCBIAS
from isolator_jax.reporting.tables import (
    AIMS_IN_WORDS,
    few_users_sentence,
    format_value,
    markdown_table,
    metric_label,
    metrics_table,
    none_qualifies,
    strategy_label,
)
from isolator_jax.reporting.text import markdown


def rescoring_markdown(report: Mapping[str, Any]) -> str:
    """The report of `isolator rescore` as Markdown."""
    config, dataset, f = report["config"], report["dataset"], report["f"]
    lines = [
        "# Rescored model",
        "",
        f"Model: {markdown(config['model'])}. Features: {markdown(', '.join(config['features']))}, "
        f"fusion {config['fusion']}.",
        f"{dataset['users']} users, {dataset['items']} items; {dataset['train']} training, "
        f"{dataset['validation']} validation and {dataset['test']} test interactions.",
        *(
            f"{cold['users']} of {cold['of']} {split} users have no training interactions: they get no list, and their "
            f"{cold['interactions']} {split} interactions count in no mean."
            for split, cold in report["without_training"].items()
            if cold["users"]
        ),
        _setting(report["parameters"]),
        "",
        'Vanilla and D-ISOLATOR rank alike, by f. U-ISOLATOR is the paper\'s "U w/o TS" unless the '
        "model was trained with the training strategy (Eq. 7).",
        "",
        "## Test" if "intervals" in report else "## Lists",
        "",
        metrics_table(report["metrics"]),
        "",
    ]
    if "intervals" in report:
        lines += _bias_lines(report)
    if "validation" in report:
        lines += ["## Validation", "", metrics_table(report["validation"]), ""]
    lines += [
        "## Scores",
        "",
        "Quantiles of f on its own lists:",
        "",
        markdown_table(
            [f"{100 * float(q):g}%" for q in f["quantiles"]], [[f"{value:.6g}" for value in f["quantiles"].values()]]
        ),
        "",
        f"From the first to the last place of a list, log ELU'(f) falls by {f['span']:.4g} (median over users)"
        + _reach(report["parameters"]["iota"], f["changed"]),
        "",
    ]
    if f["warning"]:
        lines += [f"**Warning:** {markdown(f['warning'])}", ""]
    return "\n".join(lines)


def _setting(parameters: Mapping[str, Any]) -> str:
    """U-ISOLATOR's parameters and where they come from."""
    if parameters["alpha"] is None:
        return none_qualifies(parameters["aim"], "U-ISOLATOR")
    chosen = "as given"
    if parameters["tuned"]:
        chosen = (
            f"{', '.join(parameters['tuned'])} chosen on validation for {AIMS_IN_WORDS[parameters['aim']]}, R@20 "
            f"{format_value(parameters['validation_recall@20'])}"
        )
    elif parameters["default"]:
        chosen = f"{', '.join(parameters['default'])} by default, not tuned"
    values = ", ".join(f"{name} {parameters[name]:g}" for name in ("alpha", "beta", "iota"))
    return f"U-ISOLATOR: {values}; {chosen}."


def _reach(iota: float | None, changed: float) -> str:
    if iota is None:
        return "."
    return f"; U-ISOLATOR moves it by at most iota, {iota:g}. It changes the list of {100 * changed:.1f}% of the users."


def _bias_lines(report: Mapping[str, Any]) -> list[str]:
    groups = report["groups"]
    rows = [
        [
            markdown(strategy_label(name)),
            format_value(report["metrics"][name][UCBIAS]),
            *map(format_value, interval),
        ]
        for name, interval in report["intervals"].items()
    ]
    few = few_users_sentence(groups)
    return [
        "UCBias@20 with a 95% bootstrap interval over users: "
        + "; ".join(
            f"{group['users']:g} content-{name} users, {group['evaluated']:g} of them with test items"
            + (f" ({group['tied']} are tied at its cut and share the places left)" if group["tied"] else "")
            for name, group in groups.items()
        )
        + ".",
        "",
        markdown_table(["", metric_label(UCBIAS), "low", "high"], rows),
        "",
        *([few, ""] if few else []),
    ]
