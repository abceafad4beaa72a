"""Which column of a raw table is which: the usual names, and what is said where none is found."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from isolator_jax.errors import DataError, brief

# Compared in lower case without blanks, underscores and hyphens, and without RecBole's `:type`;
# of several that are there the first in this order is taken.
USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": ("userid", "user", "uid", "reviewerid", "customerid", "memberid", "visitorid", "profileid"),
    "item": (
        "itemid",
        "item",
        "iid",
        "parentasin",
        "asin",
        "productid",
        "movieid",
        "bookid",
        "isbn",
        "businessid",
        "gmapid",
        "trackid",
        "songid",
        "artistid",
        "videoid",
        "newsid",
        "recipeid",
    ),
    "rating": ("rating", "ratings", "overall", "stars", "score", "bookrating"),
    "time": ("timestamp", "time", "unixreviewtime", "unixtime", "datetime", "date", "ts", "sorttimestamp", "eventtime"),
    "split": ("xlabel", "split", "subset"),
    "rank": ("rank", "ranking", "position", "place"),
    "score": ("score", "prediction", "similarity", "rating"),
}


# As pandas names the index that it writes beside a table's columns, and reads it back.
_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def without_index(name: str, columns: Sequence[str]) -> list[str]:
    """The columns but those of a pandas index, of which it warns: a row's number is no feature of it.

    Args:
      name: the file or the argument, for messages.
      columns: names.
    """
    index = [column for column in columns if _INDEX.fullmatch(column)]
    if index:
        warnings.warn(f"{name}: column {index[0]!r} is left out, which pandas writes for the index", stacklevel=4)
    return [column for column in columns if column not in index]


def find_column(path: Path, role: str, given: str | None, columns: Sequence[str]) -> str | None:
    """The column that plays a role; None where none of a usual name is there.

    Args:
      path: the file, for messages.
      role: a key of `USUAL_NAMES`.
      given: the name the user gave, with or without RecBole's type; None looks for a usual name.
      columns: names of the file's columns.

    Raises:
      DataError: the given column is not there, or the one found is there twice.
    """
    if given is not None:
        return given_column(path, given, columns)
    plain = [_plain(name) for name in columns]
    usual = next((name for name in USUAL_NAMES[role] if name in plain), None)
    return _only(path, [name for name, key in zip(columns, plain, strict=True) if key == usual])


def needed_column(path: Path, role: str, given: str | None, columns: Sequence[str]) -> str:
    """`find_column`, refusing a file that has none.

    Raises:
      DataError: also where no column of a usual name is there.
    """
    found = find_column(path, role, given, columns)
    if found is None:
        raise DataError(
            f"{path}: no column of {role}s found among {listing(columns)}; name it with --{role}_column, "
            "or give a file without header its names with --columns"
        )
    return found


def given_column(path: Path, given: str, columns: Sequence[str]) -> str:
    """The column of a name, with or without RecBole's type.

    Raises:
      DataError: it is not there, or there twice.
    """
    found = _only(path, [name for name in columns if given in (name, _without_type(name))])
    if found is None:
        raise DataError(f"{path}: no column {brief(repr(given))}; it has {listing(columns)}")
    return found


def listing(columns: Sequence[str]) -> str:
    """Names of columns for a message."""
    return brief(", ".join(columns)) or "no columns"


def _only(path: Path, found: Sequence[str]) -> str | None:
    if len(found) > 1:
        raise DataError(f"{path}: its header names {brief(repr(found[0]))} twice; keep one column of that name")
    return found[0] if found else None


def _without_type(name: str) -> str:
    """`user_id` of RecBole's `user_id:token`."""
    return name.partition(":")[0]


def _plain(name: str) -> str:
    kept = (character for character in _without_type(name).lower() if character not in " _-")
    return "".join(kept)
