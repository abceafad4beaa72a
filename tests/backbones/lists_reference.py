"""Every strategy's scores, lists and recalls of a model, in float64 numpy."""

import numpy as np
import pytest

from isolator_jax.runs import evaluate_problem, strategies_of


def reference_similarity(dataset):
    """s_ui [U, I]: the mean over modalities of the mean cosine to the training items."""
    similarities = []
    for feature in dataset.features.values():
        unit = np.asarray(feature, np.float64)
        norms = np.linalg.norm(unit, axis=1, keepdims=True)
        unit = np.divide(unit, norms, out=np.zeros_like(unit), where=norms > 0)
        similarities.append(unit @ unit.T)
    s, mean = np.mean(similarities, axis=0), np.zeros((dataset.num_users, dataset.num_items))
    for user in range(dataset.num_users):
        history = dataset.train.items[dataset.train.users == user]
        mean[user] = s[history].mean(axis=0) if len(history) else 0.0
    return s, mean


def reference_strategies(dataset, config, f):
    """Every strategy's score of all pairs, in float64."""
    s, mean = reference_similarity(dataset)
    consistency = np.full(dataset.num_users, np.nan)
    for user in range(dataset.num_users):
        history = dataset.train.items[dataset.train.users == user]
        if len(history) > 1:
            block = s[np.ix_(history, history)]
            consistency[user] = (block.sum() - np.trace(block)) / (len(history) * (len(history) - 1))
    consistency = np.where(np.isnan(consistency), np.nanmean(consistency), consistency)
    x = mean - consistency[:, None]
    with np.errstate(over="ignore"):
        gate = np.where(x >= 0, np.exp(-config.alpha * x), 4 / (1 + np.exp(-config.beta * x)) - 1)
        elu = np.where(f > 0, f + 1, np.exp(f))
    return {
        "training_strategy": elu / (1 + np.exp(-mean)) ** config.gamma,
        "d": elu,
        "u": elu / (1 + np.exp(-gate)) ** config.iota,
    }


def assert_lists_equal_the_reference(config, problem, encoded, k=20):
    """Lists and Recall@k of the test split, under every strategy of the configuration."""
    dataset = problem.dataset
    f = np.asarray(encoded.users, np.float64) @ np.asarray(encoded.items, np.float64).T
    scores = reference_strategies(dataset, config, f)
    results = evaluate_problem(problem, encoded, "test", strategies_of(config, True), ks=(k,))
    trained = np.unique(dataset.train.users)
    for strategy, result in results.items():
        np.testing.assert_array_equal(result.users, trained)
        recalls = []
        for row, user in zip(result.lists, result.users, strict=True):
            own = scores[strategy][user].copy()
            own[dataset.train.items[dataset.train.users == user]] = -np.inf
            listed = row[row >= 0]
            # The reference's own order, but for what float32 cannot tell apart.
            assert len(listed) == min(max(k, 20), np.isfinite(own).sum()) and np.isfinite(own[listed]).all()
            assert len(set(listed.tolist())) == len(listed)
            np.testing.assert_allclose(own[listed], np.sort(own)[::-1][: len(listed)], rtol=1e-5)
            held_out = dataset.test.items[dataset.test.users == user]
            recalls.append(np.isin(listed[:k], held_out).sum() / len(held_out) if len(held_out) else np.nan)
        np.testing.assert_allclose(result.per_user[f"recall@{k}"], recalls, rtol=1e-6)
        assert result.metrics[f"recall@{k}"] == pytest.approx(np.nanmean(recalls))
