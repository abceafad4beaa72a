"""A trained model as the paper's tables, figures and claims look at it: its numbers, and what their tests need."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from isolator_jax.evaluation import EqualActivity, Evaluation, Groups, consistency_groups, equal_activity, ucbias
from isolator_jax.evaluation.metrics import RECALL
from isolator_jax.evaluation.resampling import resampled_ucbias

SHARES = (5, 10, 15, 20, 25)
SIGNIFICANT = 0.05


@dataclasses.dataclass(frozen=True)
class ModelResults:
    """One backbone on one dataset: its test evaluations, and where they come from.

    Attributes:
      dataset, backbone: names.
      label, graph_based, uses_content: of the backbone, as the registry has them.
      modalities: those it used.
      config: what all its numbers carry besides: gamma, hyper-parameters, seeds, and U's
        settings as chosen on validation.
      evaluations: for each strategy an evaluation of each seed; models that are compared have their
        seeds in the same order, one of them perhaps the first few alone.
      consistency: c_u `[U]`, NaN where undefined.
      lengths: n_u `[U]`.
      equal_popularity: for each strategy UCBias@20 among held-out items of like popularity, of each seed.
    """

    dataset: str
    backbone: str
    label: str
    graph_based: bool
    uses_content: bool
    modalities: tuple[str, ...]
    config: Mapping[str, Any]
    evaluations: Mapping[str, Sequence[Evaluation]]
    consistency: np.ndarray
    lengths: np.ndarray
    equal_popularity: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)

    def per_user(self, strategy: str, metric: str = RECALL) -> np.ndarray:
        """A metric of each ranked user, averaged over the seeds. `[N]`, NaN without held-out items."""
        return np.mean([evaluation.per_user[metric] for evaluation in self.evaluations[strategy]], axis=0)

    def per_seed(self, strategy: str, metric: str) -> np.ndarray:
        """A metric of each seed. `[seeds]`"""
        return np.array([evaluation.metrics[metric] for evaluation in self.evaluations[strategy]])

    @property
    def users(self) -> np.ndarray:
        """Ids of the ranked users, `[N]`."""
        return next(iter(self.evaluations.values()))[0].users

    def labels(self) -> dict[str, Any]:
        """What a row of its numbers begins with."""
        return {
            "dataset": self.dataset,
            "backbone": self.backbone,
            "label": self.label,
            "graph based": self.graph_based,
            "uses content": self.uses_content,
            "modalities": "+".join(self.modalities),
            **self.config,
        }


class Measured(NamedTuple):
    """A number of one model under one strategy.

    Attributes:
      value: its mean over the seeds.
      seeds: its value of each seed, `[seeds]`.
      users: of each seed and user, `[seeds, N]`; None where it is no mean over users.
      draws: of each seed on resamples of the users, the same ones for all numbers compared,
        `[seeds, draws]`; None where `users` say as much.
    """

    value: float
    seeds: np.ndarray
    users: np.ndarray | None = None
    draws: np.ndarray | None = None


def measured(model: ModelResults, strategy: str, metric: str) -> Measured:
    """A metric with its values of seeds and, where it is a mean over users, of users."""
    seeds, evaluations = model.per_seed(strategy, metric), model.evaluations[strategy]
    per_user = metric in evaluations[0].per_user
    return Measured(
        float(seeds.mean()), seeds, np.stack([of.per_user[metric] for of in evaluations]) if per_user else None
    )


def measured_biases(
    models: Sequence[ModelResults], strategies: Sequence[str], groups: Groups
) -> dict[tuple[str, str], Measured]:
    """UCBias@20 between two groups of users, by backbone and strategy, all on the same resamples.

    Args:
      models: of the same dataset, so that they rank the same users.
      strategies: those of each.
      groups: of the users.

    Raises:
      ValueError: models that rank different users.
    """
    users = models[0].users
    for model in models:
        if not np.array_equal(model.users, users):
            raise ValueError(
                f"models: {model.backbone} ranks other users than {models[0].backbone}; compare one dataset"
            )
    recalls = {
        (model.backbone, strategy): [evaluation.per_user[RECALL] for evaluation in model.evaluations[strategy]]
        for model in models
        for strategy in strategies
    }
    draws = resampled_ucbias(np.stack([seed for of_model in recalls.values() for seed in of_model], 1), users, groups)
    biases, place = {}, 0
    for key, of_model in recalls.items():
        seeds = np.array([ucbias(recall, users, groups) for recall in of_model])
        of_seeds = draws[:, place : place + seeds.size].T
        biases[key] = Measured(float(seeds.mean()), seeds, draws=of_seeds)
        place += seeds.size
    return biases


def tied_columns(groups: Groups) -> dict[str, int]:
    """How many users are tied at the cut of each group, 0 where none."""
    return dict(zip(("tied consistent", "tied diverse"), groups.tied, strict=True))


def share_groups(model: ModelResults, percent: int = 20) -> Groups:
    """The groups of UCBias: the top and bottom `percent` of the users by c_u."""
    return consistency_groups(model.consistency, percent)


def equal_activity_groups(model: ModelResults) -> EqualActivity:
    """The groups of UCBias cut down to users with the median number of training interactions, or near it."""
    recall = next(iter(model.evaluations.values()))[0].per_user[RECALL]
    return equal_activity(share_groups(model), model.lengths, model.users, recall)
