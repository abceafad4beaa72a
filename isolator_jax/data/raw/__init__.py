"""Tables as others write them, read chunk by chunk: formats, columns by their usual names, values."""

from isolator_jax.data.raw.columns import find_column, given_column, listing, needed_column, without_index
from isolator_jax.data.raw.opening import open_table, open_trec_run
from isolator_jax.data.raw.tables import RawTable
from isolator_jax.data.raw.values import Codes, id_texts, numbers, refuse, shown

__all__ = [
    "Codes",
    "RawTable",
    "find_column",
    "given_column",
    "id_texts",
    "listing",
    "needed_column",
    "numbers",
    "open_table",
    "open_trec_run",
    "refuse",
    "shown",
    "without_index",
]
