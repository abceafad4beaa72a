"""Models with evaluations made by hand, for the tests of tables, figures and claims."""

import numpy as np

from isolator_jax.evaluation import Evaluation
from isolator_jax.reporting.model import ModelResults
from isolator_jax.strategies import STRATEGIES

KINDS = {"mfbpr": (False, False), "lightgcn": (True, False), "vbpr": (False, True), "mgcn": (True, True)}
LABELS = {"mfbpr": "MFBPR", "lightgcn": "LightGCN", "vbpr": "VBPR", "mgcn": "MGCN"}


def evaluation(recall, rho=0.3):
    """Of users 1 to N; user 0 has no history."""
    recall = np.asarray(recall, np.float64)
    users = np.arange(1, recall.size + 1)
    metrics = {"recall@20": np.nanmean(recall), "ucbias@20": 0.1, "rho": rho, "rho/image": rho + 0.1}
    return Evaluation(users, np.zeros((recall.size, 20), np.int32), {"recall@20": recall}, metrics)


def model(backbone="vbpr", *, seeds=(0.0, 0.1), rho=0.3, modalities=("image", "text"), consistency=None, **recalls):
    """One model; `recalls` by strategy, to which each seed adds its number. Half of the users have 3 items, half 4."""
    users = next(iter(recalls.values())).size
    graph_based, uses_content = KINDS[backbone]
    return ModelResults(
        dataset="made",
        backbone=backbone,
        label=LABELS[backbone],
        graph_based=graph_based,
        uses_content=uses_content,
        modalities=modalities,
        config={"seeds": " ".join(map(str, range(len(seeds)))), "gamma": 0.1},
        evaluations={
            name: [evaluation(values + level, rho * (1 + level)) for level in seeds] for name, values in recalls.items()
        },
        consistency=np.concatenate([[np.nan], np.linspace(0, 1, users)]) if consistency is None else consistency,
        lengths=np.where(np.arange(users + 1) == 0, 0, 3 + np.arange(users + 1) % 2),
    )


def same(backbone, recall, **options):
    """One model with the same recall under all strategies, but for those in `options`."""
    return model(backbone, **{**dict.fromkeys(STRATEGIES, recall), **options})
