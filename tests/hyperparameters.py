"""Hyper-parameters that many tests share."""

from isolator_jax.backbones import BACKBONES


def every_loop_once(backbone):
    """One of each loop's rounds, which compiles in half the time, of what the backbone has."""
    fields = BACKBONES[backbone].hyperparameters.__dataclass_fields__
    return dict.fromkeys({"layers", "item_layers", "content_layers", "rounds"} & fields.keys(), 1)
