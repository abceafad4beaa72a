"""Values of raw tables as arrays: ids as codes, numbers; what is neither is refused with its line."""

from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from isolator_jax.data.raw.tables import RawTable
from isolator_jax.errors import DataError, brief


class Codes:
    """Numbers texts in the order in which they come by."""

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}

    def of(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Codes `[rows] int32`, and which rows hold no text at all."""
        encoded = texts.dictionary_encode(null_encoding="encode")
        different = pc.utf8_trim_whitespace(encoded.dictionary).to_pylist()
        codes = self._code_of
        code_of = [codes.setdefault(text, len(codes)) if text else -1 for text in different]
        rows = np.array(code_of, np.int32)[encoded.indices.to_numpy()]
        return rows, rows < 0

    def texts(self) -> list[str]:
        """The text of each code."""
        return list(self._code_of)

    def in_order(self) -> tuple[list[str], np.ndarray]:
        """The texts in order, and the position of each code among them.

        The order is that of numbers if all texts are whole numbers, else that of characters.
        """
        texts = self.texts()
        if all(text.isascii() and text.removeprefix("-").isdecimal() for text in texts):
            # Decimal takes any number of digits, unlike int.
            order = sorted(range(len(texts)), key=lambda code: (Decimal(texts[code]), texts[code]))
        else:
            order = sorted(range(len(texts)), key=texts.__getitem__)
        positions = np.empty(len(texts), np.int32)
        positions[order] = np.arange(len(texts), dtype=np.int32)
        return [texts[code] for code in order], positions


def id_texts(table: RawTable, column: str, chunk: pa.Array, first: int) -> pa.Array:
    """Ids as text: whole numbers are written in digits; decimals and what is nested are refused.

    Args:
      table, column, first: where the chunk comes from, and its first row, for messages.
      chunk: `[rows]` of any Arrow type.

    Raises:
      DataError: ids of another type, or a decimal, with its line.
    """
    if pa.types.is_dictionary(chunk.type):
        chunk = chunk.dictionary_decode()
    if pa.types.is_floating(chunk.type):
        values = chunk.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            wrong = (values != np.floor(values)) | (np.abs(values) >= 2**53)
        refuse(
            table, first, wrong & ~np.isnan(values), lambda row: f"{column} {values[row]} is no id: a decimal number"
        )
        chunk = pa.array(np.where(np.isnan(values), 0, values).astype(np.int64), mask=np.isnan(values))
    if not (pa.types.is_integer(chunk.type) or pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)):
        raise DataError(f"{table.path}: column {column} is of type {chunk.type}; ids are text or whole numbers")
    return chunk.cast(pa.string())


def numbers(table: RawTable, column: str, chunk: pa.Array, first: int) -> np.ndarray:
    """Finite numbers `[rows] float64`."""
    try:
        values = chunk.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        values = pd.to_numeric(chunk.to_pandas(), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    refuse(table, first, ~np.isfinite(values), lambda row: f"{column} {shown(chunk[row])} is no finite number")
    return values


def refuse(table: RawTable, first: int, wrong: np.ndarray, message: Callable[[int], str]) -> None:
    """Raises at the first row of a chunk that is wrong."""
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{table.at(first + row)}: {message(row)}")


def shown(value: pa.Scalar) -> str:
    return brief(repr(value.as_py()))
