"""Item features: normalised, fused into channels, and their similarities. Nothing is learned.

Notation as in the paper: e_i^m is item i's L2-normalised feature of modality m,
S^m[i, j] = e_i^m . e_j^m, S = mean_m S^m. Since S is itself the Gram matrix of the
concatenated features divided by sqrt(M), both fusions are one computation over a list of
T *channels*: `mean` has T = 1 channel, `per_modality` has one for each modality.

Features are converted by the rule of `checks`, must be finite, and are float32 from here on.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from isolator_jax import checks
from isolator_jax.precision import EXACT

FUSIONS = ("mean", "per_modality")


def normalize_features(features: ArrayLike, name: str = "features") -> Array:
    """Rows scaled to unit L2 norm, e_i; an all-zero row stays zero.

    The row is divided by its largest magnitude first, so that no row overflows or underflows
    in its squared norm.

    Args:
      features: `[I, F]`, any numbers.
      name: what messages call them.

    Returns:
      `[I, F] float32`.

    Raises:
      ValueError: features that are not finite, or of an item so small that float32 loses them.

    Examples:
      >>> print(np.asarray(normalize_features(np.array([[3.0, 4.0], [0.0, 0.0]]))).round(4))
      [[0.6 0.8]
       [0.  0. ]]
    """
    rows = checks.array(name, features, shape=("I", "F"), finite=True)
    if not isinstance(features, jax.Array) or checks.known(features):
        checks.not_lost(name, features)
    largest = jnp.max(jnp.abs(rows), axis=1, keepdims=True, initial=0.0)
    # By 2^100 at most: XLA divides by multiplying, and 1 / 2^127 is flushed to zero.
    rows = rows / jnp.where(largest > 0, jnp.minimum(largest, 2.0**100), 1.0)
    norm = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.where(norm > 0, norm, 1.0)


def fuse_channels(features: Sequence[ArrayLike], fusion: str = "mean") -> list[Array]:
    """The T feature channels of a fusion.

    Args:
      features: M raw feature matrices `[I, F_m]`.
      fusion: `mean` (the paper: similarities are averaged before the sigmoid or g) or
        `per_modality` (the authors' release: the sigmoids are averaged).

    Returns:
      T matrices `[I, F_t] float32` whose Gram matrices are the channels' similarities.

    Raises:
      ValueError: unknown fusion, no features, features of no items, features that are not
        finite, or of different numbers of items.

    Examples:
      >>> image, text = np.eye(3), np.ones((3, 2))
      >>> [channel.shape for channel in fuse_channels([image, text])]
      [(3, 5)]
      >>> [channel.shape for channel in fuse_channels([image, text], "per_modality")]
      [(3, 3), (3, 2)]
    """
    checks.option("fusion", fusion, FUSIONS)
    named = {f"features[{m}]": x for m, x in enumerate(features)}
    return fuse_normalized(list(_normalized(named).values()), fusion)


def normalize_modalities(features: Mapping[str, ArrayLike]) -> OrderedDict[str, Array]:
    """`normalize_features` of each modality, at least one, with a row for the same items each."""
    normalized = _normalized({f"features[{name!r}]": x for name, x in features.items()})
    return OrderedDict(zip(features, normalized.values(), strict=True))


def _normalized(features: Mapping[str, ArrayLike]) -> dict[str, Array]:
    if not features:
        raise ValueError("content similarity needs the features of at least one modality")
    normalized = {name: normalize_features(x, name) for name, x in features.items()}
    check_rows(normalized)
    name, first = next(iter(normalized.items()))
    if not first.shape[0]:
        raise ValueError(f"{name} must have a row for every item, got none")
    return normalized


def fuse_normalized(normalized: Sequence[Array], fusion: str) -> list[Array]:
    """`fuse_channels` of features that are normalised already."""
    if fusion == "per_modality":
        return list(normalized)
    return [jnp.concatenate(normalized, axis=1) / math.sqrt(len(normalized))]


def item_similarity(channel: ArrayLike) -> Array:
    """S[i, j] = e_i . e_j.  `[I, F] -> [I, I] float32`, in full precision on every device.

    Raises:
      TypeError, ValueError: no numbers, or another shape.

    Examples:
      >>> (channel,) = fuse_channels([np.eye(2), np.ones((2, 1))])
      >>> print(np.asarray(item_similarity(channel)).round(4))  # the mean of I and 1
      [[1.  0.5]
       [0.5 1. ]]
    """
    return gram(check_channel(channel))


@jax.jit
def gram(channel: Array) -> Array:
    """`item_similarity` of a channel that has been checked."""
    return jnp.matmul(channel, channel.T, precision=EXACT)


def mean_item_similarity(channel: ArrayLike) -> Array | np.floating:
    """S-bar: the mean of S over ordered pairs i != j (Table 1). `[I, F] -> []`.

    Uses sum_ij S[i, j] = |sum_i e_i|^2, linear in I. NaN for fewer than two items.

    Raises:
      TypeError, ValueError: no numbers, or another shape.

    Examples:
      >>> (channel,) = fuse_channels([np.eye(2), np.ones((2, 1))])
      >>> print(f"{mean_item_similarity(channel):.4f}")
      0.5000
    """
    channel = check_channel(channel)
    return _mean_of_pairs(channel) if channel.shape[0] > 1 else np.float32(np.nan)


@jax.jit
def _mean_of_pairs(channel: Array) -> Array:
    items = channel.shape[0]
    total = jnp.sum(jnp.square(jnp.sum(channel, axis=0))) - jnp.sum(jnp.square(channel))
    return total / (float(items) * (items - 1))  # beyond 46,341 items no 32-bit integer


def check_channel(channel: ArrayLike, name: str = "channel", finite: bool = False) -> Array:
    """A channel, `[I, F] float32`."""
    return checks.array(name, channel, shape=("I", "F"), finite=finite)


def check_rows(features: Mapping[str, Array]) -> None:
    """All have as many rows as the first."""
    (first, like), *others = features.items()
    for name, x in others:
        if x.shape[0] != like.shape[0]:
            raise ValueError(
                f"{name} must have a row for each of the {like.shape[0]} items of {first}, got {x.shape[0]} rows"
            )
