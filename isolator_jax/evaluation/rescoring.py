"""D- and U-ISOLATOR for a model trained elsewhere, given by embeddings or by scores.

What the model was trained with is not known here, so U-ISOLATOR is the paper's "U w/o TS"
unless its training used Eq. 7. D-ISOLATOR ranks as f does.

U multiplies ELU'(f) by a factor that differs by at most e^iota between two items, since g
lies in [-1, 1] and sigmoid(1) / sigmoid(-1) = e. How much it reorders thus depends on the
scale and the offset of f: below 0, log ELU'(f) is f itself; above, it is log(1 + f), which
flattens large scores. Scores are never rescaled here.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from isolator_jax import checks
from isolator_jax._fast import log_elu_prime
from isolator_jax.content import Content
from isolator_jax.evaluation import entry
from isolator_jax.evaluation.evaluate import evaluate
from isolator_jax.evaluation.grid import AIMS, Baseline, Settings, UParameters, choose_setting, evaluate_settings
from isolator_jax.evaluation.metrics import NO_ITEM, RECALL, UCBIAS, UCBIAS_K
from isolator_jax.evaluation.ranking import top_k_lists
from isolator_jax.evaluation.scores import Model
from isolator_jax.histories import Histories
from isolator_jax.strategies import BASELINE, MAIN, STRATEGIES, TUNED

PAPER_GRID = Settings()

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclasses.dataclass(frozen=True)
class Rescored:
    """A model's lists under vanilla, d and, where it has a setting, u.

    Attributes:
      users: `[N] int32`, all users with training items.
      lists: items `[N, K] int32` by strategy, best first, `NO_ITEM` where there are fewer.
      scores: the strategies' scores `[N, K] float32` of these items.
      parameters: of U-ISOLATOR; None where it is not among them.
    """

    users: np.ndarray
    lists: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    parameters: UParameters | None = None


def rescore(
    model: Model, histories: Histories, content: Content, parameters: UParameters | None, *, k: int
) -> Rescored:
    """Lists of all users with training items, in one pass over the scores.

    Args:
      model: embeddings or scores, as in `ranking.top_k_lists`.
      histories: training items, left out of the lists.
      content: from the same histories.
      parameters: of U-ISOLATOR; None leaves it out.
      k: list length.

    Raises:
      TypeError, ValueError: arguments that do not fit each other, parameters out of range.

    Examples:
      >>> from isolator_jax import make_content
      >>> users, items = np.repeat(np.arange(4), 2), np.array([0, 1, 2, 3, 0, 2, 1, 3])
      >>> histories = Histories.from_pairs(users, items, num_users=4)
      >>> content = make_content({"image": np.eye(6)[[0, 0, 1, 1, 0, 1]]}, histories)
      >>> scores = np.tile(np.arange(6.0) / 10, (4, 1))
      >>> rescored = rescore(scores, histories, content, UParameters(alpha=2.0, beta=5.0, iota=1.0), k=3)
      >>> rescored.lists["d"][0].tolist(), rescored.lists["u"][0].tolist()  # user 0 has items like 4
      ([5, 4, 3], [4, 5, 3])
    """
    checks.instance("content", content, Content)
    model = entry.model_of(model)
    checks.instance("histories", histories, Histories)
    users = histories.users_with_items()
    if parameters is not None:
        checks.instance("parameters", parameters, UParameters)
    values = {} if parameters is None else parameters._asdict()
    strategies = {name: STRATEGIES[name].of(values) for name in MAIN if set(STRATEGIES[name].parameters) <= set(values)}
    # D reads no content and ranks as Vanilla does, by f: its lists are there already.
    ranked = {name: strategy for name, strategy in strategies.items() if name == BASELINE or strategy.needs_content}
    lists = top_k_lists(model, users, histories, ranked, content, k=k)
    lists = {name: lists.get(name, lists[BASELINE]) for name in strategies}
    return Rescored(
        users=users,
        lists={name: np.asarray(items) for name, (items, _) in lists.items()},
        scores={name: np.asarray(strategies[name].score(jnp.asarray(key))) for name, (_, key) in lists.items()},
        parameters=parameters,
    )


def tune(
    model: Model,
    histories: Histories,
    validation: Histories,
    content: Content,
    settings: Settings = PAPER_GRID,
    *,
    aim: str = "recall",
) -> tuple[UParameters | None, float]:
    """The setting of the grid that is best on validation for an aim, the first of equals, and its Recall@20.

    Args:
      model, histories, content: as in `rescore`.
      validation: held-out items to choose by.
      settings: the grid; the paper's by default.
      aim: one of `grid.AIMS`, held against plain f.

    Returns:
      The setting and its validation Recall@20; None and NaN where no setting qualifies.

    Raises:
      TypeError, ValueError: arguments that do not fit each other, an unknown aim.

    Examples:
      >>> from isolator_jax import make_content
      >>> users, items = np.repeat(np.arange(4), 2), np.array([0, 1, 2, 3, 0, 2, 1, 3])
      >>> histories = Histories.from_pairs(users, items, num_users=4)
      >>> content = make_content({"image": np.eye(6)[[0, 0, 1, 1, 0, 1]]}, histories)
      >>> validation = Histories.from_pairs(np.arange(4), np.array([4, 5, 4, 5]), num_users=4)
      >>> scores = np.tile(np.arange(6.0), (4, 1))
      >>> tune(scores, histories, validation, content)  # six items: every list of 20 has them all
      (UParameters(alpha=2.0, beta=1.0, iota=0.001), 1.0)
    """
    checks.option("aim", aim, AIMS)
    metrics = evaluate_settings(model, None, histories, settings, content, truth=validation, ks=(UCBIAS_K,))
    recall, ucbias = metrics[RECALL], metrics[UCBIAS]
    plain = None
    if aim != "recall":
        strategies = {BASELINE: STRATEGIES[BASELINE].make()}
        of_plain = evaluate(model, None, histories, strategies, content, truth=validation, ks=(UCBIAS_K,))
        plain = Baseline(*(of_plain[BASELINE].metrics[name] for name in (RECALL, UCBIAS)))
    best = choose_setting(recall, ucbias, aim=aim, vanilla=plain)
    return (None, float("nan")) if best is None else (settings.all()[best], float(recall.flat[best]))


class ScoreSummary(NamedTuple):
    """What f looks like on the lists it ranks, and what ELU' makes of it.

    Attributes:
      quantiles: of f, by the share below (`QUANTILES`).
      equal: share of neighbours on a list with equal f in float32: Vanilla and D order them by item id.
      tied: share of neighbours on a list with different f that U's key, log ELU'(f) + iota * log sigmoid(g),
        makes equal in float32 where g is equal (taken at g = 0); that log ELU'(f) does, without U.
      span: how far log ELU'(f) falls from the first to the last place, median over users.
        U moves it by at most iota.
      changed: share of users whose U list has other items or another order than f's; NaN without U.
    """

    quantiles: dict[float, float]
    equal: float
    tied: float
    span: float
    changed: float


def summarize_scores(rescored: Rescored) -> ScoreSummary:
    """Describes a model's f by its lists; NaN where there is nothing to describe.

    Raises:
      TypeError: not what `rescore` gives.

    Examples:
      >>> lists = {"vanilla": np.array([[3, 1, 2]]), "u": np.array([[1, 3, 2]])}
      >>> summary = summarize_scores(Rescored(np.arange(1), lists, {"vanilla": np.float32([[3.0, 1.0, 0.0]])}))
      >>> summary.changed, round(summary.span, 4)
      (1.0, 1.3863)
    """
    checks.instance("rescored", rescored, Rescored)
    filled = rescored.lists[BASELINE] != NO_ITEM
    f = rescored.scores[BASELINE]
    values = f[filled]
    # As float32 computes it for ranking.
    log_elu = np.where(filled, np.asarray(log_elu_prime(jnp.where(filled, f, 0.0))), np.nan)
    neighbours = int(filled[:, 1:].sum())
    different = (f[:, :-1] != f[:, 1:]) & filled[:, 1:]
    iota = rescored.parameters.iota if rescored.parameters else 0.0
    key = log_elu + np.float32(iota * np.log(0.5))
    tied = different & (key[:, :-1] == key[:, 1:])
    rows = log_elu[filled.any(axis=1)]
    spans = np.nanmax(rows, axis=1) - np.nanmin(rows, axis=1)
    u_lists = rescored.lists.get(TUNED)
    return ScoreSummary(
        quantiles={q: float(np.quantile(values, q)) if values.size else float("nan") for q in QUANTILES},
        equal=1 - float(different.sum() / neighbours) if neighbours else float("nan"),
        tied=float(tied.sum() / max(different.sum(), 1)) if neighbours else float("nan"),
        span=float(np.median(spans)) if spans.size else float("nan"),
        changed=float("nan") if u_lists is None else float((u_lists != rescored.lists[BASELINE]).any(axis=1).mean()),
    )
