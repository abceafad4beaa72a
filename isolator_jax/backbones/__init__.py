"""The backbones and their registry."""

from isolator_jax.backbones.base import Backbone, Batch, Encoded, Hyperparameters, Score, hyperparameters
from isolator_jax.backbones.freedom import FREEDOM
from isolator_jax.backbones.grcn import GRCN
from isolator_jax.backbones.gume import GUME
from isolator_jax.backbones.lgmrec import LGMREC
from isolator_jax.backbones.lightgcn import LIGHTGCN
from isolator_jax.backbones.mfbpr import MFBPR
from isolator_jax.backbones.mgcn import MGCN
from isolator_jax.backbones.slmrec import SLMREC
from isolator_jax.backbones.smore import SMORE
from isolator_jax.backbones.vbpr import VBPR

BACKBONES: dict[str, Backbone] = {
    "mfbpr": MFBPR,
    "lightgcn": LIGHTGCN,
    "vbpr": VBPR,
    "grcn": GRCN,
    "slmrec": SLMREC,
    "mgcn": MGCN,
    "gume": GUME,
    "freedom": FREEDOM,
    "smore": SMORE,
    "lgmrec": LGMREC,
}


def get_backbone(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
      ValueError: there is none; the message lists those there are.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
    return BACKBONES[name]


__all__ = ["BACKBONES", "Backbone", "Batch", "Encoded", "Hyperparameters", "Score", "get_backbone", "hyperparameters"]
