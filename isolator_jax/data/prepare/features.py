"""Item features from files in any order of items, brought into the dataset's order."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute

from isolator_jax import checks
from isolator_jax.data.arrays import read_matrix
from isolator_jax.data.raw import RawTable, id_texts, listing, needed_column, open_table, without_index
from isolator_jax.errors import DataError, brief

_ROWS_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True)
class ItemFeatures:
    """Features of items by original id.

    Attributes:
      row_of: the row of each id.
      values: `[rows, F]` of any float type, possibly memory-mapped.
      source: where they come from, for messages.
    """

    row_of: dict[str, int]
    values: np.ndarray
    source: str

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """`[len(ids)] int64` rows, -1 for items that have none."""
        return np.array([self.row_of.get(original, -1) for original in ids], np.int64)


def read_npy_features(path: Path, ids: Path) -> ItemFeatures:
    """A `.npy` matrix, memory-mapped, and the ids of its rows.

    Args:
      path: `[rows, F]` of float type.
      ids: text with an id a line, or `.npy` with an array of text or integers.

    Raises:
      DataError: unreadable, another number of ids than rows, or an id twice.
    """
    values = read_matrix(path, "(items, dim)")
    texts = _ids_of_npy(ids) if ids.suffix == ".npy" else _ids_of_lines(ids)
    if len(texts) != values.shape[0]:
        raise DataError(f"{ids}: {len(texts)} ids, but {path} has {values.shape[0]} rows; it needs one for each row")
    return ItemFeatures(_rows_by_id(ids, texts), values, str(path))


def read_table_features(path: Path, item_column: str | None) -> ItemFeatures:
    """A table with a column of item ids; its other columns are the features, in the file's order.

    Args:
      path: text, JSON lines or parquet; a column may hold lists of one length, in text with blanks between.
      item_column: the name of the id column, or None to look for a usual one.

    Raises:
      DataError: no id column, or a value that is no finite number, with its line.
    """
    table = open_table(path)
    column = needed_column(path, "item", item_column, table.columns)
    others = without_index(str(path), [name for name in table.columns if name != column])
    if not others:
        raise DataError(f"{path}: no columns beside {column}; the features of an item are its other columns")
    ids: list[str] = []
    blocks: list[np.ndarray] = []
    for chunk in table.chunks(table.columns, ids=[column]):
        block = np.concatenate([_floats(table, name, chunk[name], len(ids)) for name in others], axis=1)
        if blocks and blocks[0].shape[1] != block.shape[1]:
            raise DataError(
                f"{table.at(len(ids))}: a list of another length than those before; give all items one width"
            )
        blocks.append(block)
        ids += id_texts(table, column, chunk[column], len(ids)).to_pylist()
    values = np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)
    return ItemFeatures(_rows_by_id(path, ids, table), values, str(path))


def write_features(path: Path, features: ItemFeatures, item_ids: Sequence[str], missing: str) -> dict[str, int]:
    """Writes `[I, F]` in the order of the items, of the file's own float type, a few thousand rows at a time.

    Args:
      path: the `.npy` to write.
      features: of these items and others.
      item_ids: `[I]` original ids.
      missing: `zeros` or `mean` for items without a row; with `drop` and `refuse` there are none.

    Returns:
      `dim`, `items without` and `rows unused`.

    Raises:
      DataError: a value that is not finite in float32, or a row that float32 loses, with its item.
    """
    rows = features.rows(item_ids)
    present = rows >= 0
    width, dtype = features.values.shape[1], features.values.dtype.newbyteorder("=")
    out = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(len(item_ids), width))
    total = np.zeros(width)
    for start in range(0, len(item_ids), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        block = np.where(present[part, None], features.values[np.maximum(rows[part], 0)], 0)
        with np.errstate(over="ignore"):
            infinite = ~np.isfinite(block.astype(np.float32)).all(axis=1)
        for wrong, what in (
            (infinite, "NaN or infinite; mend or drop them"),
            (checks.rows_lost(block), "so small that float32 takes them for zero; scale the features up"),
        ):
            if wrong.any():
                at = start + int(wrong.argmax())
                raise DataError(
                    f"{features.source}, row {rows[at]}: the features of item {brief(repr(item_ids[at]))} are {what}"
                )
        total += block.sum(axis=0, dtype=np.float64)
        out[part] = block
    if missing == "mean" and not present.all():
        out[~present] = total / max(present.sum(), 1)
    out.flush()
    return {
        "dim": width,
        "items without": int((~present).sum()),
        "rows unused": len(features.row_of) - int(present.sum()),
    }


def _ids_of_npy(path: Path) -> list[str]:
    try:
        ids = np.load(path, allow_pickle=False)
    except Exception as error:  # of many types: numpy evaluates a broken header as Python
        remedy = "save it as text, ids.astype(str)" if "Object arrays" in str(error) else "save it with numpy.save"
        raise DataError(f"{path}: not a readable .npy array ({brief(error)}); {remedy}") from None
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iuUS":
        raise DataError(
            f"{path}: must be an array [rows] of text or integers; found {brief(getattr(ids, 'dtype', ids))}"
        )
    try:
        return [text.decode() if isinstance(text, bytes) else str(text).strip() for text in ids.tolist()]
    except UnicodeDecodeError:
        raise DataError(f"{path}: bytes that are not UTF-8 text; save the ids as text, ids.astype(str)") from None


def _ids_of_lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({brief(error)}); it needs the item id of each row, one a line"
        ) from None


def _rows_by_id(path: Path, ids: Sequence[str | None], table: RawTable | None = None) -> dict[str, int]:
    row_of: dict[str, int] = {}
    for row, original in enumerate(ids):
        text = (original or "").strip()
        if not text or text in row_of:
            where = table.at(row) if table is not None else f"{path}, row {row}"
            raise DataError(f"{where}: {f'item {brief(repr(text))} is there twice' if text else 'an empty item id'}")
        row_of[text] = row
    return row_of


def _floats(table: RawTable, column: str, chunk: pa.Array, first: int) -> np.ndarray:
    """`[rows, width] float32`, width 1 unless the column holds lists."""
    rows, width = len(chunk), 1
    if pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type) or pa.types.is_fixed_size_list(chunk.type):
        lengths = pyarrow.compute.list_value_length(chunk).fill_null(0).to_numpy(zero_copy_only=False)
        width, chunk = _width(table, column, lengths, first), chunk.flatten()
    try:
        values = chunk.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        # A list as JSON has it and as RecBole writes it: numbers with blanks between.
        cells = [str(text or "").split() for text in chunk.to_pylist()]
        if width == 1:
            width = _width(table, column, np.array(list(map(len, cells))), first)
        chunk = pa.array([text for cell in cells for text in cell])
        values = np.array(list(map(_float, chunk.to_pylist())), np.float32)
    wrong = ~np.isfinite(values)
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(
            f"{table.at(first + at // width)}: {column} {brief(repr(chunk[at].as_py()))} is no finite number; "
            f"the columns beside the id are the features ({listing(table.columns)})"
        )
    return values.reshape(rows, width)


def _width(table: RawTable, column: str, lengths: np.ndarray, first: int) -> int:
    """The length that lists have, refused where they are empty or have several."""
    filled = lengths[lengths > 0]
    width = int(np.bincount(filled).argmax()) if filled.size else 1
    wrong = lengths != width
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{table.at(first + row)}: {column} has {lengths[row]} numbers, and other items have {width}; give all "
            "items lists of one length"
        )
    return width


def _float(text: object) -> float:
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
