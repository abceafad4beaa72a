"""The numbers behind the paper's tables and figures, from trained models: evaluations in, tables out.

Every function returns a tidy `pandas.DataFrame`, a row for each number with what it belongs to:
what is drawn or typeset, and what the CSV beside it holds.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from isolator_jax.evaluation import Evaluation, Groups, consistency_groups, ucbias
from isolator_jax.evaluation.significance import bootstrap_ucbias, holm, paired_test

NAMES = {
    "mfbpr": "MFBPR",
    "lightgcn": "LightGCN",
    "vbpr": "VBPR",
    "grcn": "GRCN",
    "slmrec": "SLMRec",
    "mgcn": "MGCN",
    "gume": "GUME",
}
CONVENTIONAL = ("mfbpr", "lightgcn")
MATRIX_FACTORISATION = ("mfbpr", "vbpr")

ACCURACY = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
SHARES = (5, 10, 15, 20, 25)
RECALL, UCBIAS = "recall@20", "ucbias@20"
SIGNIFICANT = 0.05


@dataclasses.dataclass(frozen=True)
class Model:
    """One backbone on one dataset: its test evaluations, and where they come from.

    Attributes:
      dataset, backbone: names.
      modalities: those it used.
      config: what all its numbers carry besides: gamma, hyper-parameters, seeds, and U's
        settings as chosen on validation.
      evaluations: for each strategy an evaluation of each seed.
      consistency: c_u `[U]`, NaN where undefined.
      lengths: n_u `[U]`.
    """

    dataset: str
    backbone: str
    modalities: tuple[str, ...]
    config: Mapping[str, Any]
    evaluations: Mapping[str, Sequence[Evaluation]]
    consistency: np.ndarray
    lengths: np.ndarray

    def per_user(self, strategy: str, metric: str = RECALL) -> np.ndarray:
        """A metric of each ranked user, averaged over the seeds. `[N]`, NaN without held-out items."""
        return np.mean([evaluation.per_user[metric] for evaluation in self.evaluations[strategy]], axis=0)

    def per_seed(self, strategy: str, metric: str) -> np.ndarray:
        """A metric of each seed. `[seeds]`"""
        return np.array([evaluation.metrics[metric] for evaluation in self.evaluations[strategy]])

    @property
    def users(self) -> np.ndarray:
        """Ids of the ranked users, `[N]`."""
        return self.evaluations["vanilla"][0].users

    def labels(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "backbone": self.backbone,
            "modalities": "+".join(self.modalities),
            **self.config,
        }


def means(models: Sequence[Model], strategies: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over the seeds, and the significance against Vanilla.

    `p over users` is the p-value of the paired t-test over users (values averaged over the seeds)
    against the same model's Vanilla, for metrics that are means over users; `p over seeds` that of
    the paired t-test over seeds, where there are several. Each is adjusted by Holm's method for all
    tests of its kind in the table.

    Returns:
      Rows of the models' labels, `strategy`, `metric`, `mean`, `deviation`, `p over users` and
      `p over seeds`.
    """
    rows = []
    for model in models:
        for strategy in strategies:
            for metric in metrics:
                values = model.per_seed(strategy, metric)
                over_users = over_seeds = np.nan
                if strategy != "vanilla":
                    over_seeds = paired_test(values, model.per_seed("vanilla", metric))
                    if metric in model.evaluations[strategy][0].per_user:
                        over_users = paired_test(model.per_user(strategy, metric), model.per_user("vanilla", metric))
                deviation = np.std(values, ddof=1) if len(values) > 1 else np.nan
                rows.append(
                    {
                        **model.labels(),
                        "strategy": strategy,
                        "metric": metric,
                        "mean": np.mean(values),
                        "deviation": deviation,
                        "p over users": over_users,
                        "p over seeds": over_seeds,
                    }
                )
    frame = pd.DataFrame(rows)
    return frame.assign(**{name: holm(frame[name]) for name in ("p over users", "p over seeds")})


def bias(models: Sequence[Model], strategies: Sequence[str], percents: Sequence[int] = (20,)) -> pd.DataFrame:
    """UCBias@20 with its 95 % bootstrap interval over users, recall averaged over the seeds.

    Returns:
      Rows of the models' labels, `strategy`, `percent`, `ucbias`, `low` and `high`.
    """
    return pd.DataFrame(
        {
            **model.labels(),
            "strategy": strategy,
            "percent": percent,
            **_ucbias_with_interval(
                model.per_user(strategy), model.users, consistency_groups(model.consistency, percent)
            ),
        }
        for model in models
        for strategy in strategies
        for percent in percents
    )


def rho_and_recall(models: Sequence[Model]) -> pd.DataFrame:
    """Fig. 1: Vanilla's Recall@20 and rho, for each modality and averaged; means over the seeds.

    Returns:
      Rows of the models' labels, `similarity` (a modality or `average`), `rho` and `recall@20`.
    """
    rows = []
    for model in models:
        metrics = pd.DataFrame([evaluation.metrics for evaluation in model.evaluations["vanilla"]]).mean()
        for name in [column for column in metrics.index if column.startswith("rho")]:
            similarity = name.removeprefix("rho/") if "/" in name else "average"
            rows.append({**model.labels(), "similarity": similarity, "rho": metrics[name], RECALL: metrics[RECALL]})
    return pd.DataFrame(rows)


def bias_at_equal_activity(models: Sequence[Model], *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Fig. 3: UCBias among users with exactly the median number of training interactions.

    The users of both groups with that number and held-out items are sampled without replacement,
    equally many of each: half the smaller group, at least one; again and again.

    Args:
      models: Vanilla is looked at.
      draws: number of samples.
      seed: of the samples.

    Returns:
      Rows of the models' labels, `interactions` (the median), `size` of each sample, `ucbias` (the
      mean of the draws), `low` and `high` (their 2.5 and 97.5 percentiles).
    """
    rows = []
    for model in models:
        recall, users = model.per_user("vanilla"), model.users
        median = int(np.median(model.lengths[model.lengths > 0]))
        groups = consistency_groups(model.consistency)
        usable = (model.lengths[users] == median) & ~np.isnan(recall)
        samples = [recall[usable & (group[users] > 0)] for group in groups[:2]]
        size = max(1, min(len(sample) for sample in samples) // 2)
        differences = np.full(draws, np.nan)
        if all(len(sample) >= size for sample in samples):
            rng = np.random.default_rng(seed)
            consistent, diverse = (
                np.array([rng.choice(sample, size, replace=False).mean() for _ in range(draws)]) for sample in samples
            )
            differences = consistent - diverse
        low, high = np.percentile(differences, [2.5, 97.5])
        rows.append(
            {
                **model.labels(),
                "interactions": median,
                "size": size,
                "ucbias": differences.mean(),
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


class _Case(NamedTuple):
    """One comparison of a claim: its subject's number, and the other's; whether chance may explain the difference."""

    name: str
    subject: float
    other: float
    within_noise: bool = False


def claims(models: Sequence[Model]) -> pd.DataFrame:
    """Which of the paper's claims hold on these models of one dataset, with the numbers.

    A difference is within noise if the paired t-test over users gives a p of at least 0.05
    (Recall@20), or the 95 % bootstrap interval over users contains zero (UCBias); values are
    averaged over the seeds first. The tests of a claim are not adjusted for their number.

    Returns:
      Rows of `claim`, `holds` (how many of how many) and `numbers` (the claim's subject first).
    """
    by_name = {model.backbone: model for model in models}
    multimodal = [name for name in by_name if name not in CONVENTIONAL]
    pairs = [("vbpr", "mfbpr"), *((name, "lightgcn") for name in multimodal if name != "vbpr")]
    pairs = [pair for pair in pairs if set(pair) <= set(by_name)]

    def mean(backbone: str, strategy: str, metric: str) -> float:
        return float(by_name[backbone].per_seed(strategy, metric).mean())

    def compare(claim: str, cases: Sequence[_Case], *, lower: bool = False) -> dict[str, Any]:
        holding = sum(case.subject < case.other if lower else case.subject > case.other for case in cases)
        numbers = "; ".join(
            f"{case.name} {case.subject:.4f} against {case.other:.4f}{' (within noise)' if case.within_noise else ''}"
            for case in cases
        )
        return {"claim": claim, "holds": f"{holding} of {len(cases)}", "numbers": numbers}

    def case(name: str, metric: str, subject: tuple[str, str], other: tuple[str, str]) -> _Case:
        """Backbone and strategy of both sides."""
        sides = [(by_name[backbone], strategy) for backbone, strategy in (subject, other)]
        noise = metric != "rho" and _within_noise(metric, *sides)
        return _Case(name, mean(*subject, metric), mean(*other, metric), noise)

    def of_all(metric: str, subject: str, other: str) -> list[_Case]:
        return [case(NAMES[b], metric, (b, subject), (b, other)) for b in by_name]

    def of_pairs(metric: str) -> list[_Case]:
        return [case(f"{NAMES[b]} over {NAMES[c]}", metric, (b, "vanilla"), (c, "vanilla")) for b, c in pairs]

    def positive(backbone: str) -> _Case:
        model = by_name[backbone]
        noise = _bias_within_noise(model.per_user("vanilla"), model)
        return _Case(NAMES[backbone], mean(backbone, "vanilla", UCBIAS), 0.0, noise)

    rows = [
        compare("Multi-modal models have higher rho than their conventional counterparts", of_pairs("rho")),
        compare("Multi-modal models have higher Recall@20 than their conventional counterparts", of_pairs(RECALL)),
        compare("UCBias is positive", [positive(backbone) for backbone in by_name]),
        compare("UCBias is larger for multi-modal models", of_pairs(UCBIAS)),
        compare("D-ISOLATOR has lower UCBias than Vanilla", of_all(UCBIAS, "d", "vanilla"), lower=True),
        compare("D-ISOLATOR has lower UCBias than U-ISOLATOR", of_all(UCBIAS, "d", "u"), lower=True),
        compare("U-ISOLATOR has higher Recall@20 than Vanilla", of_all(RECALL, "u", "vanilla")),
        compare("U-ISOLATOR has higher Recall@20 than D-ISOLATOR", of_all(RECALL, "u", "d")),
        compare("The training strategy alone raises UCBias", of_all(UCBIAS, "training_strategy", "vanilla")),
        compare(
            "U-ISOLATOR without the training strategy has lower Recall@20",
            of_all(RECALL, "u_without_training_strategy", "u"),
            lower=True,
        ),
    ]
    if len(by_name) > 2:
        rhos, recalls = ([mean(b, "vanilla", metric) for b in by_name] for metric in ("rho", RECALL))
        correlation = np.corrcoef(rhos, recalls)[0, 1]
        rows.append(
            {
                "claim": "Recall@20 rises with rho over the models",
                "holds": "yes" if correlation > 0 else "no",
                "numbers": f"correlation {correlation:.2f}",
            }
        )
    return pd.DataFrame(rows)


def _within_noise(metric: str, first: tuple[Model, str], second: tuple[Model, str]) -> bool:
    """Whether a difference of Recall@20 or UCBias may be chance, by the tests of `claims`."""
    recalls = [model.per_user(strategy) for model, strategy in (first, second)]
    if metric == RECALL:
        return not paired_test(*recalls) < SIGNIFICANT
    # UCBias is linear in the recalls: the difference of two is that of the users' differences.
    return _bias_within_noise(recalls[0] - recalls[1], first[0])


def _bias_within_noise(recall: np.ndarray, model: Model) -> bool:
    low, high = bootstrap_ucbias(recall, model.users, consistency_groups(model.consistency))
    return low <= 0 <= high


def _ucbias_with_interval(recall: np.ndarray, users: np.ndarray, groups: Groups) -> dict[str, float]:
    low, high = bootstrap_ucbias(recall, users, groups)
    return {"ucbias": ucbias(recall, users, groups), "low": low, "high": high}
