"""The flag for modalities that are knocked out."""

from absl import flags

from .parsing import parse_knock_out

_KNOCK_OUT = flags.DEFINE_multi_string(
    "knock_out",
    [],
    "Modalities that model and strategies see without their content, as image:shuffle,text:noise; may be repeated. "
    "shuffle: items have each other's features; constant: all the mean; noise: random ones of each column's mean and "
    "deviation. Groups, c_u and rho stay those of the true features. Answers whether a model uses a modality at all.",
)


def knock_out_from_flags() -> dict[str, str]:
    """How each modality that the flag names is knocked out.

    Raises:
      ConfigError: not modality:way, an unknown way, or a modality twice.
    """
    return parse_knock_out("knock_out", _KNOCK_OUT.value)
