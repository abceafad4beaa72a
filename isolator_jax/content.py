"""All that ISOLATOR and the bias metrics need of a dataset's content, made once."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.typing import DTypeLike

from isolator_jax.histories import Histories
from isolator_jax.similarity import (
    Similarity,
    build_similarity,
    build_table,
    content_consistency,
    fill_undefined,
    fuse_channels,
    normalize_features,
)


@struct.dataclass
class Content:
    """Content similarity of one dataset under one fusion.

    Attributes:
      similarity: s_ui of the T channels.
      channel_consistency: c_u of the channels, `[T, U]`, undefined ones filled with the mean.
      consistency: c_u on the averaged similarity, `[U]` on the host, NaN where undefined:
        what the user groups are made of, whatever the fusion.
      modalities: normalised features `[I, F_m]` by modality, for rho.
    """

    similarity: Similarity
    channel_consistency: Array
    consistency: np.ndarray
    modalities: dict[str, Array]


def make_content(
    features: Mapping[str, Array | np.ndarray],
    histories: Histories,
    *,
    fusion: str = "mean",
    table_budget_bytes: int = 2 << 30,
    table_dtype: DTypeLike = jnp.float32,
    make_table: Callable[[Array, Histories, jnp.dtype], Array] = build_table,
) -> Content:
    """Computes similarities and consistencies from the features of at least one modality.

    Args:
      features: raw features `[I, F_m]` by modality.
      histories: training histories.
      fusion: `mean` or `per_modality` (`similarity.fuse_channels`).
      table_budget_bytes, table_dtype, make_table: as in `similarity.build_similarity`.

    Raises:
      ValueError: unknown fusion, or no features.

    Examples:
      >>> users, items = np.repeat(np.arange(4), 2), np.array([0, 1, 2, 3, 0, 2, 1, 3])
      >>> histories = Histories.from_pairs(users, items, num_users=4)
      >>> content = make_content({"image": np.eye(6)[[0, 0, 1, 1, 0, 1]]}, histories)
      >>> content.consistency.tolist()
      [1.0, 1.0, 0.0, 0.0]
    """
    channels = fuse_channels(list(features.values()), fusion)
    per_channel = jnp.stack([content_consistency(channel, histories) for channel in channels])
    return Content(
        similarity=build_similarity(
            channels,
            histories,
            table_budget_bytes=table_budget_bytes,
            table_dtype=table_dtype,
            make_table=make_table,
        ),
        channel_consistency=fill_undefined(per_channel),
        # S is the mean over modalities, so c_u on S is the mean of the modalities' c_u.
        consistency=np.asarray(jnp.mean(per_channel, axis=0)),
        modalities={name: normalize_features(x) for name, x in features.items()},
    )
