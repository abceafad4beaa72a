"""The flag for what U-ISOLATOR's setting is chosen for."""

from absl import flags

from isolator_jax.evaluation import AIMS

_AIM = flags.DEFINE_enum(
    "aim",
    AIMS[0],
    AIMS,
    "What U-ISOLATOR's alpha, beta and iota are chosen for, on validation: the best Recall@20; the same where the size "
    "of UCBias@20 is at most Vanilla's; or the least size of UCBias@20 where Recall@20 is at least Vanilla's.",
)


def aim_from_flags() -> str:
    """The aim asked for, one of `evaluation.AIMS`."""
    return _AIM.value


def aim_is_given() -> bool:
    """Whether the flag was given."""
    return flags.FLAGS["aim"].present > 0
