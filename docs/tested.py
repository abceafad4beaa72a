"""A model's test results without the model: which places of each user's lists hold a held-out item.

Every table, figure and claim is made of docs/results/DATASET/tested/BACKBONE.npz and the dataset: a study goes on where
its runs no longer are.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isolator_jax.evaluation import Evaluation
from isolator_jax.evaluation.metrics import HIT_METRICS, UCBIAS_K
from isolator_jax.evaluation.ranking import list_hits
from isolator_jax.files import write_atomically
from isolator_jax.reporting.model import ModelResults
from isolator_jax.runs import Problem

# Of ModelResults: what is not of each user.
ABOUT = tuple(
    field.name
    for field in dataclasses.fields(ModelResults)
    if field.name not in ("evaluations", "consistency", "lengths")
)


def write(path: Path, model: ModelResults, problem: Problem) -> None:
    """A file of few bits a user, for each strategy and seed; `problem` is what the model was tested on."""
    users, truth = model.users, problem.test
    about = {name: getattr(model, name) for name in ABOUT}
    metrics = {name: [of_seed.metrics for of_seed in of_seeds] for name, of_seeds in model.evaluations.items()}
    measures = list(next(iter(model.evaluations.values()))[0].per_user)
    about |= {"metrics": metrics, "of users": measures, "data": problem.dataset.fingerprint()}
    arrays = {"about": np.array(json.dumps(about))}
    for name, of_seeds in model.evaluations.items():
        hits = np.stack([list_hits(of_seed.lists[:, :UCBIAS_K], truth, users) for of_seed in of_seeds])
        arrays[name] = np.packbits(hits.transpose(0, 2, 1), axis=-1)  # place by place, which packs best
    write_atomically(path, lambda draft: np.savez_compressed(draft, **arrays))


def read(path: Path, problem: Problem) -> ModelResults:
    """What `write` was given, but for the lists.

    Raises:
      ValueError: it was written of other data.
    """
    users = np.asarray(problem.train.histories.users_with_items(), np.int32)
    relevant = np.asarray(problem.test.lengths)[users]
    with np.load(path) as arrays:
        about = json.loads(str(arrays["about"]))
        metrics, measures = about.pop("metrics"), about.pop("of users")
        if about.pop("data") != problem.dataset.fingerprint():
            raise ValueError(f"{path} was tested on other data than {problem.dataset.name}; give the same")
        evaluations = {}
        for name, of_seeds in metrics.items():
            packed = np.unpackbits(arrays[name], axis=-1, count=users.size).astype(bool)
            evaluations[name] = [
                Evaluation(users, np.empty((users.size, 0), np.int32), _of_users(hits.T, relevant, measures), of_seed)
                for hits, of_seed in zip(packed, of_seeds, strict=True)
            ]
    assert problem.content is not None
    return ModelResults(
        **{**about, "modalities": tuple(about["modalities"])},
        evaluations=evaluations,
        consistency=problem.content.consistency,
        lengths=np.asarray(problem.train.histories.lengths),
    )


def _of_users(hits: np.ndarray, relevant: np.ndarray, measures: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: HIT_METRICS[name.partition("@")[0]](hits, relevant, int(name.partition("@")[2])) for name in measures}
