"""Raw interactions, read once from start to end: ids become int32 codes as they come by.

What stays of a line are two codes (8 bytes), its time where one is needed (8) and its label
where the split is given (1); what stays beside that is one text for each different id.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from isolator_jax.data.prepare.columns import find_column, needed_column
from isolator_jax.data.prepare.config import PrepareConfig
from isolator_jax.data.prepare.tables import RawTable, open_table
from isolator_jax.errors import DataError, brief

_LABELS = {
    **{"0": 0, "train": 0, "training": 0},
    **{"1": 1, "valid": 1, "validation": 1, "val": 1, "dev": 1},
    **{"2": 2, "test": 2, "testing": 2},
}


@dataclasses.dataclass(frozen=True)
class RawInteractions:
    """Interactions whose users and items are numbered in the order of their ids.

    Attributes:
      users, items: `[E] int32` positions in the ids.
      times: `[E] float64` seconds, or the file's own numbers; None where they were not needed.
      labels: `[E] int8`, 0 to 2, of a given split; None otherwise.
      user_ids, item_ids: original ids as text, in order: as numbers if all are whole numbers,
        else as text.
      lines: interactions read, those of low ratings included.
      columns: the file's column by role.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None
    labels: np.ndarray | None
    user_ids: list[str]
    item_ids: list[str]
    lines: int
    columns: dict[str, str]

    def of(self, kept: np.ndarray) -> "RawInteractions":
        """The interactions at these positions, or where the mask is true; ids as before."""
        arrays = {name: getattr(self, name) for name in ("users", "items", "times", "labels")}
        return dataclasses.replace(self, **{name: x[kept] for name, x in arrays.items() if x is not None})

    def renumbered(self) -> "RawInteractions":
        """The same interactions; ids without any are gone, and the others numbered from 0 in their order."""
        parts = {}
        for column, ids in (("users", self.user_ids), ("items", self.item_ids)):
            used = np.bincount(getattr(self, column), minlength=len(ids)) > 0
            numbers = np.cumsum(used, dtype=np.int32) - 1
            parts[column] = numbers[getattr(self, column)]
            parts[column[:-1] + "_ids"] = [original for original, is_used in zip(ids, used, strict=True) if is_used]
        return dataclasses.replace(self, **parts)


class _Codes:
    """Numbers texts in the order in which they come by."""

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}

    def of(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Codes `[rows] int32`, and which rows hold no text at all."""
        encoded = texts.dictionary_encode(null_encoding="encode")
        different = pc.utf8_trim_whitespace(encoded.dictionary).to_pylist()
        codes = self._code_of
        numbers = [codes.setdefault(text, len(codes)) if text else -1 for text in different]
        rows = np.array(numbers, np.int32)[encoded.indices.to_numpy()]
        return rows, rows < 0

    def in_order(self) -> tuple[list[str], np.ndarray]:
        """The texts in order, and the position of each code among them."""
        texts = list(self._code_of)
        whole = all(text.isascii() and text.isdecimal() for text in texts)
        key: Callable[[int], Any] = (lambda code: (int(texts[code]), texts[code])) if whole else texts.__getitem__
        order = sorted(range(len(texts)), key=key)
        positions = np.empty(len(texts), np.int32)
        positions[order] = np.arange(len(texts), dtype=np.int32)
        return [texts[code] for code in order], positions


def read_raw(config: PrepareConfig) -> RawInteractions:
    """Reads the interactions of a configuration, those rated below its threshold left out.

    Raises:
      DataError: a column that is needed is missing, or a value that cannot be read, with its line.
    """
    files = config.interaction_files()
    codes = {"user": _Codes(), "item": _Codes()}
    parts: dict[str, list[np.ndarray]] = {"user": [], "item": [], "time": [], "split": []}
    lines, columns = 0, {}
    for label, path in enumerate(files):
        table = open_table(path, config.columns)
        columns = _find_columns(config, table, of_split=len(files) > 1)
        for read, values in _read_chunks(table, columns, codes, config.min_rating):
            if len(files) > 1:
                values["split"] = np.full(values["user"].size, label, np.int8)
            for role, array in values.items():
                parts[role].append(array)
            lines += read
    if not lines:
        raise DataError(f"{files[0]}: no interactions; the file has a header alone")
    joined = {role: _joined(arrays) for role, arrays in parts.items() if arrays}
    ids = {}
    for role in ("user", "item"):
        ids[role], positions = codes[role].in_order()
        joined[role] = positions[joined[role]]
    return RawInteractions(
        users=joined["user"],
        items=joined["item"],
        times=joined.get("time"),
        labels=joined.get("split"),
        user_ids=ids["user"],
        item_ids=ids["item"],
        lines=lines,
        columns=columns,
    )


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
        _refuse(
            table, first, wrong & ~np.isnan(values), lambda row: f"{column} {values[row]} is no id: a decimal number"
        )
        chunk = pa.array(np.where(np.isnan(values), 0, values).astype(np.int64), mask=np.isnan(values))
    if not (pa.types.is_integer(chunk.type) or pa.types.is_string(chunk.type) or pa.types.is_large_string(chunk.type)):
        raise DataError(f"{table.path}: column {column} is of type {chunk.type}; ids are text or whole numbers")
    return chunk.cast(pa.string())


def _find_columns(config: PrepareConfig, table: RawTable, *, of_split: bool) -> dict[str, str]:
    """The columns to read, by role. Times are read where an order or a duplicate depends on them."""
    roles = ["user", "item"]
    if config.min_rating is not None:
        roles.append("rating")
    if config.split == "given" and not of_split:
        roles.append("split")
    if config.split in ("time", "user_time") or config.time_column is not None:
        roles.append("time")
    found = {role: needed_column(table.path, role, getattr(config, f"{role}_column"), table.columns) for role in roles}
    if config.split == "leave_one_out" and "time" not in found:
        time = find_column(table.path, "time", None, table.columns)
        found |= {} if time is None else {"time": time}
    return found


def _read_chunks(
    table: RawTable, columns: dict[str, str], codes: dict[str, _Codes], min_rating: float | None
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Rows read, and what is kept of them by role, chunk by chunk."""
    first, dates = 0, None
    for chunk in table.chunks(list(columns.values())):
        rows = len(chunk[columns["user"]])
        values = {}
        for role in ("user", "item"):
            texts = id_texts(table, columns[role], chunk[columns[role]], first)
            values[role], empty = codes[role].of(texts)
            message = f"{columns[role]} is empty; every line needs a {role}"
            _refuse(table, first, empty, lambda _, message=message: message)  # type: ignore[misc]
        if "time" in columns:
            if dates is None:
                dates = _is_date(chunk[columns["time"]])
            values["time"] = _times(table, columns["time"], chunk[columns["time"]], first, dates)
        if "split" in columns:
            values["split"] = _labels(table, columns["split"], chunk[columns["split"]], first)
        if min_rating is not None:
            kept = _numbers(table, columns["rating"], chunk[columns["rating"]], first) >= min_rating
            values = {role: array[kept] for role, array in values.items()}
        yield rows, values
        first += rows


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """The chunks in one array; each is let go as it is copied."""
    whole = np.empty(sum(map(len, arrays)), arrays[0].dtype)
    end = whole.size
    while arrays:
        part = arrays.pop()
        whole[end - part.size : end] = part
        end -= part.size
    return whole


def _numbers(table: RawTable, column: str, chunk: pa.Array, first: int) -> np.ndarray:
    """Finite numbers `[rows] float64`."""
    try:
        numbers = chunk.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        numbers = pd.to_numeric(chunk.to_pandas(), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    _refuse(table, first, ~np.isfinite(numbers), lambda row: f"{column} {_shown(chunk[row])} is no finite number")
    return numbers


def _is_date(chunk: pa.Array) -> bool:
    """Whether times are written as dates, judged by the first."""
    if pa.types.is_temporal(chunk.type):
        return True
    if not len(chunk) or not isinstance(first := chunk[0].as_py(), str):
        return False
    return bool(np.isnan(pd.to_numeric(first, errors="coerce")))


def _times(table: RawTable, column: str, chunk: pa.Array, first: int, dates: bool) -> np.ndarray:
    """Seconds since 1970 of dates, numbers as they are."""
    if not dates:
        return _numbers(table, column, chunk, first)
    parsed = pd.to_datetime(chunk.to_pandas(), errors="coerce", format="ISO8601", utc=True)
    _refuse(
        table,
        first,
        parsed.isna().to_numpy(),
        lambda row: (
            f"{column} {_shown(chunk[row])} is no time; write numbers, or dates as 2014-03-01 or 2014-03-01T12:00:00"
        ),
    )
    return parsed.dt.as_unit("us").astype(np.int64).to_numpy() / 1e6


def _labels(table: RawTable, column: str, chunk: pa.Array, first: int) -> np.ndarray:
    """Labels `[rows] int8`."""
    encoded = chunk.cast(pa.string()).dictionary_encode(null_encoding="encode")
    names = [_LABELS.get((text or "").strip().lower(), -1) for text in encoded.dictionary.to_pylist()]
    labels = np.array(names, np.int8)[encoded.indices.to_numpy()]
    known = "0, 1, 2 or train, validation, test"
    _refuse(table, first, labels < 0, lambda row: f"{column} {_shown(chunk[row])} names no split; use {known}")
    return labels


def _refuse(table: RawTable, first: int, wrong: np.ndarray, message: Callable[[int], str]) -> None:
    """Raises at the first row of a chunk that is wrong."""
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{table.at(first + row)}: {message(row)}")


def _shown(value: pa.Scalar) -> str:
    return brief(repr(value.as_py()))
