"""A modality from text: TF-IDF and truncated SVD of scikit-learn, which this alone needs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from isolator_jax.data.prepare.features import ItemFeatures
from isolator_jax.data.raw import RawTable, given_column, id_texts, needed_column, open_table
from isolator_jax.errors import ConfigError, DataError, brief

# Terms weighted at most; rarer ones beyond that are left out.
_MOST_TERMS = 100_000


def require_scikit_learn() -> None:
    """Refuses to start where it is not installed.

    Raises:
      ConfigError: naming the extra.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise ConfigError("text needs scikit-learn, which is not installed: pip install 'isolator-jax[text]'") from None


def read_texts(path: Path, item_column: str | None, columns: Sequence[str]) -> dict[str, str]:
    """The joined text of each item; items whose columns are all empty are left out.

    Args:
      path: a table (`tables.open_table`).
      item_column: the name of its id column, or None to look for a usual one.
      columns: the columns to join, in this order.

    Raises:
      DataError: a column is not there, or an item twice.
    """
    table = open_table(path)
    item = needed_column(path, "item", item_column, table.columns)
    found = [given_column(path, column, table.columns) for column in columns]
    texts: dict[str, str] = {}
    seen: set[str] = set()
    first = 0
    for chunk in table.chunks([item, *found], ids=[item]):
        ids = id_texts(table, item, chunk[item], first).to_pylist()
        parts = [_words(table, column, chunk[column]) for column in found]
        for row, (original, *words) in enumerate(zip(ids, *parts, strict=True)):
            original = (original or "").strip()
            if not original or original in seen:
                problem = f"item {original!r} is there twice" if original else "an empty item id"
                raise DataError(f"{table.at(first + row)}: {problem}")
            seen.add(original)
            if text := " ".join(filter(None, words)).strip():
                texts[original] = text
        first += len(ids)
    return texts


def _words(table: RawTable, column: str, chunk: pa.Array) -> list[str | None]:
    """A column as text; lists of words are joined."""
    if pa.types.is_list(chunk.type) or pa.types.is_large_list(chunk.type):
        rows = chunk.to_pylist()
        return [None if row is None else " ".join(str(word) for word in row if word is not None) for row in rows]
    try:
        return chunk.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        raise DataError(
            f"{table.path}: column {brief(column)} is of type {chunk.type}; give text or lists of text"
        ) from None


def text_features(texts: dict[str, str], item_ids: Sequence[str], dim: int, seed: int) -> ItemFeatures:
    """TF-IDF over the texts of the items, reduced by truncated SVD.

    Args:
      texts: by original id; those of other items take no part.
      item_ids: the dataset's items.
      dim: width; less where there are fewer terms or texts.
      seed: of the randomised decomposition.

    Returns:
      `[items with text, <= dim] float32`.

    Raises:
      DataError: the texts hold no two terms.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    ids = [original for original in item_ids if original in texts]
    try:
        weights = TfidfVectorizer(max_features=_MOST_TERMS, sublinear_tf=True, dtype=np.float64).fit_transform(
            [texts[original] for original in ids]
        )
    except ValueError:  # no term is left
        weights = np.zeros((0, 0))
    width = min(dim, weights.shape[1], weights.shape[0])
    if width < 2:
        raise DataError(
            "the text columns hold no two different terms or items; name columns of words with --text_columns"
        )
    values = TruncatedSVD(width, random_state=seed).fit_transform(weights)
    return ItemFeatures({original: row for row, original in enumerate(ids)}, values.astype(np.float32), "text")
