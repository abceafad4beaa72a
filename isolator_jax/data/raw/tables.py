"""Raw tables in many formats, read chunk by chunk as Arrow columns; what cannot be read is named by line."""

import csv
import dataclasses
import functools
import gzip
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from isolator_jax.errors import DataError, brief

TEXT, JSON, PARQUET, TREC = "text", "json", "parquet", "trec"
TREC_COLUMNS = ("user", "q0", "item", "rank", "score", "tag")
_BLOCK_BYTES = 16 << 20
_CHUNK_ROWS = 1 << 18


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
        return self.kind == TREC

    def chunks(self, wanted: Sequence[str], ids: Sequence[str] = ()) -> Iterator[dict[str, pa.Array]]:
        """The wanted columns, some hundred thousand rows at a time: as text, parquet's as they are stored.

        Args:
          wanted: names of columns.
          ids: those of ids, where a JSON value that is neither text nor a whole number is refused.

        Raises:
          DataError: a row that cannot be read, with its line.
        """
        readers: dict[str, Callable[[list[str]], Iterator[Any]]] = {
            TEXT: self._text_chunks,
            JSON: functools.partial(self._json_chunks, ids=frozenset(ids)),
            PARQUET: self._parquet_chunks,
            TREC: self._trec_chunks,
        }
        read, wanted = readers[self.kind], list(dict.fromkeys(wanted))
        for batch in read(wanted):
            yield {name: batch[name] for name in wanted}

    def at(self, row: int) -> str:
        """Where a row stands, counted from 0 over all chunks: `FILE, line 7`. It reads the file again."""
        if self.kind == PARQUET:
            return f"{self.path}, row {row}"
        if self.kind in (JSON, TREC):
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
            if any(map(has_bad_bytes, fields)):
                raise not_utf8(self.path, number)

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
            with open_text(self.path) as file:
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
            with open_text(self.path) as file:
                for number, line in enumerate(file, 1):
                    yield number, line
        except (EOFError, OSError) as error:
            raise DataError(f"{self.path}, after line {number}: cannot be read ({brief(error)})") from None

    def json_records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each line's number and object."""
        for number, line in self._lines():
            if not line.strip():
                continue
            if has_bad_bytes(line):
                raise not_utf8(self.path, number)
            try:
                record = json.loads(line)
                if "\\ud" in line.lower():
                    json.dumps(record, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise DataError(f"{self.path}, line {number}: half a character (\\ud...); write it whole") from None
            except ValueError as error:
                raise DataError(f"{self.path}, line {number}: not JSON ({brief(error)}); one object a line") from None
            if not isinstance(record, dict):
                raise DataError(f"{self.path}, line {number}: {brief(line, 40)} is no object; one object a line")
            yield number, record

    def _json_chunks(self, wanted: list[str], ids: frozenset[str]) -> Iterator[dict[str, pa.Array]]:
        def texts(number: int, record: dict[str, Any]) -> list[str | None]:
            for name in ids:
                value = record.get(name)
                if isinstance(value, bool | list | dict) or (isinstance(value, float) and not value.is_integer()):
                    shown = brief(json.dumps(value), 40)
                    raise DataError(
                        f"{self.path}, line {number}: {name} {shown} is no id: ids are text or whole numbers"
                    )
            return [_text_of(record.get(name)) for name in wanted]

        return self._chunks_of((texts(*numbered) for numbered in self.json_records()), wanted)

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
            if has_bad_bytes(line):
                raise not_utf8(self.path, number)
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


def has_bad_bytes(text: str) -> bool:
    """Whether text that `open_text` read was no UTF-8."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def not_utf8(path: Path, number: int) -> DataError:
    return DataError(f"{path}, line {number}: not UTF-8 text; save the file as UTF-8, compressed by gzip alone (.gz)")


def open_text(path: Path) -> io.TextIOBase:
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
