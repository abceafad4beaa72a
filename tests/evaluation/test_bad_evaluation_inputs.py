"""Arguments that no function of evaluation can use: each is refused in one line that names it."""

import re

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from isolator_jax import (
    Encoded,
    Groups,
    Histories,
    Settings,
    UParameters,
    activity_groups,
    bootstrap_ucbias,
    choose_setting,
    consistency_groups,
    d_isolator,
    equal_activity,
    evaluate,
    evaluate_lists,
    evaluate_settings,
    held_out_hits,
    make_content,
    paired_test,
    per_user_table,
    reference_lists,
    rescore,
    rho,
    top_k_lists,
    tune,
    u_isolator,
    ucbias,
    ucbias_at_equal_popularity,
)
from isolator_jax.evaluation import mean_recall, users_to_validate

RNG = np.random.default_rng(0)
U, I = 4, 6
HISTORIES = Histories.from_pairs(np.array([0, 0, 1, 1, 2, 3, 3]), np.array([0, 1, 2, 3, 0, 4, 5]), U)
TRUTH = Histories.from_pairs(np.arange(U), np.array([4, 5, 4, 0]), U)
CONTENT = make_content({"a": RNG.standard_normal((I, 3))}, HISTORIES)
USERS, ITEMS = RNG.standard_normal((U, 3)).astype(np.float32), RNG.standard_normal((I, 3)).astype(np.float32)
MODEL, SCORES = Encoded(USERS, ITEMS), USERS @ ITEMS.T
D, BOTH = {"d": d_isolator()}, {"d": d_isolator(), "u": u_isolator(2.0, 5.0, 0.1)}
GRID = Settings(alphas=(2.0,), betas=(5.0,), iotas=(0.1, 1.0))
LISTS = np.array([[2, 3, 4, 5, -1]] * U)
OTHERS = Histories.from_pairs(np.array([0]), np.array([1]), 2)
OUTSIDE = Histories.from_pairs(np.array([0]), np.array([9]), U)
OVERLAP = Histories.from_pairs(np.array([0, 3]), np.array([2, 4]), U)
OTHER_CONTENT = make_content({"a": np.eye(I)}, OTHERS)
OTHER_ITEMS = make_content({"a": np.eye(5)}, Histories.from_pairs(np.array([0]), np.array([1]), U))
GROUPS = Groups(np.array([1.0, 0, 0, 0]), np.array([0, 0, 0, 1.0]))


def spoiled(array, value):
    array = np.array(array, np.float64)
    array[1, 2] = value
    return array


# Models that cannot be ranked with: name to what the message must name.
MODELS = {
    "embeddings of fewer users": (Encoded(USERS[:2], ITEMS), "histories"),
    "embeddings of fewer items": (Encoded(USERS, ITEMS[:3]), "histories"),
    "embeddings of two widths": (Encoded(USERS, ITEMS[:, :2]), "model.items"),
    "NaN embedding": (Encoded(spoiled(USERS, np.nan), ITEMS), "model.users"),
    "infinite embedding": (Encoded(USERS, spoiled(ITEMS, np.inf)), "model.items"),
    "embedding beyond float32": (Encoded(spoiled(USERS, 1e39), ITEMS), "model.users"),
    "products beyond float32": (Encoded(1e30 * USERS, 1e30 * ITEMS), "model.users"),
    "embeddings of text": (Encoded(USERS.astype(str), ITEMS), "model.users"),
    "flat embeddings": (Encoded(USERS[0], ITEMS), "model.users"),
    "a pair": ((USERS, ITEMS), "model"),
    "scores transposed": (SCORES.T, "histories"),
    "scores of fewer items": (SCORES[:, :3], "histories"),
    "scores of fewer users": (SCORES[:3], "histories"),
    "a table of fewer items": (pd.DataFrame(SCORES[:, :3]), "histories"),
    "scores of one user": (SCORES[0], "model"),
    "scores of text": (SCORES.astype(str), "model"),
    "NaN score": (spoiled(SCORES, np.nan), "user 1's score of item 2"),
    "masked score": (spoiled(SCORES, -np.inf), "user 1's score of item 2"),
    "score beyond float32": (spoiled(SCORES, 1e39), "user 1's score of item 2"),
    "NaN score on the device": (jnp.asarray(spoiled(SCORES, np.nan), jnp.float32), "model"),
    "no items": (np.zeros((U, 0)), "model"),
}
OF_MODEL = {
    "top_k_lists": lambda model: top_k_lists(model, np.arange(U), HISTORIES, D, k=3),
    "evaluate": lambda model: evaluate(model, None, HISTORIES, D, truth=TRUTH, ks=(3,)),
    "evaluate_settings": lambda model: evaluate_settings(model, None, HISTORIES, GRID, CONTENT, truth=TRUTH),
    "rescore": lambda model: rescore(model, HISTORIES, CONTENT, UParameters(2.0, 5.0, 0.1), k=3),
    "tune": lambda model: tune(model, HISTORIES, TRUTH, CONTENT, GRID),
}


@pytest.mark.parametrize("function", OF_MODEL)
@pytest.mark.parametrize("case", MODELS)
def test_models_that_cannot_be_ranked_with_are_refused(function, case):
    model, named = MODELS[case]
    refused(lambda: OF_MODEL[function](model), named)


def ranked(users=(0, 1), histories=HISTORIES, strategies=BOTH, content=CONTENT, **options):
    return top_k_lists(MODEL, users, histories, strategies, content, **{"k": 3, **options})


def measured(lists=LISTS, users=range(U), histories=HISTORIES, truth=TRUTH, content=None, ks=(3,), **options):
    return evaluate_lists({"m": lists}, users, histories, truth, content, ks=ks, **options)


def settings(users=None, grid=GRID, truth=TRUTH, content=CONTENT, **options):
    return evaluate_settings(MODEL, users, HISTORIES, grid, content, truth=truth, **options)


def evaluated(users):
    return evaluate(MODEL, users, HISTORIES, D, truth=TRUTH, ks=(3,))["d"]


OTHERS_OF_THE_KIND = {
    "ranked user beyond": (lambda: ranked(users=[9]), "users"),
    "ranked user below": (lambda: ranked(users=[-1]), "users"),
    "half a user": (lambda: ranked(users=[0.5]), "users"),
    "mask of users": (lambda: ranked(users=np.array([True, False, True, True])), "users"),
    "users in two axes": (lambda: ranked(users=[[0, 1]]), "users"),
    "histories of others": (lambda: ranked(histories=OTHERS), "histories"),
    "histories of no item": (lambda: ranked(histories=OUTSIDE), "histories"),
    "pairs for histories": (lambda: ranked(histories=np.eye(4)), "histories"),
    "bare keys": (lambda: ranked(strategies={"d": d_isolator().key}), "strategies"),
    "no mapping": (lambda: ranked(strategies=[d_isolator()]), "strategies"),
    "U without content": (lambda: ranked(content=None), "content"),
    "content of others": (lambda: ranked(content=OTHER_CONTENT), "content"),
    "content of other items": (lambda: ranked(content=OTHER_ITEMS), "content"),
    "similarity for content": (lambda: ranked(content=CONTENT.similarity), "content"),
    "k 0": (lambda: ranked(k=0), "k"),
    "k 2.5": (lambda: ranked(k=2.5), "k"),
    "chunk 0": (lambda: ranked(item_chunk=0), "item_chunk"),
    "user twice": (lambda: measured(users=[0, 1, 1, 2]), "users"),
    "user beyond": (lambda: measured(users=[0, 1, 2, 4]), "users"),
    "fewer users than lists": (lambda: measured(users=[0, 1]), "lists"),
    "item twice": (lambda: measured(np.full((U, 5), 4)), "lists"),
    "item beyond": (lambda: measured(LISTS + 5, num_items=I), "lists"),
    "item below -1": (lambda: measured(LISTS - 3), "lists"),
    "item after the end": (lambda: measured(LISTS[:, ::-1]), "lists"),
    "half an item": (lambda: measured(LISTS + 0.5), "lists"),
    "flat lists": (lambda: measured(LISTS[0]), "lists"),
    "short lists": (lambda: measured(ks=(6,)), "lists"),
    "lists too short for UCBias": (lambda: measured(content=CONTENT), "lists"),
    "no lists by name": (lambda: evaluate_lists(LISTS, np.arange(U), HISTORIES, TRUTH), "lists"),
    "truth of others": (lambda: measured(truth=OTHERS), "truth"),
    "truth of no item": (lambda: measured(truth=OUTSIDE, num_items=I), "truth"),
    "truth trained on": (lambda: measured(truth=OVERLAP), "truth"),
    "no truth": (lambda: measured(truth=None), "truth"),
    "evaluated truth of others": (lambda: evaluate(MODEL, None, HISTORIES, D, truth=OTHERS), "truth"),
    "evaluated truth trained on": (lambda: evaluate(MODEL, None, HISTORIES, D, truth=OVERLAP), "truth"),
    "user evaluated twice": (lambda: evaluate(MODEL, [0, 0], HISTORIES, D, truth=TRUTH), "users"),
    "one k": (lambda: measured(ks=3), "ks"),
    "no k": (lambda: measured(ks=()), "ks"),
    "k of 0": (lambda: measured(ks=(0, 3)), "ks"),
    "k of 2.5": (lambda: measured(ks=(2.5,)), "ks"),
    "unknown metric": (lambda: measured(metrics=["recal"]), "metrics"),
    "metric as text": (lambda: measured(metrics="recall"), "metrics"),
    "validation of others": (lambda: mean_recall(MODEL, [0], HISTORIES, OTHERS), "truth"),
    "users of others": (lambda: users_to_validate(HISTORIES, OTHERS), "truth"),
    "settings of others": (lambda: settings(truth=OTHERS), "truth"),
    "settings, truth trained on": (lambda: settings(truth=OVERLAP), "truth"),
    "settings, user twice": (lambda: settings(users=[1, 1]), "users"),
    "settings as a tuple": (lambda: settings(grid=((2.0,), (5.0,), (0.1,))), "settings"),
    "settings of nothing": (lambda: settings(grid=GRID._replace(alphas=())), "settings.alphas"),
    "settings below 0": (lambda: settings(grid=GRID._replace(iotas=(-1.0,))), "settings.iotas"),
    "settings of NaN": (lambda: settings(grid=GRID._replace(betas=(np.nan,))), "settings.betas"),
    "settings without content": (lambda: settings(content=None), "content"),
    "settings, unknown metric": (lambda: settings(metrics=["coverage"]), "metrics"),
    "unknown aim": (lambda: tune(MODEL, HISTORIES, TRUTH, CONTENT, GRID, aim="best"), "aim"),
    "aim without Vanilla": (lambda: choose_setting(np.ones(2), np.ones(2), aim="recall_no_more_bias"), "vanilla"),
    "parameters of NaN": (lambda: rescore(MODEL, HISTORIES, CONTENT, UParameters(np.nan, 5.0, 0.1), k=3), "alpha"),
    "flat rho": (lambda: rho(np.ones(3), np.ones(3)), "list_similarity"),
    "rho of other lists": (lambda: rho(np.ones((2, 3)), np.ones((3, 3), int)), "lists"),
    "share 0": (lambda: consistency_groups(np.ones(4), 0), "percent"),
    "share above half": (lambda: consistency_groups(np.ones(4), 51), "percent"),
    "flat share": (lambda: consistency_groups(np.ones((4, 1))), "consistency"),
    "fewer values": (lambda: ucbias(np.ones(3), np.arange(U), GROUPS), "per_user"),
    "value of a user beyond": (lambda: ucbias(np.ones(1), [4], GROUPS), "users"),
    "masks for groups": (lambda: ucbias(np.ones(1), [0], (np.ones(4), np.ones(4))), "groups"),
    "fewer values to draw": (lambda: bootstrap_ucbias(np.ones(3), np.arange(U), GROUPS), "per_user"),
    "no draws": (lambda: bootstrap_ucbias(np.ones(U), np.arange(U), GROUPS, draws=0), "draws"),
    "level 95": (lambda: bootstrap_ucbias(np.ones(U), np.arange(U), GROUPS, level=95), "level"),
    "activity of others": (lambda: equal_activity(GROUPS, np.ones(3, int), [0], [1.0]), "lengths"),
    "activity of nobody": (lambda: equal_activity(GROUPS, np.zeros(U, int), [0], [1.0]), "lengths"),
    "half an interaction": (lambda: equal_activity(GROUPS, np.full(U, 0.5), [0], [1.0]), "lengths"),
    "fewer hits": (lambda: ucbias_at_equal_popularity([0, 3], [1, 1], [True], GROUPS), "hits"),
    "popularity below 0": (lambda: ucbias_at_equal_popularity([0], [-1], [True], GROUPS), "popularity"),
    "no bins": (lambda: ucbias_at_equal_popularity([0], [1], [True], GROUPS, bins=0), "bins"),
    "activity in no groups": (lambda: activity_groups(np.ones(U, int), groups=0), "groups"),
    "reference of no items": (lambda: reference_lists(None, HISTORIES, num_items=0, k=2), "num_items"),
    "reference of fewer items": (lambda: reference_lists(None, HISTORIES, num_items=3, k=2), "histories"),
    "table of nothing": (lambda: per_user_table({}), "evaluations"),
    "table of other users": (lambda: per_user_table({"a": evaluated([0]), "b": evaluated([1])}), "evaluations"),
    "hits of short lists": (lambda: held_out_hits(evaluated([0]), HISTORIES, TRUTH, k=9), "evaluation.lists"),
    "values of other users": (lambda: paired_test(np.ones(3), np.ones(4)), "same users"),
}


@pytest.mark.parametrize("case", OTHERS_OF_THE_KIND)
def test_arguments_that_do_not_fit_are_refused(case):
    function, named = OTHERS_OF_THE_KIND[case]
    refused(function, named)


def refused(function, named):
    with pytest.raises((ValueError, TypeError)) as caught:
        function()
    message = str(caught.value)
    assert re.search(rf"\b{re.escape(named)}", message), message
    assert "\n" not in message
    assert not re.search("lax|vmap|broadcast|[Tt]racer|NoneType object|operand", message), message


def test_nobody_has_empty_results_and_undefined_metrics():
    nobody = np.zeros(0, np.int32)
    results = evaluate_lists({"m": np.zeros((0, 20), int)}, nobody, HISTORIES, TRUTH, CONTENT, ks=(1,))["m"]
    assert results.lists.shape == (0, 20) and all(map(np.isnan, results.metrics.values()))
    ranked_by = evaluate(MODEL, [], HISTORIES, BOTH, CONTENT, truth=TRUTH, ks=(1,))["u"]
    assert ranked_by.per_user["recall@1"].shape == (0,) and np.isnan(ranked_by.metrics["rho"])
    assert np.isnan(settings(users=[])["recall@10"]).all()
    none = Histories.from_pairs([], [], U)
    rescored = rescore(MODEL, none, make_content({"a": np.eye(I)}, none), UParameters(2.0, 5.0, 0.1), k=3)
    assert rescored.lists["u"].shape == (0, 3)
    assert np.isnan(ucbias([], [], GROUPS)) and np.isnan(rho(np.ones((0, 2)), np.ones((0, 2), int)))
    assert all(map(np.isnan, bootstrap_ucbias([], [], GROUPS)))
    assert tune(MODEL, HISTORIES, none, CONTENT, GRID)[0] is None
