"""The configuration of a run, checked when it is made."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from isolator_jax.backbones import Hyperparameters, get_backbone
from isolator_jax.backbones.base import hyperparameter_types
from isolator_jax.data.knock_out import KNOCK_OUTS
from isolator_jax.errors import ConfigError, brief
from isolator_jax.features import FUSIONS

# What may change between a run and its resumption: nothing that training draws on. The data may
# have moved; its content is compared.
EXTENDABLE = ("data_dir", "max_epochs", "patience", "alpha", "beta", "iota")

# Counts are 32-bit on the device.
_LARGEST_COUNT = 2**31 - 1

# Of gamma, alpha, beta and iota, which are multiplied there in float32.
LARGEST_PARAMETER = 1e30

TABLE_DTYPES = ("float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
      backbone: name in the registry.
      hparams: the backbone's hyper-parameters; those left out take their defaults, and
        the resolved ones replace what was given.
      data_dir, dataset: where the data is; both None for the embedded dataset.
      modalities: which, in which order; None for all there are.
      knock_out: modalities that model and strategies see knocked out, and how (`data.knock_out`).
      seed: initial parameters, shuffling and negatives, and what is knocked out, follow from it.
      training_strategy: train the score of Eq. 7; False trains plain BPR.
      gamma: exponent of the training strategy.
      alpha, beta, iota: U-ISOLATOR's parameters.
      fusion: `mean` or `per_modality`.
      batch_size: triples a step, at most.
      max_epochs, patience: when training stops.
      similarity_budget_mb: largest users x items similarity table in MiB; what is larger
        is computed on the fly.
      similarity_dtype: the table's storage type.

    Raises:
      ConfigError: an unknown name, or a value of the wrong type or out of range.
    """

    backbone: str
    hparams: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data_dir: str | None = None
    dataset: str | None = None
    modalities: tuple[str, ...] | None = None
    knock_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seed: int = 0
    training_strategy: bool = True
    gamma: float = 0.1
    alpha: float = 2.0
    beta: float = 5.0
    iota: float = 0.1
    fusion: str = "mean"
    batch_size: int = 2048
    max_epochs: int = 1000
    patience: int = 25
    similarity_budget_mb: int = 2048
    similarity_dtype: str = "float32"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):  # a number of numpy's, as loops over its arrays give
                object.__setattr__(self, field.name, value := value.item())
            _check_type(field.name, value, field.type)
        if (self.data_dir is None) != (self.dataset is None):
            raise ConfigError("data_dir and dataset go together: give both, or neither for the embedded dataset")
        _one_of("fusion", self.fusion, FUSIONS)
        for modality, way in self.knock_out.items():
            _one_of(f"knock_out of {brief(modality)}", way, KNOCK_OUTS)
        _one_of("similarity_dtype", self.similarity_dtype, TABLE_DTYPES)
        for name in ("gamma", "alpha", "beta", "iota"):
            value = getattr(self, name)
            if not 0 <= value <= LARGEST_PARAMETER:
                raise ConfigError(
                    f"{name} must be a finite number of at least 0 and at most {LARGEST_PARAMETER:g}, "
                    f"got {brief(value)}"
                )
        for name, least in (("batch_size", 1), ("max_epochs", 1), ("patience", 1), ("similarity_budget_mb", 0)):
            value = getattr(self, name)
            if not least <= value <= _LARGEST_COUNT:
                limits = f"at least {least} and at most {_LARGEST_COUNT}"
                raise ConfigError(f"{name} must be {limits}, got {_number(value)}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed must lie in 0 .. 2**32 - 1, got {_number(self.seed)}")
        object.__setattr__(self, "hparams", {k: _plain(v) for k, v in dataclasses.asdict(self.hyperparameters).items()})

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The backbone's hyper-parameters as its own dataclass."""
        made = make_hyperparameters(self.backbone, self.hparams)
        not_given = [name for name in made.of_batch_size if name not in self.hparams]
        return dataclasses.replace(made, **dict.fromkeys(not_given, self.batch_size))

    @property
    def given_hparams(self) -> dict[str, Any]:
        """The hyper-parameters without those that are the batch size, so that they follow another one."""
        of_batch_size = dict.fromkeys(self.hyperparameters.of_batch_size, self.batch_size).items()
        return {k: v for k, v in self.hparams.items() if (k, v) not in of_batch_size}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = dataclasses.asdict(self)
        return {**values, "modalities": None if self.modalities is None else list(self.modalities)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Inverse of `to_dict`.

        Raises:
          ConfigError: not a whole configuration, or as the constructor.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"a configuration is names and values; found {brief(values)}")
        names = [field.name for field in dataclasses.fields(cls)]
        differences = {
            "lacks": [name for name in names if name not in values],
            "has the unknown": [str(name) for name in values if name not in names],
        }
        if told := [f"{how} {brief(', '.join(of))}" for how, of in differences.items() if of]:
            raise ConfigError(
                f"the configuration {' and '.join(told)}: another version of isolator-jax wrote it; use that version, "
                "or train in another folder"
            )
        modalities = values["modalities"]
        return cls(**{**values, "modalities": tuple(modalities) if isinstance(modalities, list) else modalities})


def make_hyperparameters(backbone: str, values: Mapping[str, Any]) -> Hyperparameters:
    """Builds a backbone's hyper-parameters from values given as numbers or text.

    Raises:
      ConfigError: unknown backbone or name, or a value of the wrong type or out of range.
    """
    try:
        kind = get_backbone(backbone).hyperparameters
    except ValueError as error:
        raise ConfigError(str(error)) from None
    fields = hyperparameter_types(kind)
    unknown = [name for name in values if name not in fields]
    if unknown:
        unknown_names = brief(", ".join(map(str, unknown)))
        raise ConfigError(f"{backbone} has no hyper-parameter {unknown_names}; it has {', '.join(fields)}")
    converted = {name: _convert(name, value, fields[name]) for name, value in values.items()}
    for field in dataclasses.fields(kind):
        if field.name in converted:
            values_of_field = converted[field.name]
            for value in values_of_field if isinstance(values_of_field, tuple) else (values_of_field,):
                _check_range(field, value)
    return kind(**converted)


def _plain(value: Any) -> Any:
    """A hyper-parameter's value as it is written: several numbers are 10:15."""
    return ":".join(map(str, value)) if isinstance(value, tuple) else value


def _convert(name: str, value: Any, kind: Any) -> Any:
    if kind == tuple[int, ...]:
        parts = value.split(":") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(name, part, int) for part in parts)
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number) or (kind is int and number != int(number)):
            raise ValueError
        return kind(number)
    except (KeyError, ValueError, TypeError, OverflowError):
        raise ConfigError(f"hyper-parameter {name} must be of type {kind.__name__}, got {_number(value)}") from None


def _check_range(field: dataclasses.Field, value: Any) -> None:
    """Refuses what is out of the field's bounds (`backbones.base.bounded`), or is so on the device."""
    if isinstance(value, bool):
        return
    largest = _LARGEST_COUNT if isinstance(value, int) else float(np.finfo(np.float32).max)
    bounds = {name: bound for name, bound in field.metadata.items() if bound is not None}
    most = min(bounds.get("most", largest), largest)
    stored = np.float32(value) if abs(value) <= largest else value
    if not (-largest <= value <= most and value >= bounds.get("least", -largest)):
        lower = f"at least {bounds['least']:g} and " if "least" in bounds else ""
        raise ConfigError(f"hyper-parameter {field.name} must be {lower}at most {most:g}, got {value:g}")
    if "above" in bounds and not stored > bounds["above"]:
        raise ConfigError(f"hyper-parameter {field.name} must be above {bounds['above']:g}, got {value:g}")


# What each type of `RunConfig` is called, and whether a value is of it.
_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: _is_text(value)),
    str | None: ("text", lambda value: value is None or _is_text(value)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    Mapping[str, str]: (
        "text by name",
        lambda value: isinstance(value, Mapping) and all(map(_is_text, [*value, *value.values()])),
    ),
    Mapping[str, Any]: ("values by name", lambda value: isinstance(value, Mapping) and all(map(_is_text, value))),
    tuple[str, ...] | None: (
        "names",
        lambda value: value is None or (isinstance(value, tuple) and all(map(_is_text, value))),
    ),
}


def _check_type(name: str, value: Any, kind: Any) -> None:
    description, fits = _TYPES[kind]
    if not fits(value):
        raise ConfigError(f"{name} must be {description}, got {_number(value)}")


def _is_text(value: Any) -> bool:
    """Whether it is text that files can hold."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _number(value: Any) -> str:
    """A value for a message; Python does not write out integers of thousands of digits."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"an integer of {value.bit_length()} bits"
    return brief(repr(value))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
