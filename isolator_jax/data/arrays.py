"""Reader of `.npy` matrices: memory-mapped, never unpickled, checked before any work starts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isolator_jax import checks
from isolator_jax.errors import DataError, brief
from isolator_jax.memory import host_bytes

_CHECK_BYTES = 64 << 20

# Reading makes copies: of another type, sorted, without what is there twice.
_COPIES = 4


def refuse_more_than_memory(path: Path, unpacked: int) -> None:
    """Refuses a file whose content, as large as it declares, cannot be worked on in memory.

    Args:
      path: the file.
      unpacked: bytes it says it holds.

    Raises:
      DataError: with both sizes.
    """
    available = host_bytes()
    if _COPIES * unpacked > available:
        raise DataError(
            f"{path}: unpacks to {unpacked:,} bytes, and to work on it takes about {_COPIES} times as many; this "
            f"process may hold {available:,}; give it more memory, or a smaller file"
        )


def read_features(path: Path, least_items: int) -> np.ndarray:
    """One modality's features `[I, F]`, memory-mapped.

    Args:
      path: the `.npy` file.
      least_items: how many rows it must have at least.

    Raises:
      DataError: not a finite float matrix, or too few rows, or too large for memory, or a row that float32 loses.
    """
    features = read_matrix(path, "(items, dim)")
    refuse_more_than_memory(path, features.size * 4)
    if features.shape[0] < least_items:
        raise DataError(
            f"{path}: {features.shape[0]} rows, but the interactions name item {least_items - 1}; "
            f"it needs at least {least_items} rows, one for each item"
        )
    for row, _ in _not_finite(features):
        raise DataError(f"{path}, row {row}: NaN or infinite in float32; replace it, zeros mean no content")
    _refuse_vanishing_rows(path, features)
    return features


def _refuse_vanishing_rows(path: Path, features: np.ndarray) -> None:
    """Refuses rows that are not zero and become so in float32: they would be taken for items without content."""
    for start, rows in _chunks(features):
        lost = np.flatnonzero(checks.rows_lost(rows))
        if lost.size:
            raise DataError(
                f"{path}, row {start + lost[0]}: its values are so small that float32 takes them for zero, which "
                "means no content; scale the features up"
            )


def read_embeddings(users: Path, items: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings `[U, D]` and `[I, D] float32`, in memory.

    Raises:
      DataError: not finite float matrices of one width, or inner products may overflow.
    """
    embeddings = []
    for path in (users, items):
        matrix = read_matrix(path, "(users or items, dim)")
        refuse_more_than_memory(path, matrix.size * 4)
        for row, column in _not_finite(matrix):
            raise DataError(f"{path}, row {row}, column {column}: NaN or infinite in float32; export it again")
        embeddings.append(np.asarray(matrix, np.float32))
    widths = [x.shape[1] for x in embeddings]
    if widths[0] != widths[1]:
        raise DataError(
            f"{users} has {widths[0]} columns and {items} has {widths[1]}; an inner product needs one width"
        )
    largest = [np.linalg.norm(x.astype(np.float64), axis=1).max(initial=0.0) for x in embeddings]
    if largest[0] * largest[1] > np.finfo(np.float32).max:
        raise DataError(f"{users}, {items}: inner products overflow float32; scale the embeddings down")
    return embeddings[0], embeddings[1]


def read_scores(path: Path) -> np.ndarray:
    """Scores f `[U, I]`, memory-mapped; read through once to check them.

    Raises:
      DataError: not a float matrix, or a score that is neither finite in float32 nor -inf (no candidate of the user).
    """
    scores = read_matrix(path, "(users, items)")
    for row, column in _not_finite(scores):
        if not np.isneginf(scores[row, column]):
            raise DataError(
                f"{path}, row {row}, column {column}: the score {scores[row, column]} is NaN or infinite in float32; "
                "write finite scores, or -inf for items that are no candidates of a user (those it has trained on are "
                "left out anyway)"
            )
    return scores


def read_matrix(path: Path, shape: str) -> np.ndarray:
    """A memory-mapped float matrix; its values are not looked at.

    Args:
      path: the `.npy` file.
      shape: what its axes are, for the error.

    Raises:
      DataError: unreadable, not of two axes, empty, or not of float type.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of many types: numpy evaluates a broken header as Python
        remedy = "stack its rows, numpy.stack" if "Object arrays" in str(error) else "save it with numpy.save"
        raise DataError(f"{path}: not a readable .npy array ({brief(error)}); {remedy}") from None
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.shape[1] == 0:
        raise DataError(f"{path}: must be one array of shape {shape}, found {np.shape(matrix)}")
    if matrix.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        raise DataError(f"{path}: dtype {matrix.dtype} is not float16, float32 or float64")
    return matrix


def _not_finite(matrix: np.ndarray) -> Iterator[tuple[int, int]]:
    """Rows and columns of the values that are not finite in float32, as models see them."""
    for start, rows in _chunks(matrix):
        with np.errstate(over="ignore"):
            wrong = ~np.isfinite(rows.astype(np.float32))
        for row, column in np.argwhere(wrong):
            yield start + int(row), int(column)


def _chunks(matrix: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A matrix in runs of rows, each with the number of its first."""
    step = max(1, _CHECK_BYTES // (matrix.shape[1] * matrix.dtype.itemsize))
    for start in range(0, matrix.shape[0], step):
        yield start, matrix[start : start + step]
