"""The one ordered catalogue of strategies: how they are called, made, and what they need.

A strategy is a way to rank items at inference. The catalogue's names stand in tables, search
results and folders of figures; nothing else lists, orders, labels or makes strategies by name.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.tree_util import Partial

from isolator_jax import checks
from isolator_jax._fast import log_training_score, log_u_score, raw_score
from isolator_jax.scoring import elu_prime


@struct.dataclass
class Strategy:
    """One way to rank items at inference: a pytree whose leaves are the strategy's parameters.

    Attributes:
      key: `(f [], s [T], c [T]) -> []`, the value items are ranked by.
      score: turns a ranking key into the strategy's score.
      needs_content: whether the key reads s or c; without it, they may be None.
    """

    key: Partial
    score: Callable[[Array], Array] = struct.field(pytree_node=False)
    needs_content: bool = struct.field(pytree_node=False, default=False)


def _itself(key: Array) -> Array:
    return key


def vanilla() -> Strategy:
    """Plain f.

    Examples:
      >>> strategy = vanilla()
      >>> float(strategy.score(strategy.key(-1.5, None, None)))
      -1.5
    """
    return Strategy(Partial(raw_score), _itself)


def training_strategy(gamma: float) -> Strategy:
    """The training score at inference too ("Vanilla w/ TS").

    Raises:
      TypeError, ValueError: gamma that is no number of at least 0.

    Examples:
      >>> strategy = training_strategy(gamma=0.1)
      >>> print(f"{strategy.score(strategy.key(2.0, jnp.array([0.5]), None)):.4f}")  # `training_score`
      2.8611
    """
    key = Partial(log_training_score, gamma=checks.scalar("gamma", gamma, least=0))
    return Strategy(key, jnp.exp, needs_content=True)


def d_isolator() -> Strategy:
    """D-ISOLATOR (Eq. 10). Ranked by f itself: no rounding of ELU' can reorder items.

    Examples:
      >>> strategy = d_isolator()
      >>> print(f"{strategy.score(strategy.key(-1.0, None, None)):.4f}")  # `d_score`
      0.3679
    """
    return Strategy(Partial(raw_score), elu_prime)


def u_isolator(alpha: float, beta: float, iota: float) -> Strategy:
    """U-ISOLATOR (Eq. 11, 13).

    Raises:
      TypeError, ValueError: a parameter that is no number of at least 0.

    Examples:
      >>> strategy = u_isolator(alpha=2.0, beta=5.0, iota=1.0)
      >>> print(f"{strategy.score(strategy.key(2.0, jnp.array([0.3]), jnp.array([0.5]))):.4f}")  # `u_score`
      1.5568
    """
    parameters = {"alpha": alpha, "beta": beta, "iota": iota}
    key = Partial(log_u_score, **{name: checks.scalar(name, value, least=0) for name, value in parameters.items()})
    return Strategy(key, jnp.exp, needs_content=True)


@dataclasses.dataclass(frozen=True)
class StrategyEntry:
    """A strategy of the paper: one of the variants of Fig. 6.

    Attributes:
      name: its key in the catalogue.
      in_run: its name in the report of a run, where it is known what the model was trained with.
      label: its name in tables and figures.
      paper: its name in Fig. 6.
      make: makes it from its parameters.
      parameters: their names.
      needs_s, needs_c: whether its score reads s_ui, and c_u.
      trained: whether its model is trained with the training score (Eq. 7), or by plain BPR.
      main: whether Tables 2 and 3 and Fig. 5 show it.
    """

    name: str
    in_run: str
    label: str
    paper: str
    make: Callable[..., Strategy]
    parameters: tuple[str, ...] = ()
    needs_s: bool = False
    needs_c: bool = False
    trained: bool = True
    main: bool = False

    def of(self, values: Mapping[str, Any]) -> Strategy:
        """The strategy with its parameters out of `values`, which may hold others."""
        return self.make(**{name: values[name] for name in self.parameters})


_U: dict[str, Any] = {
    "in_run": "u",
    "make": u_isolator,
    "parameters": ("alpha", "beta", "iota"),
    "needs_s": True,
    "needs_c": True,
}
_ENTRIES = (
    StrategyEntry("vanilla", "vanilla", "Vanilla", "Vanilla", vanilla, trained=False, main=True),
    StrategyEntry("u_without_training_strategy", label="U w/o TS", paper="U w/o TS", trained=False, **_U),
    StrategyEntry(
        "training_strategy",
        "training_strategy",
        "Vanilla w/ TS",
        "Vanilla w/ TS",
        training_strategy,
        ("gamma",),
        needs_s=True,
    ),
    StrategyEntry("d", "d", "D-ISOLATOR", "D", d_isolator, main=True),
    StrategyEntry("u", label="U-ISOLATOR", paper="U", main=True, **_U),
)

STRATEGIES: dict[str, StrategyEntry] = {entry.name: entry for entry in _ENTRIES}
LABELS: dict[str, str] = {name: entry.label for name, entry in STRATEGIES.items()}
MAIN: tuple[str, ...] = tuple(name for name, entry in STRATEGIES.items() if entry.main)
IN_RUNS: tuple[str, ...] = tuple(dict.fromkeys(entry.in_run for entry in STRATEGIES.values()))
# What all strategies are held against, and the one whose parameters are chosen on validation.
BASELINE, TUNED = "vanilla", "u"


def strategies_of_run(values: Mapping[str, Any], *, trained: bool, with_content: bool) -> dict[str, Strategy]:
    """The strategies that a run's model is evaluated under, by their names in its report.

    A model trained with the training score: `training_strategy`, `d` and `u`. A plain model:
    `vanilla`, and `u`, which is then the paper's "U w/o TS". Without content, only those that
    read no similarity.

    Args:
      values: the strategies' parameters by name.
      trained: whether the model was trained with the training score.
      with_content: whether there are item features.

    Examples:
      >>> values = {"gamma": 0.1, "alpha": 2.0, "beta": 5.0, "iota": 0.1}
      >>> list(strategies_of_run(values, trained=True, with_content=True))
      ['training_strategy', 'd', 'u']
      >>> list(strategies_of_run(values, trained=False, with_content=False))
      ['vanilla']
    """
    return {
        entry.in_run: entry.of(values)
        for entry in STRATEGIES.values()
        if entry.trained == trained and (with_content or not (entry.needs_s or entry.needs_c))
    }


def name_beside_others(in_run: str, *, trained: bool) -> str:
    """The catalogue's name of a strategy in a run's report: U on a plain model is "U w/o TS".

    A strategy of the other kind of model, as the plain Vanilla that joins a trained run's report, has its own.

    Examples:
      >>> name_beside_others("u", trained=False), name_beside_others("u", trained=True)
      ('u_without_training_strategy', 'u')
    """
    same = (name for name, entry in STRATEGIES.items() if (entry.in_run, entry.trained) == (in_run, trained))
    return next(same, in_run)
