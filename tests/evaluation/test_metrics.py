"""Every metric against an implementation by loops, in float64."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax import Encoded, Histories, evaluate, evaluate_lists, make_content, vanilla
from isolator_jax.evaluation import metrics
from isolator_jax.evaluation.evaluate import METRICS
from isolator_jax.evaluation.metrics import HIT_METRICS, NO_ITEM

NAN = float("nan")
# Under jit, in float32, as training's validation uses recall.
COMPILED = {name: jax.jit(function, static_argnums=2) for name, function in HIT_METRICS.items()}


def by_loops(name, places, count, k):
    """A metric of one user from the places of the hits, best 0."""
    places = [place for place in places if place < k]
    return {
        "recall": len(places) / count,
        "precision": len(places) / k,
        "hit_rate": 1.0 if places else 0.0,
        "mrr": 1 / (places[0] + 1) if places else 0.0,
        "ndcg": sum(1 / math.log2(p + 2) for p in places) / sum(1 / math.log2(p + 2) for p in range(min(count, k))),
        "map": sum((n + 1) / (p + 1) for n, p in enumerate(places)) / min(count, k),
    }[name]


@pytest.mark.parametrize("k", [1, 4, 10])
@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.0, 0.4, 1.0]))
def test_metrics_of_hits_equal_their_definitions_on_the_host_and_under_jit(k, seed, density):
    rng = np.random.default_rng(seed)
    hits = rng.random((6, 10)) < density
    relevant = hits.sum(axis=1) + rng.integers(0, 3, size=6)
    hits[0], relevant[0] = False, 0
    for name, function in HIT_METRICS.items():
        expected = [
            by_loops(name, np.flatnonzero(row), count, k) if count else NAN
            for row, count in zip(hits, relevant, strict=True)
        ]
        np.testing.assert_allclose(function(hits, relevant, k), expected, rtol=1e-12, err_msg=name)
        compiled = COMPILED[name](jnp.asarray(hits), jnp.asarray(relevant), k)
        np.testing.assert_allclose(compiled, expected, rtol=1e-6, err_msg=name)


@given(seed=st.integers(0, 10**6), items=st.integers(1, 12), users=st.integers(0, 5))
def test_metrics_of_lists_equal_their_definitions(seed, items, users):
    rng = np.random.default_rng(seed)
    lists = np.full((users, 4), NO_ITEM)
    for row in lists:
        own = rng.permutation(items)[: rng.integers(0, min(4, items) + 1)]
        row[: own.size] = own
    counts = rng.integers(0, 4, size=items)
    features = rng.standard_normal((items, 3)).astype(np.float32)
    filled = [[item for item in row if item != NO_ITEM] for row in lists]
    times = [sum(row.count(item) for row in filled) for item in range(items)]
    listed = sum(times)
    assert metrics.coverage(lists, items) == pytest.approx(
        sum(time > 0 for time in times) / items if listed else NAN, nan_ok=True
    )
    # The mean absolute difference of all pairs, over twice the mean.
    spread = sum(abs(a - b) for a, b in itertools.product(times, times))
    expected = spread / (2 * items * listed) if listed else NAN
    assert metrics.gini(lists, items) == pytest.approx(expected, nan_ok=True)
    head, held = set(), 0
    for item in sorted(range(items), key=lambda item: (-counts[item], item)):
        if 10 * held >= 8 * counts.sum():
            break
        head.add(item)
        held += counts[item]
    per_user = {"popularity": [], "tail": [], "ils": []}
    for row in filled:
        per_user["popularity"].append(sum(counts[item] for item in row) / len(row) if row else NAN)
        per_user["tail"].append(sum(item not in head for item in row) / len(row) if row else NAN)
        pairs = [np.float64(features[a]) @ np.float64(features[b]) for a, b in itertools.combinations(row, 2)]
        per_user["ils"].append(sum(pairs) / len(pairs) if pairs else NAN)
    np.testing.assert_allclose(metrics.popularity(lists, counts), per_user["popularity"])
    np.testing.assert_allclose(metrics.long_tail_share(lists, counts), per_user["tail"])
    found = metrics.intra_list_similarity(lists, features)
    np.testing.assert_allclose(found, per_user["ils"], rtol=1e-9, atol=1e-12)


def test_gini_and_coverage_by_hand():
    everyone_the_same, all_alike = np.full((3, 1), 2), np.array([[0, 1], [2, 3]])
    assert metrics.gini(everyone_the_same, 4) == 0.75 and metrics.coverage(everyone_the_same, 4) == 0.25
    assert metrics.gini(all_alike, 4) == 0.0 and metrics.coverage(all_alike, 4) == 1.0


def test_evaluation_has_every_metric_that_is_asked_for_and_by_default_the_usual_ones():
    histories = Histories.from_pairs(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]), 3)
    truth = Histories.from_pairs(np.array([0, 1]), np.array([2, 3]), 3)
    content = make_content({"image": np.eye(4), "text": np.ones((4, 1))}, histories)
    model = Encoded(np.ones((3, 1)), np.arange(4.0)[:, None])
    result = evaluate(model, None, histories, {"f": vanilla()}, content, truth=truth, ks=(2,), metrics=METRICS)["f"]
    # Lists: 3, 2; 3, 2; 3, 1. Item 1 has two interactions, 0 and 2 one each: all three are the head.
    expected = {
        "recall@2": 1.0,
        "hit_rate@2": 1.0,
        "mrr@2": 0.75,
        "precision@2": 0.5,
        "map@2": 0.75,
        "coverage@2": 0.75,
        "gini@2": (-3 * 0 - 1 * 1 + 1 * 2 + 3 * 3) / (4 * 6),
        "popularity@2": (0.5 + 0.5 + 1.0) / 3,
        "aplt@2": 0.5,
        "ils@2/image": 0.0,
        "ils@2/text": 1.0,
    }
    assert {name: result.metrics[name] for name in expected} == {k: pytest.approx(v) for k, v in expected.items()}
    usual = evaluate_lists({"f": result.lists}, result.users, histories, truth, ks=(2,))["f"]
    assert list(usual.metrics) == ["recall@2", "ndcg@2", "precision@2", "map@2"]
    assert usual.per_user["recall@2"].dtype == np.float64
    with pytest.raises(ValueError, match="num_items"):
        evaluate_lists({"f": result.lists}, result.users, histories, truth, ks=(2,), metrics=["coverage"])


@pytest.mark.slow
def test_metrics_of_hits_equal_those_of_ranx():
    """Of users who have held-out items and full lists. ranx compiles for half a minute: it is no part of an extra."""
    ranx = pytest.importorskip("ranx", reason="needs pip install ranx")
    rng = np.random.default_rng(0)
    lists = np.stack([rng.permutation(40)[:10] for _ in range(60)])
    held_out = [rng.permutation(40)[: rng.integers(1, 16)] for _ in lists]
    hits = np.array([np.isin(row, own) for row, own in zip(lists, held_out, strict=True)])
    relevant = np.array([own.size for own in held_out])
    qrels = ranx.Qrels({f"{u:02d}": {str(i): 1 for i in own} for u, own in enumerate(held_out)})
    run = ranx.Run({f"{u:02d}": {str(i): -p / 10 for p, i in enumerate(row)} for u, row in enumerate(lists)})
    for k, (name, function) in itertools.product((1, 5, 10), HIT_METRICS.items()):
        theirs = np.asarray(ranx.evaluate(qrels, run, f"{name}@{k}", return_mean=False))
        if name == "map":  # ranx divides by all held-out items, also by those that a list of k has no place for
            theirs = theirs * relevant / np.minimum(relevant, k)
        np.testing.assert_allclose(function(hits, relevant, k), theirs, rtol=1e-9, err_msg=f"{name}@{k}")
