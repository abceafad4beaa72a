"""Rescoring of a model given by arrays, against plain numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.backbones import Encoded
from isolator_jax.content import make_content
from isolator_jax.evaluation import Settings, evaluate
from isolator_jax.evaluation.grid import UParameters
from isolator_jax.evaluation.rescoring import QUANTILES, Rescored, rescore, summarize_scores, tune
from isolator_jax.histories import Histories
from isolator_jax.strategies import u_isolator

PARAMETERS = UParameters(alpha=2.0, beta=5.0, iota=1.0)


@pytest.fixture(scope="module")
def problem(small_dataset):
    histories = small_dataset.train.histories(small_dataset.num_users)
    rng = np.random.default_rng(0)
    encoded = Encoded(
        rng.standard_normal((small_dataset.num_users, 5)).astype(np.float32),
        rng.standard_normal((small_dataset.num_items, 5)).astype(np.float32),
    )
    return small_dataset, histories, make_content(small_dataset.features, histories), encoded


def reference_scores(dataset, f):
    """ELU'(f) sigmoid(g(s - c))^iota in float64, from pairs of items."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in map(np.float64, dataset.features.values())]
    similarity = np.mean([x @ x.T for x in unit], axis=0)
    scores = np.empty_like(f)
    for user in range(dataset.num_users):
        own = dataset.train.items[dataset.train.users == user]
        inside = similarity[np.ix_(own, own)]
        c = (inside.sum() - np.trace(inside)) / (own.size * (own.size - 1))
        x = similarity[:, own].mean(axis=1) - c
        gate = np.where(x >= 0, np.exp(-PARAMETERS.alpha * x), 4 / (1 + np.exp(-PARAMETERS.beta * x)) - 1)
        elu = np.where(f[user] > 0, f[user] + 1, np.exp(np.minimum(f[user], 0)))
        scores[user] = elu / (1 + np.exp(-gate)) ** PARAMETERS.iota
    return scores


@pytest.mark.parametrize("stored", [False, True])
def test_lists_and_scores_are_those_of_the_equations(problem, stored):
    dataset, histories, content, encoded = problem
    f = np.float64(encoded.users) @ np.float64(encoded.items).T
    rescored = rescore(f if stored else encoded, histories, content, PARAMETERS, k=7)
    elu = np.where(f > 0, f + 1, np.exp(np.minimum(f, 0)))
    for name, expected in {"vanilla": f, "d": elu, "u": reference_scores(dataset, f)}.items():
        hidden = expected.copy()
        hidden[dataset.train.users, dataset.train.items] = -np.inf
        lists = np.argsort(-hidden, axis=1)[:, :7]
        np.testing.assert_array_equal(rescored.lists[name], lists)
        np.testing.assert_allclose(rescored.scores[name], np.take_along_axis(expected, lists, 1), rtol=1e-4, atol=1e-5)
    assert not np.array_equal(rescored.lists["u"], rescored.lists["d"])


def test_without_a_setting_there_are_no_lists_of_u(problem):
    _, histories, content, encoded = problem
    rescored, with_u = (rescore(encoded, histories, content, parameters, k=7) for parameters in (None, PARAMETERS))
    assert list(rescored.lists) == list(rescored.scores) == ["vanilla", "d"]
    np.testing.assert_array_equal(rescored.lists["d"], with_u.lists["d"])
    summary = summarize_scores(rescored)
    assert np.isnan(summary.changed) and summary.span == summarize_scores(with_u).span


@pytest.mark.parametrize("stored", [False, True])
def test_tuning_takes_the_setting_whose_own_evaluation_is_best(problem, stored):
    dataset, histories, content, encoded = problem
    validation = dataset.validation.histories(dataset.num_users)
    settings = Settings(alphas=(2.0, 10.0), betas=(20.0,), iotas=(0.01, 1.0, 10.0))
    grid = [UParameters(alpha, 20.0, iota) for alpha in settings.alphas for iota in settings.iotas]
    strategies = {str(place): u_isolator(*parameters) for place, parameters in enumerate(grid)}
    results = evaluate(encoded, None, histories, strategies, content, truth=validation)
    recalls = np.array([results[name].metrics["recall@20"] for name in strategies])
    assert len(set(recalls)) > 2  # the choice says something
    model = np.asarray(encoded.users @ encoded.items.T) if stored else encoded
    parameters, recall = tune(model, histories, validation, content, settings)
    assert parameters == grid[recalls.argmax()]
    assert recall == pytest.approx(recalls.max(), rel=1e-6)


def test_what_is_no_candidate_is_in_no_list_and_no_hit(problem):
    """-inf for all but twelve items of each user: the lists end, and each setting has its own evaluation's metrics."""
    dataset, histories, content, encoded = problem
    f = np.float64(encoded.users) @ np.float64(encoded.items).T
    rng = np.random.default_rng(0)
    others = rng.permuted(np.tile(np.arange(f.shape[1]), (len(f), 1)), axis=1)[:, 12:]
    np.put_along_axis(f, others, -np.inf, axis=1)
    for model in (f, jnp.asarray(f, jnp.float32)):
        rescored = rescore(model, histories, content, PARAMETERS, k=20)
        for items in rescored.lists.values():
            filled = items >= 0
            assert filled.sum(1).max() <= 12 and np.isfinite(np.take_along_axis(f, items, 1)[filled]).all()
    validation = dataset.validation.histories(dataset.num_users)
    u = evaluate(f, None, histories, {"u": u_isolator(*PARAMETERS)}, content, truth=validation)["u"].metrics
    settings = Settings(*([value] for value in PARAMETERS))
    _, recall = tune(f, histories, validation, content, settings)
    assert 0 < recall < 1 and recall == pytest.approx(u["recall@20"])


def summary_of(*f, u_lists=None, parameters=None):
    f = np.array(f, np.float32)
    lists = np.where(np.isneginf(f), -1, np.arange(f.shape[1])[None])
    u_lists = lists if u_lists is None else np.array(u_lists)
    return summarize_scores(Rescored(np.arange(len(f)), {"vanilla": lists, "u": u_lists}, {"vanilla": f}, parameters))


def test_the_summary_tells_quantiles_span_and_what_changed():
    summary = summary_of([3.0, 1.0, -1.0], [1.0, 0.0, -np.inf], u_lists=[[0, 2, 1], [0, 1, -1]])
    assert summary.quantiles == {q: pytest.approx(np.quantile([3, 1, -1, 1, 0], q)) for q in QUANTILES}
    assert summary.span == pytest.approx(np.median([np.log(4) + 1, np.log(2)]))
    assert summary.changed == 0.5
    assert summary.tied == 0


@pytest.mark.parametrize(
    ("f", "tied"),
    [
        ([-1e4, -2e4, -3e4], 0.0),  # exp underflows, its logarithm does not
        ([3e-9, 2e-9, 1e-9], 0.0),  # 1 + f rounds to 1, log1p does not
        ([1e7 + 1, 1e7, -1.0], 0.5),
        ([2.0, 2.0, 1.0], 0.0),  # equal f are no loss
        ([1e7 + 2, 1e7 + 1, 1e7], 1.0),  # log rounds
    ],
)
def test_the_summary_counts_neighbours_that_only_elu_makes_equal(f, tied):
    assert summary_of(f).tied == tied


@pytest.mark.parametrize(
    ("scale", "iota", "lost"), [(1e-11, 0.1, 1.0), (1e-11, 0.0, 0.0), (1e-3, 0.1, 0.0), (1e-3, 1e6, 1.0)]
)
def test_the_summary_counts_neighbours_that_u_makes_equal_as_its_lists_show(scale, iota, lost):
    """Items of one content: U has f's order, but where adding iota's term loses f."""
    f = scale * np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    histories = Histories.from_pairs([0, 0], [0, 1], num_users=1)
    content = make_content({"image": np.ones((6, 1))}, histories)
    rescored = rescore(f, histories, content, UParameters(2.0, 5.0, iota), k=4)
    assert summarize_scores(rescored).tied == lost
    assert (rescored.lists["u"].tolist() == [[5, 4, 3, 2]]) == (not lost)


def test_the_summary_counts_neighbours_of_equal_scores():
    assert summary_of([2.0, 2.0, 1.0, 1.0], [3.0, 2.0, -np.inf, -np.inf]).equal == 2 / 4
    saturated = 1 / (1 + np.exp(-np.linspace(30, 20, 5)))
    assert summary_of(saturated).equal == 1 and summary_of(np.log(saturated / (1 - saturated))).equal == 0
