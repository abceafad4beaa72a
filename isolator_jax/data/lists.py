"""Recommendation lists of any system, from files and to files."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from isolator_jax.data.raw import (
    Codes,
    RawTable,
    find_column,
    id_texts,
    listing,
    numbers,
    open_table,
    open_trec_run,
    refuse,
)
from isolator_jax.errors import DataError, brief

NO_ITEM = -1
ID_KINDS = ("auto", "original", "dense")


@dataclasses.dataclass(frozen=True)
class IdIndex:
    """How the users or the items of a dataset may be called.

    Attributes:
      column: `userID` or `itemID`, for messages.
      count: how many there are; their dense ids are 0 .. count - 1.
      original: dense ids by original id; None where the dataset has none.
    """

    column: str
    count: int
    original: Mapping[str, int] | None

    @classmethod
    def of(cls, column: str, count: int, original: np.ndarray | None) -> "IdIndex":
        """The index of `mmrec.read_id_mapping`'s result."""
        return cls(column, count, None if original is None else {str(x): dense for dense, x in enumerate(original)})

    def lookup(self, texts: list[str], kind: str) -> tuple[np.ndarray, str]:
        """Dense ids of the texts, -1 where unknown, and what they were taken for.

        Args:
          texts: different ids.
          kind: `original` or `dense`; where the dataset has no original ids they are dense.
        """
        if self.original is None or kind == "dense":
            return np.array([self._dense(text) for text in texts], np.int64), "dense"
        return np.array([self.original.get(text, -1) for text in texts], np.int64), "original"

    def _dense(self, text: str) -> int:
        is_id = text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < self.count
        return int(text) if is_id else -1


@dataclasses.dataclass(frozen=True)
class ReadLists:
    """Lists of one file.

    Attributes:
      users: `[N] int32`, ascending.
      lists: `[N, k] int32`, best first, filled up with `NO_ITEM`.
      longest: places of the longest list in the file, cut or not.
      ids: what users' and items' ids were taken for, `original` or `dense`.
    """

    users: np.ndarray
    lists: np.ndarray
    longest: int
    ids: tuple[str, str]


def read_lists(path: Path, users: IdIndex, items: IdIndex, *, k: int, kind: str = "auto") -> ReadLists:
    """Reads lists, one line for each user and item.

    Args:
      path: a table (`raw.open_table`) with columns of users, items and `rank` or `score`, found
        by their usual names; or a TREC run. Where there is a rank, it is the order: the lowest
        first; else the highest score first, equal scores by the lower dense id. Of TREC runs the
        score is, as trec_eval has it.
      users, items: the dataset's.
      k: places kept of each list.
      kind: what the ids are, one of `ID_KINDS`; `auto` is what more of users and items together are.

    Raises:
      DataError: a column is missing; an id is not in the dataset, an item twice in a list, or a
        rank twice: with its line; ids that fit as original and as dense ones.
    """
    table = open_trec_run(path) or open_table(path)
    columns = _columns_of(table)
    codes = {"user": Codes(), "item": Codes()}
    parts: dict[str, list[np.ndarray]] = {"user": [], "item": [], "order": []}
    first = 0
    for chunk in table.chunks(list(columns.values()), ids=[columns[role] for role in ("user", "item")]):
        for role in ("user", "item"):
            texts = id_texts(table, columns[role], chunk[columns[role]], first)
            rows, empty = codes[role].of(texts)
            refuse(table, first, empty, lambda _, name=columns[role]: f"{name} is empty")  # type: ignore[misc]
            parts[role].append(rows)
        parts["order"].append(_order(table, columns, chunk, first))
        first += len(rows)
    if not first:
        raise DataError(f"{path}: no lists; the file has a header alone")
    if kind == "auto":
        kind = _kind_of(table, (users, codes["user"].texts()), (items, codes["item"].texts()))
    user_rows, users_are = _dense_ids(table, users, codes["user"], np.concatenate(parts["user"]), kind)
    item_rows, items_are = _dense_ids(table, items, codes["item"], np.concatenate(parts["item"]), kind)
    order = np.concatenate(parts["order"])
    _refuse_repeated(table, user_rows, item_rows, lambda row: "the item is twice in the user's list")
    if "rank" in columns:
        _refuse_repeated(table, user_rows, order, lambda row: f"the rank {order[row]:g} is twice in the user's list")
    return ReadLists(*_lists_of(user_rows, item_rows, order, k), (users_are, items_are))


def refuse_blanks(*ids: np.ndarray) -> None:
    """Refuses ids that a TREC run cannot hold.

    Raises:
      DataError: an id with a blank in it.
    """
    blank = next((x for of_side in ids for x in of_side if len(str(x).split()) != 1), None)
    if blank is not None:
        raise DataError(f"the id {brief(repr(blank))} has blanks, which a TREC run cannot hold; write no TREC runs")


def write_trec_run(
    path: Path, users: np.ndarray, lists: np.ndarray, user_ids: np.ndarray, item_ids: np.ndarray, tag: str
) -> None:
    """Writes `user Q0 item rank score tag` lines, ranks from 1 on, the score falling with the rank.

    trec_eval orders by score alone, so the score is the number of places from here to the end.

    Args:
      path: the file to write.
      users: `[N]` dense ids.
      lists: `[N, K]` dense ids, `NO_ITEM` at the ends.
      user_ids, item_ids: original ids by dense id.
      tag: the system's name, without blanks.

    Raises:
      DataError: an id with a blank in it, which the format cannot hold.
    """
    filled = lists != NO_ITEM
    rows, places = np.nonzero(filled)
    refuse_blanks(user_ids[users], item_ids[np.unique(lists[filled])])
    length = lists.shape[1]
    with path.open("w", encoding="utf-8") as file:
        for user, item, place in zip(user_ids[users[rows]], item_ids[lists[filled]], places.tolist(), strict=True):
            file.write(f"{user} Q0 {item} {place + 1} {length - place} {tag}\n")


def _columns_of(table: RawTable) -> dict[str, str]:
    """Columns of user, item, and of rank or else score."""
    found = {role: find_column(table.path, role, None, table.columns) for role in ("user", "item", "rank", "score")}
    columns = {role: name for role, name in found.items() if name is not None}
    if not {"user", "item"} <= set(columns) or not {"rank", "score"} & set(columns):
        raise DataError(
            f"{table.path}: lists need columns user, item, and rank or score; it has {listing(table.columns)}"
        )
    if "strategy" in table.columns:
        raise DataError(
            f"{table.path}: has a column strategy, as lists of several do; give a file of each without that column, "
            "such as the runs of --trec_runs"
        )
    if "rank" in columns:
        columns.pop("rank" if table.is_trec_run else "score", None)
    return columns


def _order(table: RawTable, columns: Mapping[str, str], chunk: Mapping[str, pa.Array], first: int) -> np.ndarray:
    """`[rows] float64`, lowest first."""
    if "rank" in columns:
        return numbers(table, columns["rank"], chunk[columns["rank"]], first)
    return -numbers(table, columns["score"], chunk[columns["score"]], first)


def _kind_of(table: RawTable, *sides: tuple[IdIndex, list[str]]) -> str:
    """`original` or `dense`: what more of the users' and items' ids are, taken together.

    Raises:
      DataError: all are both, and not the same users and items.
    """
    found = {kind: [index.lookup(texts, kind)[0] for index, texts in sides] for kind in ("original", "dense")}
    known = {kind: sum(int((ids >= 0).sum()) for ids in of_sides) for kind, of_sides in found.items()}
    if known["original"] != known["dense"]:
        return max(known, key=lambda kind: known[kind])
    if all(map(np.array_equal, *found.values())) or known["original"] < sum(len(texts) for _, texts in sides):
        return "original"
    raise DataError(
        f"{table.path}: its ids can be the dataset's original ones and its own (dense ones), which are others; say "
        "which with --ids=original or --ids=dense"
    )


def _dense_ids(table: RawTable, index: IdIndex, codes: Codes, rows: np.ndarray, kind: str) -> tuple[np.ndarray, str]:
    texts = codes.texts()
    dense, taken_for = index.lookup(texts, kind)
    known = "its id mapping" if taken_for == "original" else f"0 .. {index.count - 1}"
    refuse(
        table,
        0,
        dense[rows] < 0,
        lambda row: f"{brief(repr(texts[rows[row]]))} is no {index.column} of the dataset ({taken_for} ids: {known})",
    )
    return dense[rows], taken_for


def _refuse_repeated(table: RawTable, users: np.ndarray, values: np.ndarray, message: Callable[[int], str]) -> None:
    """Refuses the first row whose user has its value in a row before."""
    order = np.lexsort((np.arange(users.size), values, users))
    again = (np.diff(users[order]) == 0) & (np.diff(values[order]) == 0)
    repeated = np.zeros(users.size, bool)
    repeated[order[1:][again]] = True
    refuse(table, 0, repeated, message)


def _lists_of(users: np.ndarray, items: np.ndarray, order: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Users `[N]`, their lists `[N, k]`, and the longest length."""
    sorted_rows = np.lexsort((items, order, users))
    different, starts, counts = np.unique(users[sorted_rows], return_index=True, return_counts=True)
    places = np.arange(users.size) - np.repeat(starts, counts)
    lists = np.full((different.size, k), NO_ITEM, np.int32)
    kept = places < k
    lists[np.repeat(np.arange(different.size), counts)[kept], places[kept]] = items[sorted_rows][kept]
    return different.astype(np.int32), lists, int(counts.max())
