"""Reports: tables from what runs measured."""

from isolator_jax.reporting.rescoring import rescoring_markdown
from isolator_jax.reporting.tables import (
    metrics_table,
    report_markdown,
    search_markdown,
    statistics_table,
    tied_sentence,
)

__all__ = [
    "metrics_table",
    "report_markdown",
    "rescoring_markdown",
    "search_markdown",
    "statistics_table",
    "tied_sentence",
]
