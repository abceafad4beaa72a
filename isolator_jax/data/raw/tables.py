"""Raw tables in many formats, read chunk by chunk as Arrow columns; what cannot be read is named by line."""

import csv
import dataclasses
import gzip
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from isolator_jax.errors import DataError, brief

_TEXT, _JSON, _PARQUET, _TREC = "text", "json", "parquet", "trec"
_KINDS = {".parquet": _PARQUET, ".json": _JSON, ".jsonl": _JSON, ".ndjson": _JSON}
_NO_TABLES = (".npy", ".npz", ".pkl", ".pickle", ".pt", ".pth", ".h5", ".xlsx", ".zip")
TREC_COLUMNS = ("user", "q0", "item", "rank", "score", "tag")
_BLOCK_BYTES = 16 << 20
_CHUNK_ROWS = 1 << 18
_HEADER_RECORDS = 100


@dataclasses.dataclass(frozen=True)
class RawTable:
    """A table on disk whose columns are known and whose rows are not yet read.

    Attributes:
      path: CSV, TSV or another separated text, JSON lines, TREC runs, each plain or `.gz`; or parquet.
      columns: its columns' names. Those of JSON are the keys of the first records.
      kind: how it is read.
      delimiter: of text.
      headed: whether text has a header.
      blank: empty lines before it.
    """

    path: Path
    columns: tuple[str, ...]
    kind: str
    delimiter: str = ","
    headed: bool = True
    blank: int = 0

    @property
    def quoted(self) -> bool:
        """Whether `"` holds a field together; separated by tabs it stands for itself."""
        return self.delimiter != "\t"

    @property
    def is_trec_run(self) -> bool:
        return self.kind == _TREC

    def chunks(self, wanted: Sequence[str]) -> Iterator[dict[str, pa.Array]]:
        """The wanted columns, some hundred thousand rows at a time: as text, parquet's as they are stored.

        Raises:
          DataError: a row that cannot be read, with its line.
        """
        read = {
            _TEXT: self._text_chunks,
            _JSON: self._json_chunks,
            _PARQUET: self._parquet_chunks,
            _TREC: self._trec_chunks,
        }[self.kind]
        wanted = list(dict.fromkeys(wanted))
        for batch in read(wanted):
            yield {name: batch[name] for name in wanted}

    def at(self, row: int) -> str:
        """Where a row stands, counted from 0 over all chunks: `FILE, line 7`. It reads the file again."""
        if self.kind == _PARQUET:
            return f"{self.path}, row {row}"
        if self.kind in (_JSON, _TREC):
            numbers = (number for number, line in self._lines() if line.strip())
        else:
            numbers = (number for number, _ in self._records())
        return f"{self.path}, line {next(itertools.islice(numbers, row, None))}"

    def _text_chunks(self, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        rows = 0
        try:
            with pa.input_stream(self.path, compression="gzip" if self.path.suffix == ".gz" else None) as stream:
                batches = pyarrow.csv.open_csv(
                    stream,
                    read_options=pyarrow.csv.ReadOptions(
                        block_size=_BLOCK_BYTES,
                        skip_rows=self.blank,
                        column_names=self.columns,
                        skip_rows_after_names=int(self.headed),
                    ),
                    parse_options=pyarrow.csv.ParseOptions(
                        delimiter=self.delimiter,
                        quote_char='"' if self.quoted else False,
                        newlines_in_values=self.quoted,
                    ),
                    convert_options=pyarrow.csv.ConvertOptions(
                        column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted
                    ),
                )
                for batch in batches:
                    rows += batch.num_rows
                    yield batch
        except (pa.ArrowInvalid, OSError) as error:
            self._name_bad_line()
            raise DataError(f"{self.path}: cannot be read ({brief(error)})") from None
        if self.quoted:
            self._refuse_open_quotes(rows)

    def _refuse_open_quotes(self, rows: int) -> None:
        """Raises at a quote that is left open: the lines after it would be text of its field, up to the next quote.

        A field may well have several lines. A stray quote shows in what follows the next one, which
        is no end of a field, or in that there is none; those records alone are looked at.
        """
        quotes, ends = self._count(b'"', b"\n")
        if quotes % 2 == 0 and (not quotes or ends <= rows + self.headed + self.blank):
            return
        for number, _, lines in self._raw_records():
            try:
                if len(lines) > 1 or quotes % 2:
                    list(csv.reader(lines, delimiter=self.delimiter, strict=True))
            except csv.Error as error:
                raise DataError(
                    f"{self.path}, line {number}: a quote is opened and not closed ({brief(error)}), and would take "
                    "the next lines for text; close it, or double every quote that is part of a text"
                ) from None

    def _count(self, *what: bytes) -> list[int]:
        """How often the file has each of these characters."""
        counts = [0] * len(what)
        with gzip.open(self.path) if self.path.suffix == ".gz" else self.path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                counts = [count + block.count(one) for count, one in zip(counts, what, strict=True)]
        return counts

    def _name_bad_line(self) -> None:
        """Raises at the first line that is not UTF-8 or has not the header's number of fields."""
        for number, fields in self._records():
            if len(fields) != len(self.columns):
                raise DataError(
                    f"{self.path}, line {number}: {len(fields)} fields, and there must be {len(self.columns)}; "
                    "every line needs the same columns"
                )
            if any(map(_has_bad_bytes, fields)):
                raise DataError(f"{self.path}, line {number}: not UTF-8 text; save the file as UTF-8")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Fields of each row of text after the header, and the line it starts on: slow, for messages."""
        return ((number, fields) for number, fields, _ in self._raw_records())

    def _raw_records(self) -> Iterator[tuple[int, list[str], list[str]]]:
        """The same, and the row's lines as they are.

        Raises:
          DataError: text cannot be parsed.
        """
        layout: dict[str, Any] = {} if self.quoted else {"quoting": csv.QUOTE_NONE}
        number, header = 1, self.headed
        lines: list[str] = []
        try:
            with _open_text(self.path) as file:
                reader = csv.reader(_kept(file, lines), delimiter=self.delimiter, **layout)
                for fields in reader:
                    if fields and not header:
                        yield number, fields, lines
                    header = header and not "".join(fields).strip()
                    number = reader.line_num + 1
                    lines.clear()
        except (csv.Error, EOFError, OSError) as error:
            raise DataError(f"{self.path}, line {number}: cannot be read ({brief(error)})") from None

    def _lines(self) -> Iterator[tuple[int, str]]:
        number = 0
        try:
            with _open_text(self.path) as file:
                for number, line in enumerate(file, 1):
                    yield number, line
        except (EOFError, OSError) as error:
            raise DataError(f"{self.path}, after line {number}: cannot be read ({brief(error)})") from None

    def _json_records(self) -> Iterator[dict[str, Any]]:
        for number, line in self._lines():
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{self.path}, line {number}: not JSON ({brief(error)}); one object a line") from None
            if not isinstance(record, dict):
                raise DataError(f"{self.path}, line {number}: {brief(line, 40)} is no object; one object a line")
            yield record

    def _json_chunks(self, wanted: list[str]) -> Iterator[dict[str, pa.Array]]:
        return self._chunks_of(([_text_of(record.get(x)) for x in wanted] for record in self._json_records()), wanted)

    def _trec_chunks(self, wanted: list[str]) -> Iterator[dict[str, pa.Array]]:
        places = [self.columns.index(name) for name in wanted]
        return self._chunks_of(([fields[place] for place in places] for fields in self._trec_fields()), wanted)

    def _trec_fields(self) -> Iterator[list[str]]:
        for number, line in self._lines():
            fields = line.split()
            if fields and len(fields) != len(self.columns):
                raise DataError(
                    f"{self.path}, line {number}: {len(fields)} fields, and a line of a run has {len(self.columns)}"
                )
            if _has_bad_bytes(line):
                raise DataError(f"{self.path}, line {number}: not UTF-8 text; save the file as UTF-8")
            if fields:
                yield fields

    @staticmethod
    def _chunks_of(rows: Iterator[list[str | None]], wanted: list[str]) -> Iterator[dict[str, pa.Array]]:
        while chunk := list(itertools.islice(rows, _CHUNK_ROWS)):
            yield {
                name: pa.array(values, pa.string())
                for name, values in zip(wanted, zip(*chunk, strict=True), strict=True)
            }

    def _parquet_chunks(self, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                yield from file.iter_batches(batch_size=_CHUNK_ROWS, columns=wanted)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: cannot be read ({brief(error)})") from None


def _kept(file: Iterable[str], lines: list[str]) -> Iterator[str]:
    """The file's lines, each added to a list as it is taken."""
    for line in file:
        lines.append(line)
        yield line


def open_table(path: Path, names: Sequence[str] | None = None) -> RawTable:
    """Finds a table's format and columns.

    Args:
      path: the kind is that of the suffix, `.gz` aside: `.parquet`, JSON lines (`.jsonl`,
        `.json`, `.ndjson`), everything else text, separated by what its first line has of
        tab, comma, semicolon or bar.
      names: the columns of text that has no header.

    Raises:
      DataError: no such file, empty, or its first line cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    if path.suffix.lower() in _NO_TABLES:
        raise DataError(f"{path}: no table; save CSV, TSV, JSON lines or parquet, or an array [rows, dim] as .npy")
    kind = _KINDS.get(Path(path.name.removesuffix(".gz")).suffix.lower(), _TEXT)
    if names is not None and kind != _TEXT:
        raise DataError(f"{path}: --columns is for text without a header; this file names its columns")
    if kind == _PARQUET:
        try:
            return RawTable(path, tuple(pyarrow.parquet.read_schema(path).names), kind)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a readable parquet file ({brief(error)})") from None
    if kind == _JSON:
        first = itertools.islice(RawTable(path, (), kind)._json_records(), _HEADER_RECORDS)
        columns = tuple(dict.fromkeys(key for record in first for key in record))
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
    return RawTable(path, TREC_COLUMNS, _TREC)


def _has_bad_bytes(text: str) -> bool:
    """Whether text that `_open_text` read was no UTF-8."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_line(path: Path) -> tuple[int, str]:
    """The first line that is not empty, and how many are before it."""
    try:
        with _open_text(path) as file:
            blank, first = next(((before, line) for before, line in enumerate(file) if line.strip()), (0, ""))
    except (EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({brief(error)})") from None
    if not first:
        raise DataError(f"{path}: the file is empty; its first line must name the columns")
    return blank, first


def _open_separated(path: Path, names: Sequence[str] | None) -> RawTable:
    blank, first = _first_line(path)
    delimiter = next((mark for mark in "\t,;|" if mark in first), ",")
    layout: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if delimiter == "\t" else {}
    fields = next(csv.reader(io.StringIO(first), delimiter=delimiter, **layout))
    if names is None:
        return RawTable(path, tuple(field.strip() for field in fields), _TEXT, delimiter, True, blank)
    if len(names) != len(fields):
        raise DataError(f"{path}, line 1: {len(fields)} fields, but --columns names {len(names)}")
    return RawTable(path, tuple(names), _TEXT, delimiter, False, blank)


def _open_text(path: Path) -> io.TextIOBase:
    """Text, a byte-order mark left out; bytes that are not UTF-8 become lone surrogates."""
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    return io.TextIOWrapper(opened, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _text_of(value: Any) -> str | None:
    """A JSON value as text: lists joined by blanks; true, false and objects as JSON writes them."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(filter(None, map(_text_of, value)))
    if isinstance(value, float) and value.is_integer():  # as other formats' whole numbers are
        return str(int(value))
    return json.dumps(value)
