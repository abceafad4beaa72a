"""Raw interactions, read once from start to end: ids become int32 codes as they come by.

What stays of a line are two codes (8 bytes), its time where one is needed (8) and its label
where the split is given (1); what stays beside that is one text for each different id.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from isolator_jax.data.prepare.config import PrepareConfig
from isolator_jax.data.raw import (
    Codes,
    RawTable,
    find_column,
    id_texts,
    listing,
    needed_column,
    numbers,
    open_table,
    refuse,
    shown,
)
from isolator_jax.errors import DataError

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

    def with_items(self, more: Iterable[str]) -> "RawInteractions":
        """The same interactions among further items, numbered together in the ids' order."""
        codes = Codes()
        codes.of(pa.array([*self.item_ids, *sorted(more)], pa.string()))
        ids, positions = codes.in_order()
        return dataclasses.replace(self, items=positions[self.items], item_ids=ids)


def read_raw(config: PrepareConfig) -> RawInteractions:
    """Reads the interactions of a configuration, those rated below its threshold left out.

    Raises:
      DataError: a column that is needed is missing, or a value that cannot be read, with its line.
    """
    files = config.interaction_files()
    codes = {"user": Codes(), "item": Codes()}
    parts: dict[str, list[np.ndarray]] = {"user": [], "item": [], "time": [], "split": []}
    lines, columns = 0, {}
    for label, path in files:
        table = open_table(path, config.columns)
        columns = _find_columns(config, table, of_split=len(files) > 1)
        for read, values in _read_chunks(table, columns, codes, config.min_rating):
            if len(files) > 1:
                values["split"] = np.full(values["user"].size, label, np.int8)
            for role, array in values.items():
                parts[role].append(array)
            lines += read
    if not lines:
        raise DataError(f"{config.interactions}: no interactions; the file has a header alone")
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
        if time is None:
            warnings.warn(
                f"{table.path}: no column of times found among {listing(table.columns)}; which two of a user's "
                "interactions are held out is drawn at random: name the column with --time_column",
                stacklevel=2,
            )
        else:
            found["time"] = time
    return found


def _read_chunks(
    table: RawTable, columns: dict[str, str], codes: dict[str, Codes], min_rating: float | None
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Rows read, and what is kept of them by role, chunk by chunk."""
    first, dates = 0, None
    for chunk in table.chunks(list(columns.values()), ids=[columns[role] for role in ("user", "item")]):
        rows = len(chunk[columns["user"]])
        values = {}
        for role in ("user", "item"):
            texts = id_texts(table, columns[role], chunk[columns[role]], first)
            values[role], empty = codes[role].of(texts)
            message = f"{columns[role]} is empty; every line needs a {role}"
            refuse(table, first, empty, lambda _, message=message: message)  # type: ignore[misc]
        if "time" in columns:
            if dates is None:
                dates = _is_date(chunk[columns["time"]])
            values["time"] = _times(table, columns["time"], chunk[columns["time"]], first, dates)
        if "split" in columns:
            values["split"] = _labels(table, columns["split"], chunk[columns["split"]], first)
        if min_rating is not None:
            kept = numbers(table, columns["rating"], chunk[columns["rating"]], first) >= min_rating
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
        return numbers(table, column, chunk, first)
    parsed = pd.to_datetime(chunk.to_pandas(), errors="coerce", format="ISO8601", utc=True)
    refuse(
        table,
        first,
        parsed.isna().to_numpy(),
        lambda row: (
            f"{column} {shown(chunk[row])} is no time; write numbers, or dates as 2014-03-01 or 2014-03-01T12:00:00"
        ),
    )
    return parsed.dt.as_unit("us").astype(np.int64).to_numpy() / 1e6


def _labels(table: RawTable, column: str, chunk: pa.Array, first: int) -> np.ndarray:
    """Labels `[rows] int8`."""
    encoded = chunk.cast(pa.string()).dictionary_encode(null_encoding="encode")
    names = [_LABELS.get((text or "").strip().lower(), -1) for text in encoded.dictionary.to_pylist()]
    labels = np.array(names, np.int8)[encoded.indices.to_numpy()]
    known = "0, 1, 2 or train, validation, test"
    refuse(table, first, labels < 0, lambda row: f"{column} {shown(chunk[row])} names no split; use {known}")
    return labels
