"""What format a raw table has, and what its columns are called."""

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from isolator_jax.data.raw.columns import find_column
from isolator_jax.data.raw.tables import (
    JSON,
    PARQUET,
    TEXT,
    TREC,
    TREC_COLUMNS,
    RawTable,
    has_bad_bytes,
    not_utf8,
    open_text,
)
from isolator_jax.errors import DataError, brief

_KINDS = {".parquet": PARQUET, ".json": JSON, ".jsonl": JSON, ".ndjson": JSON}
_NO_TABLES = (".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".h5", ".xlsx", ".zip")
_HEADER_RECORDS = 100
_DELIMITERS = "\t,;|"


def open_table(path: Path, names: Sequence[str] | None = None) -> RawTable:
    """Finds a table's format and columns.

    Args:
      path: the kind is that of the suffix, `.gz` aside: `.parquet`, JSON lines (`.jsonl`,
        `.json`, `.ndjson`), everything else text, separated by that of tab, comma, semicolon
        and bar that makes most fields of its first line, or as many as there are names.
      names: the columns of text that has no header.

    Raises:
      DataError: no such file, empty, or its first line cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    if path.suffix.lower() in _NO_TABLES:
        raise DataError(f"{path}: no table; save CSV, TSV, JSON lines or parquet, or an array [rows, dim] as .npy")
    kind = _KINDS.get(Path(path.name.removesuffix(".gz")).suffix.lower(), TEXT)
    if names is not None and kind != TEXT:
        raise DataError(f"{path}: --columns is for text without a header; this file names its columns")
    if kind == PARQUET:
        try:
            return RawTable(path, tuple(pyarrow.parquet.read_schema(path).names), kind)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a readable parquet file ({brief(error)})") from None
    if kind == JSON:
        first = itertools.islice(RawTable(path, (), kind).json_records(), _HEADER_RECORDS)
        columns = tuple(dict.fromkeys(key for _, record in first for key in record))
        if not columns:
            raise DataError(f"{path}: the file is empty; it needs one JSON object a line")
        return RawTable(path, columns, kind)
    return _open_separated(path, names)


def open_trec_run(path: Path) -> RawTable | None:
    """A run as trec_eval reads it, `user Q0 item rank score tag` without header; None where it is none.

    Fields stand apart by any blanks, and the second is not read.

    Raises:
      DataError: no such file, or empty.
    """
    if not path.is_file() or path.suffix in _KINDS:
        return None
    _, first = _first_line(path)
    fields = first.split()
    if len(fields) != len(TREC_COLUMNS) or not all(map(_is_number, fields[3:5])):
        return None
    return RawTable(path, TREC_COLUMNS, TREC)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_line(path: Path) -> tuple[int, str]:
    """The first line that is not empty, and how many are before it."""
    try:
        with open_text(path) as file:
            blank, first = next(((before, line) for before, line in enumerate(file) if line.strip()), (0, ""))
    except (EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({brief(error)})") from None
    if not first:
        raise DataError(f"{path}: the file is empty; its first line must name the columns")
    if has_bad_bytes(first) or "\0" in first:
        raise not_utf8(path, blank + 1)
    return blank, first


def _open_separated(path: Path, names: Sequence[str] | None) -> RawTable:
    blank, first = _first_line(path)
    if "::" in first and not any(mark in first for mark in _DELIMITERS):
        raise DataError(f"{path}, line {blank + 1}: fields stand apart by '::'; replace it by a tab in the whole file")
    fields_by = {mark: _fields(first, mark) for mark in _DELIMITERS}
    found = [mark for mark in _DELIMITERS if mark in first] or [","]
    delimiter = max(found, key=lambda mark: len(fields_by[mark]))  # the first of those with most
    if names is None:
        return RawTable(path, tuple(field.strip() for field in fields_by[delimiter]), TEXT, delimiter, True, blank)
    delimiter = next((mark for mark in _DELIMITERS if len(fields_by[mark]) == len(names)), delimiter)
    fields = fields_by[delimiter]
    if len(names) != len(fields):
        raise DataError(
            f"{path}, line {blank + 1}: {len(fields)} fields that stand apart by {delimiter!r}, but --columns names "
            f"{len(names)}"
        )
    if all(find_column(path, role, None, fields) for role in ("user", "item")):
        raise DataError(f"{path}, line {blank + 1}: it names the columns itself; leave --columns out")
    return RawTable(path, tuple(names), TEXT, delimiter, False, blank)


def _fields(line: str, delimiter: str) -> list[str]:
    layout: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if delimiter == "\t" else {}
    return next(csv.reader(io.StringIO(line), delimiter=delimiter, **layout))
