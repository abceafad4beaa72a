"""All U-ISOLATOR settings in one pass equal one evaluation after another."""

import dataclasses

import jax
import numpy as np
import pytest

from isolator_jax.backbones import Encoded
from isolator_jax.content import make_content
from isolator_jax.data import Interactions
from isolator_jax.evaluation import Settings, choose_setting, evaluate, evaluate_settings
from isolator_jax.histories import Histories
from isolator_jax.strategies import u_isolator

pytestmark = pytest.mark.slow

GRID = Settings(alphas=(2.0, 10.0), betas=(1.0, 20.0), iotas=(0.001, 0.1, 1.0))


def random_model(dataset, scale):
    """Random embeddings; the last items repeat the first, so that there are ties."""
    keys = jax.random.split(jax.random.key(4))
    users = scale * jax.random.normal(keys[0], (dataset.num_users, 6))
    items = jax.random.normal(keys[1], (dataset.num_items, 6))
    return Encoded(users, items.at[-5:].set(items[:5]))


@pytest.fixture(scope="module")
def dataset(small_dataset):
    """User 0 has no training items, user 1 nothing to validate on."""
    without = lambda split, user: Interactions(split.users[split.users != user], split.items[split.users != user])
    return dataclasses.replace(
        small_dataset, train=without(small_dataset.train, 0), validation=without(small_dataset.validation, 1)
    )


@pytest.mark.parametrize("fusion", ["mean", "per_modality"])
@pytest.mark.parametrize("scale", [0.05, 1.0])
@pytest.mark.parametrize(("candidates", "chunk"), [(1, 7), (25, 256), (10_000, 64)])
def test_every_setting_has_the_metrics_of_its_own_evaluation(dataset, fusion, scale, candidates, chunk):
    histories = dataset.train.histories(dataset.num_users)
    truth = dataset.validation.histories(dataset.num_users)
    content = make_content(dataset.features, histories, fusion=fusion)
    encoded = random_model(dataset, scale)
    found = evaluate_settings(
        encoded, None, histories, GRID, content, truth=truth, ks=(5, 20), candidates=candidates, chunk=chunk
    )
    strategies = {
        (a, b, j): u_isolator(alpha, beta, iota)
        for a, alpha in enumerate(GRID.alphas)
        for b, beta in enumerate(GRID.betas)
        for j, iota in enumerate(GRID.iotas)
    }
    results = evaluate(
        encoded, None, histories, {str(place): s for place, s in strategies.items()}, content, truth=truth, ks=(5, 20)
    )
    assert set(found) == {"recall@5", "recall@20", "ndcg@5", "ndcg@20", "ucbias@20"}
    for name, values in found.items():
        assert values.shape == (2, 2, 3)
        expected = [results[str(place)].metrics[name] for place in strategies]
        np.testing.assert_allclose(values.reshape(-1), expected, rtol=1e-6, err_msg=name)
    # The settings differ, so equality says something.
    assert len(set(found["ndcg@20"].reshape(-1))) > 4


@pytest.mark.parametrize("candidates", [5, 10_000])
def test_stored_scores_have_the_metrics_of_the_embeddings_they_come_from(dataset, candidates):
    histories = dataset.train.histories(dataset.num_users)
    truth = dataset.validation.histories(dataset.num_users)
    content = make_content(dataset.features, histories)
    # Small integers: both ways to f are exact.
    encoded = jax.tree.map(lambda x: np.round(3 * x), random_model(dataset, 1.0))
    options = {"candidates": candidates, "chunk": 64}
    expected = evaluate_settings(encoded, None, histories, GRID, content, truth=truth, **options)
    scores = np.float64(encoded.users) @ np.float64(encoded.items).T
    found = evaluate_settings(scores, None, histories, GRID, content, truth=truth, **options)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("fusion", ["mean", "per_modality"])
def test_equal_items_come_in_the_order_of_their_ids(fusion):
    """Scores mostly 0 and items without content: whole blocks of ties."""
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(60), 8), np.concatenate([rng.permutation(400)[:8] for _ in range(60)])
    held_out = np.arange(users.size) % 8 > 4
    histories, truth = (Histories.from_pairs(users[part], items[part], 60) for part in (~held_out, held_out))
    without = rng.random(400) < 0.5
    features = {name: np.where(without[:, None], 0, rng.standard_normal((400, 5))) for name in ("image", "text")}
    content = make_content(features, histories, fusion=fusion)
    scores = np.float32(np.where(rng.random((60, 400)) < 0.03, rng.random((60, 400)), 0))
    found = evaluate_settings(scores, None, histories, Settings((2.0,), (5.0,), (1.0,)), content, truth=truth)
    expected = evaluate(scores, None, histories, {"u": u_isolator(2.0, 5.0, 1.0)}, content, truth=truth)["u"].metrics
    for name, values in found.items():
        assert values.item() == pytest.approx(expected[name], rel=1e-6, nan_ok=True), name


def test_an_item_that_is_no_candidate_is_no_hit_however_short_the_catalogue():
    histories, truth = Histories.from_pairs([0, 1], [0, 1], 2), Histories.from_pairs([0, 1], [4, 3], 2)
    content = make_content({"image": np.eye(6)}, histories)
    scores = np.zeros((2, 6))
    scores[0, 4] = -np.inf
    found = evaluate_settings(scores, None, histories, GRID, content, truth=truth)
    assert (found["recall@20"] == 0.5).all()


def test_data_without_anything_to_rank_has_no_metrics(dataset):
    histories = dataset.train.histories(dataset.num_users)
    empty = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32)).histories(dataset.num_users)
    content = make_content(dataset.features, histories)
    found = evaluate_settings(random_model(dataset, 1.0), None, histories, GRID, content, truth=empty)
    assert all(values.shape == (2, 2, 3) and np.isnan(values).all() for values in found.values())
    assert choose_setting(found["recall@20"]) is None
