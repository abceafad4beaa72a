"""Reports: tables from what runs measured."""

from isolator_jax.reporting.rescoring import rescoring_markdown
from isolator_jax.reporting.tables import (
    knocked_out,
    metrics_table,
    none_qualifies,
    report_markdown,
    search_markdown,
    statistics_table,
    tied_sentence,
)

__all__ = [
    "knocked_out",
    "metrics_table",
    "none_qualifies",
    "report_markdown",
    "rescoring_markdown",
    "search_markdown",
    "statistics_table",
    "tied_sentence",
]
