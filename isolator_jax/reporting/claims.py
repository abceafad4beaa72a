"""Which of the paper's claims hold on trained models of one dataset, and whether chance may explain it.

Each claim is a set of comparisons of two numbers, of a model or a pair of models each. A comparison's
verdict is one of `VERDICTS`. The paper makes its claims on D, U and the training strategy for the
multi-modal models: backbones that use no content are counterparts, and counted nowhere else.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy

from isolator_jax.evaluation import Groups
from isolator_jax.evaluation.metrics import RECALL, RHO, UCBIAS
from isolator_jax.evaluation.resampling import two_sided_p
from isolator_jax.evaluation.significance import holm, paired_test
from isolator_jax.reporting.model import (
    SHARES,
    SIGNIFICANT,
    Measured,
    ModelResults,
    equal_activity_groups,
    measured,
    measured_biases,
    share_groups,
    tied_columns,
)
from isolator_jax.reporting.noise import p_over_users_and_seeds, spread
from isolator_jax.reporting.tables import metric_label, strategy_label
from isolator_jax.strategies import MAIN, STRATEGIES

VERDICTS = ("holds beyond noise", "sign only", "equal", "against", "against beyond noise", "undefined")

VANILLA, U_WITHOUT_TS, TS, D, U = STRATEGIES

# The first that a comparison is tested by decides whether its difference is beyond noise.
DECIDING = ("p over users and seeds", "p over users", "p over models", "p over seeds")

COLUMNS = (
    *("section", "claim", "case", "subject", "other", "difference", "deviation over seeds", "verdict", "test"),
    *("p over users and seeds", "p over users", "p over seeds", "p over models", "seeds", "seeds agreeing"),
    *("tied consistent", "tied diverse"),
)


class Claim(NamedTuple):
    """What is claimed: the subject's number is higher than the other's.

    Attributes:
      section: of the paper, and the artefact that shows it.
      text: the claim.
      lower: whether it is lower instead.
      size: whether sizes are compared (UCBias: of -.03 and +.01 the second is the smaller bias).
    """

    section: str
    text: str
    lower: bool = False
    size: bool = False


class _Difference(NamedTuple):
    """A claim on strategies: the subject's metric is higher than the other's, or lower; of which models."""

    section: str
    subject: str
    relation: str
    metric: str
    other: str
    graph_only: bool = False


_TABLE2, _FIG5, _FIG6 = "5.1, Table 2", "5.3, Fig. 5", "5.4, Fig. 6"
_DIFFERENCES = (
    _Difference(_TABLE2, D, "higher", RECALL, VANILLA),
    _Difference(_TABLE2, U, "higher", RECALL, VANILLA),
    _Difference(_TABLE2, U, "higher", RECALL, D),
    _Difference(_FIG5, D, "smaller", UCBIAS, VANILLA),
    _Difference(_FIG5, D, "smaller", UCBIAS, U),
    _Difference(_FIG5, U, "smaller", UCBIAS, VANILLA, graph_only=True),
    _Difference(_FIG6, TS, "higher", RECALL, VANILLA),
    _Difference(_FIG6, TS, "larger", UCBIAS, VANILLA),
    *(_Difference(_FIG6, U_WITHOUT_TS, "lower", RECALL, other) for other in (VANILLA, TS, D, U)),
    *(_Difference(_FIG6, U_WITHOUT_TS, "larger", UCBIAS, other) for other in (VANILLA, TS, D, U)),
)


def claims(models: Sequence[ModelResults], of_modalities: Sequence[ModelResults] = ()) -> pd.DataFrame:
    """Every claim of Sec. 3.3 to 3.5 and 5.1 to 5.4 that the models can be held to.

    The tests are two-sided: one over users and seeds alike (`noise`) for Recall@20 and UCBias; over
    users alone the paired t-test (values averaged over the seeds) for Recall@20 and the bootstrap over
    the users of each group for UCBias; the paired t-test over seeds for both and for rho; and a
    permutation test of Pearson's r over the models for the correlation. The p-values of each column are
    adjusted by Holm's method over the whole table.

    A comparison is beyond noise (`holds beyond noise`, `against beyond noise`) where the adjusted
    p over users and seeds is below 0.05 and the difference has its sign in every seed. Where all models of a
    claim have one seed the adjusted p over users decides, which knows nothing of training anew; one beside
    models with more is taken to vary by training as those do. Where there is no
    test over users, that over seeds, and for the correlation that over models.
    Else it is `sign only` or `against`, and `equal` where the numbers do not differ at all, as those
    of two strategies that make the same lists. It is `undefined` where a number is. An undefined
    p-value is never beyond noise. Where one model has fewer seeds than another, means are over all
    that each has, and what is said of seeds is of those that both have.

    Args:
      models: of one dataset, under all strategies.
      of_modalities: the models of Table 3, one backbone on each modality alone and at last on
        all; without them its claims are left out.

    Returns:
      For each claim a row that counts the verdicts (`case` begins with "all"), then a row for each
      comparison: the columns of `COLUMNS`. `subject` and `other` are means over the seeds, with
      their sign; `difference` is that of the sizes where those are compared; `tied` are the users
      tied at the cut of each group.
    """
    rows = [
        *_of_content(models),
        *_of_bias(models),
        *_of_strategies([model for model in models if model.uses_content]),
        *_of_modalities(of_modalities),
    ]
    frame = _over_users_and_seeds(pd.DataFrame(rows).sort_values("section", kind="stable", ignore_index=True))
    frame = frame.assign(**{name: holm(frame[name]) for name in DECIDING})
    frame["verdict"] = [_verdict(row) for row in frame.to_dict("records")]
    counted: list[dict[str, Any]] = []
    for (section, claim), cases in frame.groupby(["section", "claim"], sort=False):
        counts = cases["verdict"].value_counts()
        verdict = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if name in counts)
        counted += [{"section": section, "claim": claim, "case": f"all {len(cases)}", "verdict": verdict}]
        counted += cases.to_dict("records")
    return pd.DataFrame(counted, columns=list(COLUMNS))


def _over_users_and_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """With the p-values of each claim's comparisons, by their spreads together, where a test over users has one."""
    frame["p over users and seeds"] = np.nan
    for _, cases in frame[frame["p over users"].notna()].groupby(["section", "claim"], sort=False):
        p_values = p_over_users_and_seeds(cases["difference"].tolist(), cases["spread"].tolist())
        frame.loc[cases.index, "p over users and seeds"] = p_values
    decided = frame["p over users and seeds"].notna()
    frame.loc[decided, "test"] = "t over users and seeds, " + frame.loc[decided, "test"]
    return frame


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `claims` that count a claim's verdicts: section, claim, verdict."""
    return frame.loc[frame["case"].str.startswith("all "), ["section", "claim", "verdict"]]


def _row(claim: Claim, case: str, sides: Iterable[Measured], groups: Groups | None = None) -> dict[str, Any]:
    """A comparison's row, p-values not yet adjusted: the claim's subject and the other; `groups` are a UCBias's."""
    subject, other = sides

    def compared(number: Any) -> Any:
        return np.abs(number) if claim.size else number

    difference = _rounded(compared(subject.value) - compared(other.value))
    shared = min(subject.seeds.size, other.seeds.size)
    first, second = compared(subject.seeds[:shared]), compared(other.seeds[:shared])
    over_users, tests = np.nan, ["paired t over seeds"]
    if subject.users is not None and other.users is not None:
        over_users = paired_test(subject.users.mean(axis=0), other.users.mean(axis=0))
        tests = ["paired t over users", *tests]
    elif subject.draws is not None and other.draws is not None:
        over_users = two_sided_p(compared(subject.draws.mean(axis=0)) - compared(other.draws.mean(axis=0)))
        tests = ["bootstrap over users", *tests]
    of_seeds = _rounded(first - second)
    return {
        "section": claim.section,
        "claim": claim.text,
        "case": case,
        "subject": subject.value,
        "other": other.value,
        "difference": float(difference),
        "deviation over seeds": np.std(of_seeds, ddof=1) if of_seeds.size > 1 else np.nan,
        "lower": claim.lower,
        "spread": spread(subject, other, sizes=claim.size),
        "test": ", ".join(tests),
        "p over users": over_users,
        "p over seeds": paired_test(first, second),
        "p over models": np.nan,
        "seeds": of_seeds.size,
        "seeds agreeing": int(np.sum(np.sign(of_seeds) == np.sign(difference))),
        **({} if groups is None else tied_columns(groups)),
    }


def _rounded(difference: Any) -> Any:
    """Without what comes of summing equal values in another order."""
    return np.round(difference, 12)


def _verdict(row: Mapping[str, Any]) -> str:
    """The verdict of a row whose p-values are adjusted."""
    difference = row["difference"]
    if np.isnan(difference):
        return "undefined"
    if difference == 0:
        return "equal"
    p = next(row[name] for name in DECIDING if name.removeprefix("p ") in row["test"])
    beyond = p < SIGNIFICANT and row["seeds agreeing"] == row["seeds"]
    if difference < 0 if row["lower"] else difference > 0:
        return "holds beyond noise" if beyond else "sign only"
    return "against beyond noise" if beyond else "against"


def _pairs(models: Sequence[ModelResults]) -> Iterator[tuple[str, ModelResults, ModelResults]]:
    """Multi-modal models and their conventional counterparts: those of the same kind that use no content."""
    for model, other in itertools.product(models, models):
        if model.uses_content and not other.uses_content and model.graph_based == other.graph_based:
            yield f"{model.label} over {other.label}", model, other


def _of_content(models: Sequence[ModelResults]) -> Iterator[dict[str, Any]]:
    """Sec. 3.3: accuracy and content similarity of plain models."""
    section = "3.3, Fig. 1"
    for metric in (RHO, RECALL):
        claim = Claim(section, f"{metric_label(metric)} is higher for multi-modal models than for their counterparts")
        for name, model, other in _pairs(models):
            yield _row(claim, name, (measured(model, VANILLA, metric), measured(other, VANILLA, metric)))
    similarities = [name for name in models[0].evaluations[VANILLA][0].metrics if name.startswith(RHO)]
    for similarity in similarities:
        yield _correlation(Claim(section, f"{metric_label(RECALL)} rises with rho over the models"), models, similarity)


def _correlation(claim: Claim, models: Sequence[ModelResults], similarity: str) -> dict[str, Any]:
    """Pearson's r of rho and Recall@20 over the models; its test permutes the models."""
    both = [[measured(model, VANILLA, metric) for model in models] for metric in (similarity, RECALL)]
    shared = min(number.seeds.size for numbers in both for number in numbers)
    rho, recall = (np.array([number.value for number in numbers]) for numbers in both)
    rhos, recalls = (np.array([number.seeds[:shared] for number in numbers]) for numbers in both)

    def r(x: np.ndarray, y: np.ndarray) -> float:
        varied = len(models) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0
        return float(scipy.stats.pearsonr(x, y).statistic) if varied else np.nan

    value, of_seeds = r(rho, recall), np.array(list(map(r, rhos.T, recalls.T)))
    permutations = scipy.stats.PermutationMethod(n_resamples=9999, rng=np.random.default_rng(0))
    p = np.nan
    if not np.isnan(value):
        p = float(scipy.stats.pearsonr(rho, recall, method=permutations).pvalue)
    return {
        **_row(claim, f"{len(models)} models, {metric_label(similarity)}", _against_zero(value, of_seeds)),
        "test": "permutation of Pearson's r over models",
        "p over seeds": np.nan,
        "p over models": p,
    }


def _against_zero(value: float, seeds: np.ndarray, draws: np.ndarray | None = None) -> tuple[Measured, Measured]:
    """A number, and zero to compare it with."""
    zero = Measured(0.0, np.zeros_like(seeds), draws=None if draws is None else np.zeros_like(draws))
    return Measured(value, seeds, draws=draws), zero


def _of_bias(models: Sequence[ModelResults]) -> Iterator[dict[str, Any]]:
    """Sec. 3.4 and 3.5: UCBias of plain models, for each share of the groups and at equal activity."""
    for percent in SHARES:
        yield from _of_groups("3.4, Fig. 2", f"groups of {percent} %", models, share_groups(models[0], percent))
    yield from _of_groups("3.5, Fig. 3", "equal activity", models, equal_activity_groups(models[0]).groups)


def _of_groups(section: str, where: str, models: Sequence[ModelResults], groups: Groups) -> Iterator[dict[str, Any]]:
    """Whether UCBias between the groups is positive, and larger for multi-modal models."""
    biases = measured_biases(models, [VANILLA], groups)
    claim = Claim(section, f"{metric_label(UCBIAS)} is positive, {where}")
    for model in models:
        bias = biases[model.backbone, VANILLA]
        yield _row(claim, model.label, _against_zero(bias.value, bias.seeds, bias.draws), groups)
    claim = Claim(
        section,
        f"{metric_label(UCBIAS)} is larger for multi-modal models than for their counterparts, {where}",
        size=True,
    )
    for name, model, other in _pairs(models):
        sides = [biases[side.backbone, VANILLA] for side in (model, other)]
        yield _row(claim, name, sides, groups)


def _of_strategies(models: Sequence[ModelResults]) -> Iterator[dict[str, Any]]:
    """Sec. 5.1, 5.3 and 5.4: the variants of the multi-modal models."""
    if not models:
        return
    groups = share_groups(models[0])
    biases = measured_biases(models, list(STRATEGIES), groups)
    for section, subject, relation, metric, other, graph_only in _DIFFERENCES:
        text = f"{strategy_label(subject)} has {relation} {metric_label(metric)} than {strategy_label(other)}"
        claim = Claim(
            section,
            f"{text}, graph models" if graph_only else text,
            lower=relation in ("lower", "smaller"),
            size=metric == UCBIAS,
        )
        for model in models:
            if graph_only and not model.graph_based:
                continue
            if metric == UCBIAS:
                sides = [biases[model.backbone, strategy] for strategy in (subject, other)]
            else:
                sides = [measured(model, strategy, metric) for strategy in (subject, other)]
            yield _row(claim, model.label, sides, groups if metric == UCBIAS else None)


def _of_modalities(models: Sequence[ModelResults]) -> Iterator[dict[str, Any]]:
    """Sec. 5.2: one backbone on each modality alone and on all; c_u and its groups are of those it uses."""
    section, names = "5.2, Table 3", ["+".join(model.modalities) for model in models]
    vanilla, recall, bias = strategy_label(VANILLA), metric_label(RECALL), metric_label(UCBIAS)
    gaining = [strategy for strategy in MAIN if strategy != VANILLA]
    for strategy in gaining:
        claim = Claim(section, f"{strategy_label(strategy)} has higher {recall} than {vanilla} on each modality")
        for name, model in zip(names, models, strict=True):
            yield _row(claim, name, (measured(model, side, RECALL) for side in (strategy, VANILLA)))
    of_models = [(share_groups(model), model) for model in models]
    biases = [measured_biases([model], MAIN, groups) for groups, model in of_models]
    for strategy in gaining:
        text = f"{strategy_label(strategy)} has smaller {bias} than {vanilla} on each modality"
        claim = Claim(section, text, lower=True, size=True)
        for name, (groups, model), of_model in zip(names, of_models, biases, strict=True):
            sides = [of_model[model.backbone, side] for side in (strategy, VANILLA)]
            yield _row(claim, name, sides, groups)
    claim = Claim(section, f"All modalities together have higher {recall} than one alone")
    for name, model in list(zip(names, models, strict=True))[:-1]:
        for strategy in MAIN:
            sides = [measured(side, strategy, RECALL) for side in (models[-1], model)]
            yield _row(claim, f"{strategy_label(strategy)}, over {name}", sides)
