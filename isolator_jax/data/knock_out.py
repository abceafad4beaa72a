"""Features without what they tell of their items, to find out whether a model uses them at all."""

from collections.abc import Mapping

import numpy as np

from isolator_jax import checks

KNOCK_OUTS = ("shuffle", "constant", "noise")


def knock_out(features: Mapping[str, np.ndarray], how: Mapping[str, str], seed: int) -> dict[str, np.ndarray]:
    """Features in which some modalities no longer say which item is which.

    Args:
      features: `[I, F_m]` by modality.
      how: by modality, one of `KNOCK_OUTS`: `shuffle` gives the items each other's rows, `constant`
        gives every item the mean row, `noise` draws each value from the normal distribution of the
        column's mean and deviation. A modality that is not named stays as it is.
      seed: of what is drawn, which depends on the modality's name besides and on no other modality.

    Returns:
      The modalities in their order; those that are knocked out `[I, F_m] float32`.

    Raises:
      ValueError: a modality that there is not, or an unknown way.

    Examples:
      >>> image = np.arange(8.0).reshape(4, 2)
      >>> knock_out({"image": image}, {"image": "constant"}, seed=0)["image"].tolist()
      [[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [3.0, 4.0]]
      >>> sorted(knock_out({"image": image}, {"image": "shuffle"}, seed=0)["image"].tolist())
      [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]
    """
    for name, way in how.items():
        if name not in features:
            raise ValueError(f"knock_out names the modality {name!r}; there are {', '.join(features) or 'none'}")
        checks.option(f"knock_out of {name}", way, KNOCK_OUTS)
    return {name: _knocked_out(x, how[name], name, seed) if name in how else x for name, x in features.items()}


def _knocked_out(features: np.ndarray, way: str, name: str, seed: int) -> np.ndarray:
    rows = np.asarray(features, np.float32)
    generator = np.random.default_rng([seed, *name.encode()])
    if way == "shuffle":
        return rows[generator.permutation(rows.shape[0])]
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    if way == "constant":
        return np.tile(mean, (rows.shape[0], 1))
    deviation = rows.std(axis=0, dtype=np.float64).astype(np.float32)
    return mean + deviation * generator.standard_normal(rows.shape, np.float32)
