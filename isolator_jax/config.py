"""The configuration of a run, checked when it is made."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

from isolator_jax.backbones import Hyperparameters, get_backbone
from isolator_jax.similarity import FUSIONS

# What may change between a run and its resumption: nothing that training draws on.
EXTENDABLE = ("max_epochs", "patience", "alpha", "beta", "iota")

TABLE_DTYPES = ("float32", "float16", "bfloat16")


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the value and what is allowed."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
      backbone: name in the registry.
      hparams: the backbone's hyper-parameters; those left out take their defaults, and
        the resolved ones replace what was given.
      data_dir, dataset: where the data is; both None for the embedded dataset.
      modalities: which, in which order; None for all there are.
      seed: initial parameters, shuffling and negatives follow from it.
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
      ConfigError: an unknown name or a value out of range.
    """

    backbone: str
    hparams: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data_dir: str | None = None
    dataset: str | None = None
    modalities: tuple[str, ...] | None = None
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
        if (self.data_dir is None) != (self.dataset is None):
            raise ConfigError("data_dir and dataset go together: give both, or neither for the embedded dataset")
        _one_of("fusion", self.fusion, FUSIONS)
        _one_of("similarity_dtype", self.similarity_dtype, TABLE_DTYPES)
        for name in ("gamma", "alpha", "beta", "iota"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} must be a finite number of at least 0, got {value}")
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.similarity_budget_mb < 0:
            raise ConfigError(f"similarity_budget_mb must be at least 0, got {self.similarity_budget_mb}")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed must lie in 0 .. 2**32 - 1, got {self.seed}")
        object.__setattr__(self, "hparams", dataclasses.asdict(self.hyperparameters))

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The backbone's hyper-parameters as its own dataclass."""
        return make_hyperparameters(self.backbone, self.hparams)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = dataclasses.asdict(self)
        return {**values, "modalities": None if self.modalities is None else list(self.modalities)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Inverse of `to_dict`."""
        modalities = values["modalities"]
        return cls(**{**values, "modalities": None if modalities is None else tuple(modalities)})


def make_hyperparameters(backbone: str, values: Mapping[str, Any]) -> Hyperparameters:
    """Builds a backbone's hyper-parameters from values given as numbers or text.

    Raises:
      ConfigError: unknown backbone or name, or a value of the wrong type.
    """
    try:
        kind = get_backbone(backbone).hyperparameters
    except ValueError as error:
        raise ConfigError(str(error)) from None
    fields = get_type_hints(kind)
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise ConfigError(f"{backbone} has no hyper-parameter {', '.join(unknown)}; it has {', '.join(fields)}")
    return kind(**{name: _convert(name, value, fields[name]) for name, value in values.items()})


def _convert(name: str, value: Any, kind: type) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        number = float(value)
        if not math.isfinite(number) or (kind is int and number != int(number)):
            raise ValueError
        return kind(number)
    except (KeyError, ValueError, TypeError):
        raise ConfigError(f"hyper-parameter {name} must be of type {kind.__name__}, got {value!r}") from None


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
