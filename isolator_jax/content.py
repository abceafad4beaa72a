"""All that ISOLATOR and the bias metrics need of a dataset's content, made once."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from isolator_jax import checks
from isolator_jax.consistency import consistency_of_modality, fill_undefined, rounded
from isolator_jax.features import FUSIONS, fuse_normalized, normalize_modalities
from isolator_jax.histories import Histories, check_histories
from isolator_jax.similarity import Similarity, build_similarity, build_table


@struct.dataclass
class Content:
    """Content similarity of one dataset under one fusion: a pytree, and so an argument of compiled functions.

    Attributes:
      similarity: s_ui of the T channels.
      channel_consistency: c_u of the channels, `[T, U]`, undefined ones filled with the mean.
      consistency: c_u on the averaged similarity, `[U] float64` on the host, rounded to 6
        decimals, NaN where undefined: what the user groups are made of, whatever the fusion.
      modalities: normalised features `[I, F_m]` by modality, for rho; in order.
    """

    similarity: Similarity
    channel_consistency: Array
    consistency: np.ndarray
    modalities: OrderedDict[str, Array]


def make_content(
    features: Mapping[str, ArrayLike],
    histories: Histories,
    *,
    fusion: str = "mean",
    table_budget_bytes: int = 2 << 30,
    table_dtype: DTypeLike = jnp.float32,
    make_table: Callable[[Array, Histories, jnp.dtype], Array] = build_table,
) -> Content:
    """Computes similarities and consistencies from the features of at least one modality.

    Args:
      features: raw features `[I, F_m]` by modality; finite, a row for every item.
      histories: training histories.
      fusion: `mean` or `per_modality` (`features.fuse_channels`).
      table_budget_bytes, table_dtype, make_table: as in `similarity.build_similarity`.

    Raises:
      TypeError: features that are not by modality, or no numbers.
      ValueError: unknown fusion, no features, features that are not finite, of different
        numbers of items, or of fewer items than histories name.

    Examples:
      >>> users, items = np.repeat(np.arange(4), 2), np.array([0, 1, 2, 3, 0, 2, 1, 3])
      >>> histories = Histories.from_pairs(users, items, num_users=4)
      >>> content = make_content({"image": np.eye(6)[[0, 0, 1, 1, 0, 1]]}, histories)
      >>> content.consistency.tolist()
      [1.0, 1.0, 0.0, 0.0]
    """
    checks.instance("features", features, Mapping)
    checks.option("fusion", fusion, FUSIONS)
    modalities = normalize_modalities(features)
    check_histories(histories, next(iter(modalities.values())).shape[0])
    channels = fuse_normalized(list(modalities.values()), fusion)
    # S is the mean over modalities, so c_u on S is the mean of the modalities' c_u.
    of_modalities = np.stack([consistency_of_modality(x, histories) for x in features.values()])
    mean = of_modalities.mean(axis=0)
    return Content(
        similarity=build_similarity(
            channels,
            histories,
            table_budget_bytes=table_budget_bytes,
            table_dtype=table_dtype,
            make_table=make_table,
        ),
        channel_consistency=fill_undefined(of_modalities if fusion == "per_modality" else mean[None]),
        consistency=rounded(mean),
        # A plain dict would be sorted by name on its way through a compiled function.
        modalities=modalities,
    )
