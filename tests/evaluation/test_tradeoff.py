"""The Pareto front against its definition."""

import numpy as np

from isolator_jax.evaluation.tradeoff import pareto_front


def test_the_front_is_what_no_point_dominates():
    rng = np.random.default_rng(0)
    for _ in range(20):
        # Few distinct values, so that ties in one or both coordinates are common.
        gain, cost = rng.integers(8, size=(2, 30)) / 8
        front = pareto_front(gain, cost)
        for point in range(30):
            dominated = (
                (gain >= gain[point]) & (cost <= cost[point]) & ((gain > gain[point]) | (cost < cost[point]))
            ).any()
            same = np.flatnonzero((gain == gain[point]) & (cost == cost[point]))
            assert (point in front) == (not dominated and point == same[0])
        assert (np.diff(gain[front]) > 0).all() and (np.diff(cost[front]) > 0).all()


def test_undefined_points_are_never_on_the_front():
    assert pareto_front([0.5, 0.9, np.nan], [0.1, np.nan, -1.0]).tolist() == [0]
    assert pareto_front(np.full(3, np.nan), np.zeros(3)).tolist() == []
