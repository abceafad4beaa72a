"""An audit as a page: what its numbers mean, in words, and its tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isolator_jax.evaluation.audit import REFERENCES, Audit, Bias, Comparison
from isolator_jax.reporting.model import SIGNIFICANT
from isolator_jax.reporting.tables import few_users_sentence, format_value, markdown_table, metric_label
from isolator_jax.reporting.text import markdown

# The share of a system's UCBias from which on a reference ranker's is called as large.
_LARGE = 0.5


def audit_markdown(audit: Audit, title: str, notes: Sequence[str]) -> str:
    """The page.

    Args:
      audit: what was found.
      title: the heading.
      notes: lines on what was read and how, below it.
    """
    measured = audit.to_dict()
    columns = measured["systems"] | {REFERENCES[name]: values for name, values in measured["references"].items()}
    lines = [f"# {markdown(title)}", "", *(f"- {markdown(note)}" for note in notes), ""]
    if audit.system_biases:
        lines += ["## What the bias means", ""]
        lines += [f"- {sentence}" for sentence in reading(audit.system_biases, audit.reference_biases)]
        lines += ["", _groups_of(measured["groups"], measured["equal_activity"]), ""]
    else:
        lines += ["The dataset has no item features, so there is no UCBias and no ranking by content.", ""]
    lines += ["## Metrics", "", audit_table(columns), ""]
    if audit.comparisons:
        lines += [
            "## Systems compared",
            "",
            "Paired t-tests over users; of UCBias, resamples of the users. Holm: p adjusted for all rows; "
            f"* below {SIGNIFICANT:g}.",
            "",
            comparisons_table(audit.comparisons),
            "",
        ]
    return "\n".join(lines)


def reading(systems: Mapping[str, Bias], references: Mapping[str, Bias]) -> list[str]:
    """What the biases mean, in words: first the dataset's, then each system's."""
    numbers = [f"{label} has {_signed(references[name].value)}" for name, label in REFERENCES.items()]
    sentences = [
        f"Two rankings that need no model: on this dataset {' and '.join(numbers)} UCBias@20. "
        "What a system has says little until it is held beside them."
    ]
    if all(np.isnan(references[name].value) for name in REFERENCES):
        sentences = []
    return sentences + [_of_system(markdown(name), bias, references) for name, bias in systems.items()]


def audit_table(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a metric, one column a system, intervals below their values; a dash where undefined."""
    names = dict.fromkeys(key for values in metrics.values() for key in values if key != "intervals")
    rows: list[list[str]] = []
    for name in sorted(names, key=_place):
        rows.append([markdown(metric_label(name)), *(format_value(values.get(name)) for values in metrics.values())])
        intervals = [values.get("intervals", {}).get(name) for values in metrics.values()]
        if any(intervals):
            rows.append(["- 95 %", *("-" if ends is None else _range(ends) for ends in intervals)])
    return markdown_table(["", *map(markdown, metrics)], rows)


def comparisons_table(comparisons: Sequence[Comparison]) -> str:
    """As a Markdown table; a star where the adjusted p is below 0.05."""
    rows = [
        [
            f"{markdown(row.first)} - {markdown(row.second)}",
            markdown(metric_label(row.metric)),
            format_value(row.difference, "+.4f") + ("*" if row.adjusted < SIGNIFICANT else ""),
            format_value(row.p, ".2g"),
            format_value(row.adjusted, ".2g"),
        ]
        for row in comparisons
    ]
    return markdown_table(["systems", "metric", "difference", "p", "Holm"], rows, keys=2)


def _of_system(name: str, bias: Bias, references: Mapping[str, Bias]) -> str:
    """How large its bias is, what the reference rankers have of it, what is left at equal activity and popularity."""
    if np.isnan(bias.value):
        return f"{name}: UCBias@20 is not defined; a group has no user with held-out items."
    shown = f"{name}: UCBias@20 is {_signed(bias.value)}"
    if np.isnan(bias.interval).any():
        return f"{shown}: its groups have too few users for an interval."
    shown = f"{shown} {_range(bias.interval)}"
    if not _clear_of_zero(bias.interval):
        return f"{shown}: within noise of none."
    favoured = "consistent" if bias.value > 0 else "diverse"
    parts = [
        f"{shown}: content-{favoured} users get the better lists.",
        _beside_references(bias, references),
        _at_equal_activity(bias),
        _at_equal_popularity(bias),
    ]
    return " ".join(parts)


def _beside_references(bias: Bias, references: Mapping[str, Bias]) -> str:
    shares = {name: references[name].value / bias.value for name in REFERENCES}
    shown = " and ".join(f"{label} has {100 * shares[name]:.0f} % of it" for name, label in REFERENCES.items())
    as_large = {name for name, share in shares.items() if share >= _LARGE}
    kept = bias.popularity / bias.value >= _LARGE
    conclusions = {
        (): "neither explains it alone",
        ("popularity",): (
            "popularity does not explain it, though: it is there among items of like popularity too"
            if kept
            else "popularity can explain it, and nothing about content follows from this number"
        ),
        ("content",): "likeness of content can explain it, popularity does not",
        ("content", "popularity"): "either can explain it, and this number cannot tell which",
    }
    return f"Of rankings without a model, {shown}: {conclusions[tuple(sorted(as_large))]}."


def _at_equal_activity(bias: Bias) -> str:
    if np.isnan([bias.activity, *bias.activity_interval]).any():
        return "Too few users of like activity are in both groups to say what is left among them."
    left = f"Among users of like activity {_signed(bias.activity)} {_range(bias.activity_interval)} is left"
    if not _clear_of_zero(bias.activity_interval):
        return f"{left}, which is not clear of zero: activity may explain it."
    if bias.activity * bias.value < 0:
        return f"{left}, the other way round: activity explains more than all of it."
    return f"{left}: activity alone does not explain it."


def _at_equal_popularity(bias: Bias) -> str:
    if np.isnan(bias.popularity):
        return "Too few held-out items of like popularity are in both groups to say what is left among them."
    left = f"Among items of like popularity {_signed(bias.popularity)} is left"
    if bias.popularity / bias.value >= _LARGE:
        return f"{left}: the popularity of the held-out items alone does not explain it."
    if bias.popularity * bias.value < 0:
        return f"{left}, the other way round: the popularity of the held-out items explains more than all of it."
    return f"{left}, less than half: the popularity of the held-out items explains most of it."


def _groups_of(groups: Mapping[str, Any], alike: Mapping[str, Any]) -> str:
    """Who is in the groups, as `Audit.to_dict` has them."""
    parts = [
        f"{values['users']:.0f} content-{name}"
        + (f" ({values['tied']} share the places at the cut)" if values["tied"] else "")
        for name, values in groups.items()
    ]
    equally_active = {name: alike[name] for name in groups}
    alike_parts = [f"{values['users']:.0f} content-{name}" for name, values in equally_active.items()]
    window = f"{alike['fewest']} to {alike['most']}" if alike["fewest"] < alike["most"] else alike["median"]
    few = few_users_sentence(groups), few_users_sentence(equally_active, "group of like activity")
    sentence = (
        f"Groups: {' and '.join(parts)} users. Like activity: {window} training interactions, "
        f"{' and '.join(alike_parts)} users with held-out items. Intervals are of 95 %, by resamples of the users."
    )
    return " ".join(filter(None, (sentence, *few)))


def _place(metric: str) -> int:
    """Accuracy first, then bias, then the others in the order they have."""
    first = ("recall", "ndcg", "ucbias", "rho")
    return next((place for place, name in enumerate(first) if metric.startswith(name)), len(first))


def _clear_of_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0


def _signed(value: float) -> str:
    return format_value(value, "+.3f")


def _range(ends: Sequence[float]) -> str:
    return "-" if np.isnan(ends).any() else f"[{_signed(ends[0])}, {_signed(ends[1])}]"
