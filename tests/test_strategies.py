"""The catalogue of strategies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax import scoring
from isolator_jax.strategies import (
    IN_RUNS,
    LABELS,
    MAIN,
    STRATEGIES,
    name_beside_others,
    strategies_of_run,
    u_isolator,
    vanilla,
)

VALUES = {"gamma": 0.3, "alpha": 2.0, "beta": 5.0, "iota": 0.5}


def test_the_catalogue_is_in_the_papers_order_and_its_strategies_score_by_their_equations():
    assert list(STRATEGIES) == ["vanilla", "u_without_training_strategy", "training_strategy", "d", "u"]
    assert MAIN == ("vanilla", "d", "u") and set(LABELS) == set(STRATEGIES)
    f, s, c = jnp.float32(1.5), jnp.array([0.4]), jnp.array([0.3])
    u = scoring.u_score(f, s, c, 2.0, 5.0, 0.5)
    expected = dict(zip(STRATEGIES, (f, u, scoring.training_score(f, s, 0.3), scoring.d_score(f), u), strict=True))
    for name, entry in STRATEGIES.items():
        strategy = entry.of(VALUES)
        assert strategy.needs_content == (entry.needs_s or entry.needs_c)
        arguments = (s if entry.needs_s else None, c if entry.needs_c else None)
        np.testing.assert_allclose(strategy.score(strategy.key(f, *arguments)), expected[name], rtol=1e-6)


def test_a_run_has_the_strategies_of_its_training_and_their_names_beside_other_runs_are_the_catalogues():
    names = [
        name_beside_others(name, trained=trained)
        for trained in (False, True)
        for name in strategies_of_run(VALUES, trained=trained, with_content=True)
    ]
    assert names == list(STRATEGIES)
    assert list(strategies_of_run(VALUES, trained=False, with_content=False)) == ["vanilla"]
    assert set(IN_RUNS) == {"vanilla", "training_strategy", "d", "u"}


def test_strategies_are_pytrees_whose_leaves_are_their_parameters():
    assert jax.tree.leaves(u_isolator(2.0, 5.0, 0.5)) == [2.0, 5.0, 0.5]
    # Equal in structure, so that a function compiled for one serves the other.
    assert jax.tree.structure(u_isolator(2.0, 5.0, 0.5)) == jax.tree.structure(u_isolator(1.0, 1.0, 1.0))
    assert jax.tree.structure(vanilla()) == jax.tree.structure(vanilla())


@pytest.mark.parametrize("values", [(-1.0, 5.0, 0.1), (2.0, np.nan, 0.1), (2.0, 5.0, np.inf), ("2", 5.0, 0.1)])
def test_parameters_that_no_strategy_can_have_are_refused(values):
    with pytest.raises((ValueError, TypeError), match="alpha|beta|iota"):
        u_isolator(*values)
