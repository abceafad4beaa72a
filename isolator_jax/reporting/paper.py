"""The numbers behind the paper's tables and figures, from trained models: evaluations in, tables out.

Every function returns a tidy `pandas.DataFrame`, a row for each number with what it belongs to:
what is drawn or typeset, and what the CSV beside it holds. The paper's claims are in `claims`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from isolator_jax.evaluation import Groups, ucbias
from isolator_jax.evaluation.metrics import RECALL, RHO, UCBIAS, nan_mean
from isolator_jax.evaluation.resampling import two_sided_p
from isolator_jax.evaluation.significance import bootstrap_ucbias, holm, paired_test
from isolator_jax.reporting.model import (
    Measured,
    ModelResults,
    equal_activity_groups,
    measured,
    measured_biases,
    share_groups,
    tied_columns,
)
from isolator_jax.strategies import BASELINE

ACCURACY = ("recall@10", RECALL, "ndcg@10", "ndcg@20")


def means(models: Sequence[ModelResults], strategies: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over the seeds, and the significance against Vanilla.

    `p over users` is the p-value against the same model's Vanilla over users: of the paired t-test
    (values averaged over the seeds), or for the size of UCBias of the bootstrap; NaN for rho.
    `p over seeds` is that of the paired t-test over seeds, where there are several; NaN for a UCBias whose mean
    differs in size the other way than its seeds do. Each is adjusted
    by Holm's method for all tests of its kind in the table.

    Returns:
      Rows of the models' labels, `strategy`, `metric`, `mean`, `deviation`, `p over users`,
      `p over seeds` and, for UCBias, how many users are `tied consistent` and `tied diverse`.
    """
    rows = []
    for model in models:
        groups = share_groups(model) if UCBIAS in metrics else None
        biases = measured_biases([model], [BASELINE, *strategies], groups) if groups is not None else {}
        for strategy in strategies:
            for metric in metrics:
                if metric == UCBIAS and groups is not None:
                    number, vanilla = biases[model.backbone, strategy], biases[model.backbone, BASELINE]
                else:
                    number, vanilla = measured(model, strategy, metric), measured(model, BASELINE, metric)
                over_users, over_seeds = (np.nan, np.nan) if strategy == BASELINE else _p_values(number, vanilla)
                rows.append(
                    {
                        **model.labels(),
                        "strategy": strategy,
                        "metric": metric,
                        "mean": number.value,
                        "deviation": np.std(number.seeds, ddof=1) if number.seeds.size > 1 else np.nan,
                        "p over users": over_users,
                        "p over seeds": over_seeds,
                        **(tied_columns(groups) if metric == UCBIAS and groups is not None else {}),
                    }
                )
    frame = pd.DataFrame(rows)
    return frame.assign(**{name: holm(frame[name]) for name in ("p over users", "p over seeds")})


def _p_values(number: Measured, other: Measured) -> tuple[float, float]:
    """Over users and over seeds; a UCBias, which has draws, is compared by size.

    Over seeds it is NaN where the size of the mean differs one way and the sizes of the seeds the other.
    """
    if number.draws is not None and other.draws is not None:
        sizes = np.abs(number.draws.mean(axis=0)) - np.abs(other.draws.mean(axis=0))
        of_seeds = np.abs(number.seeds), np.abs(other.seeds)
        agree = (abs(number.value) - abs(other.value)) * (of_seeds[0].mean() - of_seeds[1].mean()) >= 0
        return two_sided_p(sizes), paired_test(*of_seeds) if agree else np.nan
    over_users = np.nan
    if number.users is not None and other.users is not None:
        over_users = paired_test(number.users.mean(axis=0), other.users.mean(axis=0))
    return over_users, paired_test(number.seeds, other.seeds)


def bias(models: Sequence[ModelResults], strategies: Sequence[str], percents: Sequence[int] = (20,)) -> pd.DataFrame:
    """UCBias@20 with its 95 % bootstrap interval over users, recall averaged over the seeds.

    Returns:
      Rows of the models' labels, `strategy`, `percent`, `ucbias`, `low`, `high`, `ucbias deviation` over
      the seeds (NaN of one), `tied consistent` and `tied diverse`.
    """
    rows = []
    for model in models:
        for percent in percents:
            groups = share_groups(model, percent)
            for strategy in strategies:
                recall = model.per_user(strategy)
                low, high = bootstrap_ucbias(recall, model.users, groups)
                of_seeds = [ucbias(seed.per_user[RECALL], model.users, groups) for seed in model.evaluations[strategy]]
                rows.append(
                    {
                        **model.labels(),
                        "strategy": strategy,
                        "percent": percent,
                        "ucbias": ucbias(recall, model.users, groups),
                        "low": low,
                        "high": high,
                        "ucbias deviation": np.std(of_seeds, ddof=1) if len(of_seeds) > 1 else np.nan,
                        **tied_columns(groups),
                    }
                )
    return pd.DataFrame(rows)


def rho_and_recall(models: Sequence[ModelResults]) -> pd.DataFrame:
    """Fig. 1: Vanilla's Recall@20 and rho, for each modality and averaged; means over the seeds.

    Returns:
      Rows of the models' labels, `similarity` (as `rho` or `rho/MODALITY`), `rho` and `recall@20`.
    """
    rows = []
    for model in models:
        values = pd.DataFrame([evaluation.metrics for evaluation in model.evaluations[BASELINE]]).mean()
        for name in [metric for metric in values.index if metric.partition("/")[0] == RHO]:
            rows.append({**model.labels(), "similarity": name, "rho": values[name], RECALL: values[RECALL]})
    return pd.DataFrame(rows)


def bias_at_equal_activity(models: Sequence[ModelResults], *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Fig. 3: UCBias among users with the median number of training interactions, or near it.

    Equally many users of both groups are drawn without replacement, again and again. The spread of
    these draws says how much the choice of users matters, not how far other users would differ: it is
    no confidence interval. That is the bootstrap's, over all users of both groups there.

    Args:
      models: Vanilla is looked at.
      draws: number of samples.
      seed: of the samples.

    Returns:
      Rows of the models' labels, `median`, `fewest` and `most` interactions of the users taken (see
      `evaluation.equal_activity`), `consistent users` and `diverse users` to draw from, `size` of a
      sample of each, `ucbias` of all of them, its 95 % bootstrap interval `low` and `high`, the 2.5 and
      97.5 percentiles of the draws `draws low` and `draws high`, and `tied consistent` and `tied diverse`.
    """
    rows = []
    for model in models:
        recall, active = model.per_user(BASELINE), equal_activity_groups(model)
        size, differences = _repeated_draws(model, recall, active.groups, draws=draws, seed=seed)
        low, high = bootstrap_ucbias(recall, model.users, active.groups)
        draws_low, draws_high = np.percentile(differences, [2.5, 97.5])
        rows.append(
            {
                **model.labels(),
                "median": active.median,
                "fewest": active.fewest,
                "most": active.most,
                "consistent users": np.count_nonzero(active.groups.consistent),
                "diverse users": np.count_nonzero(active.groups.diverse),
                "size": size,
                "ucbias": ucbias(recall, model.users, active.groups),
                "low": low,
                "high": high,
                "draws low": draws_low,
                "draws high": draws_high,
                **tied_columns(active.groups),
            }
        )
    return pd.DataFrame(rows)


def confounding(
    models: Sequence[ModelResults], references: Sequence[ModelResults], strategies: Sequence[str]
) -> pd.DataFrame:
    """How much of UCBias@20 activity and popularity explain, beside rankers that know nothing else.

    Args:
      models: under `strategies`, with `equal_popularity`.
      references: rankers by popularity alone and by content alone, under Vanilla.
      strategies: those shown of the models.

    Returns:
      Rows of `label`, `strategy`, Recall@20, UCBias@20 with its 95 % bootstrap interval `low` and
      `high`, the same `at equal activity` with `activity low` and `activity high` (as Fig. 3 has it),
      and `at equal popularity`, means over the seeds; and `tied consistent` and `tied diverse`.
    """
    rows = []
    for model, strategy in [(m, BASELINE) for m in references] + [(m, s) for m in models for s in strategies]:
        groups, active, recall = share_groups(model), equal_activity_groups(model).groups, model.per_user(strategy)
        low, high = bootstrap_ucbias(recall, model.users, groups)
        active_low, active_high = bootstrap_ucbias(recall, model.users, active)
        rows.append(
            {
                "label": model.label,
                "strategy": strategy,
                RECALL: nan_mean(recall),
                UCBIAS: ucbias(recall, model.users, groups),
                "low": low,
                "high": high,
                "at equal activity": ucbias(recall, model.users, active),
                "activity low": active_low,
                "activity high": active_high,
                "at equal popularity": float(np.mean(model.equal_popularity[strategy])),
                **tied_columns(groups),
            }
        )
    return pd.DataFrame(rows)


def _repeated_draws(
    model: ModelResults, recall: np.ndarray, groups: Groups, *, draws: int, seed: int
) -> tuple[int, np.ndarray]:
    """Differences of the mean recalls of equally many users of both groups, drawn without replacement.

    Each sample has half as many users as the smaller group, at least one, from a group in which the users
    tied at its cut, who are in it in part, take the places left by lot.

    Returns:
      The size of a sample, and the differences `[draws]`, NaN where a group has nobody.
    """
    weights = [group[model.users] for group in (groups.consistent, groups.diverse)]
    size = max(1, int(min(group.sum() for group in weights)) // 2)
    if min(round(group.sum()) for group in weights) < size:
        return size, np.full(draws, np.nan)
    rng = np.random.default_rng(seed)

    def means(group: np.ndarray) -> np.ndarray:
        whole, tied = recall[group == 1], recall[(group > 0) & (group < 1)]
        places = round(group.sum()) - whole.size

        def drawn() -> np.ndarray:
            filled = np.append(whole, rng.choice(tied, places, replace=False)) if tied.size else whole
            return rng.choice(filled, size, replace=False)

        return np.array([drawn().mean() for _ in range(draws)])

    return size, means(weights[0]) - means(weights[1])
