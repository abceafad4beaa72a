"""The learner: what it compiles, and what a step leaves out."""

import dataclasses
import re

import numpy as np
import pytest

from isolator_jax.errors import DataError
from isolator_jax.runs import make_learner, make_problem
from isolator_jax.runs.config import RunConfig


def learn(config, problem):
    """One epoch, its validation and the embeddings."""
    learner = make_learner(config, problem)
    state, loss, _ = learner.train_epoch(learner.initial_state(config.seed).train)
    return float(loss), float(learner.validate(state.params)), np.asarray(learner.encode(state.params).users)


@pytest.mark.parametrize("name", ["vbpr", "mgcn"])
def test_a_second_learner_of_the_same_shapes_compiles_nothing(name, small_dataset, compilations):
    config = RunConfig(backbone=name, batch_size=128, hparams={"dim": 8})
    first = learn(config, make_problem(config, small_dataset))
    assert compilations
    compilations.clear()
    again = learn(config, make_problem(config, small_dataset))
    # Other numbers are other arguments: seed, gamma, rates and weights.
    other = dataclasses.replace(config, seed=1, gamma=1.0, hparams={"dim": 8, "learning_rate": 0.01, "reg": 0.3})
    third = learn(other, make_problem(other, small_dataset))
    assert not compilations
    assert first[:2] == again[:2] and first[0] != third[0]
    np.testing.assert_array_equal(first[2], again[2])


@pytest.mark.parametrize(("split", "of"), [("test", "train"), ("validation", "train"), ("test", "validation")])
def test_a_pair_that_is_there_twice_is_refused_before_training(split, of, small_dataset):
    leaking = dataclasses.replace(small_dataset, **{split: small_dataset.split(of)})
    with pytest.raises(DataError, match="user 0 and item .* are there more than once"):
        make_problem(RunConfig("mfbpr"), leaking)


@pytest.mark.slow
def test_a_step_fuses_the_rows_of_its_batch_and_no_others(small_dataset):
    config = RunConfig(backbone="mgcn", batch_size=16, hparams={"dim": 8})
    learner = make_learner(config, make_problem(config, small_dataset))
    state = learner.initial_state(0).train
    program = learner.epoch_program.lower(state, *learner.epoch_arguments()).compile().as_text()
    rows = {tuple(map(int, shape.split(","))) for shape in re.findall(r"f32\[([\d,]+)\]\S* tanh\(", program)}
    assert rows
    assert max(np.prod(shape) for shape in rows) <= 3 * 16 * 8 < 200 * 8
