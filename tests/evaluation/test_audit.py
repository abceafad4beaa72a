"""An audit of lists: its numbers are those of `evaluate`, and its words follow from them."""

import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax import Encoded, Histories, bootstrap_ucbias, evaluate, make_content, vanilla
from isolator_jax.evaluation import reference_lists
from isolator_jax.evaluation.audit import Bias, audit_lists
from isolator_jax.reporting.audit_page import audit_markdown, reading


@pytest.fixture(scope="module")
def audited(small_dataset):
    """Lists of two systems and of popularity, audited; the first ten users have no held-out items."""
    data = small_dataset
    histories = data.train.histories(data.num_users)
    late = data.test.users >= 10
    truth = Histories.from_pairs(data.test.users[late], data.test.items[late], data.num_users)
    content = make_content(data.features, histories)
    rng = np.random.default_rng(0)
    results = {}
    for name in ("mine", "other"):
        model = Encoded(
            *(jnp.asarray(rng.standard_normal((n, 4)), jnp.float32) for n in (data.num_users, data.num_items))
        )
        results[name] = evaluate(model, None, histories, {"f": vanilla()}, content, truth=truth)["f"]
    users = results["mine"].users
    lists = {name: result.lists for name, result in results.items()}
    lists["popular"] = reference_lists(users, histories, num_items=data.num_items, k=20)["popularity"]
    audit = audit_lists(lists, users, histories, truth, content, num_items=data.num_items)
    return audit, results


def test_its_numbers_are_those_of_evaluate_and_references_stand_beside_them(audited):
    audit, results = audited
    found = audit.to_dict()
    for name, result in results.items():
        for metric, value in result.metrics.items():
            assert found["systems"][name][metric] == pytest.approx(value, abs=1e-12, nan_ok=True)
    assert list(found["references"]) == ["popularity", "content"]
    for metric, value in found["systems"]["popular"].items():
        assert found["references"]["popularity"][metric] == value


def test_the_bias_lies_between_its_ends_and_is_the_difference_of_its_groups(audited):
    for name, values in audited[0].to_dict()["systems"].items():
        system = audited[0].systems[name]
        ends = bootstrap_ucbias(system.per_user["recall@20"], system.users, system.groups)
        assert tuple(values["intervals"]["ucbias@20"]) == ends  # what every other command says of these lists
        for metric, (low, high) in values["intervals"].items():
            assert low <= values[metric] <= high
        difference = values["recall@20/consistent"] - values["recall@20/diverse"]
        assert values["ucbias@20"] == pytest.approx(difference, abs=1e-12)


def test_systems_are_compared_by_pairs_and_equal_ones_do_not_differ(audited):
    audit, _ = audited
    pairs = {(row.first, row.second) for row in audit.comparisons}
    assert pairs == {("mine", "other"), ("mine", "popular"), ("other", "popular")}
    assert {row.metric for row in audit.comparisons} == {"recall@10", "recall@20", "ndcg@10", "ndcg@20", "ucbias@20"}
    for row in audit.comparisons:
        expected = audit.systems[row.first].metrics[row.metric] - audit.systems[row.second].metrics[row.metric]
        assert row.difference == pytest.approx(expected, abs=1e-12) and 0 <= row.p <= row.adjusted <= 1


def test_the_page_has_every_system_within_its_width(audited):
    page = audit_markdown(audited[0], "Audit of <b> on a|b", ["read from x"])
    assert "# Audit of \\<b> on a\\|b" in page and "- read from x" in page
    for name in ("mine", "other", "popular", "popularity alone", "s_ui alone"):
        assert name in page
    assert all(len(line) <= 80 for line in page.splitlines() if line.startswith("|"))


def test_too_few_users_for_the_intervals_are_told(audited):
    audit, _ = audited
    mine = audit.systems["mine"]
    measured = mine.users[~np.isnan(mine.per_user["recall@20"])]
    for name, weights in zip(("consistent", "diverse"), audit.groups, strict=False):
        assert audit.to_dict()["groups"][name]["evaluated"] == weights[measured].sum()
    audit = audit._replace(alike=audit.alike._replace(groups=audit.groups))  # as large as the others
    assert "fewer than ten users" not in audit_markdown(audit, "a", [])

    members = measured[audit.groups.diverse[measured] > 0]
    for left, told in ((9, True), (1, False)):  # of one there is no interval
        diverse = np.isin(np.arange(audit.groups.diverse.size), members[:left]).astype(float)
        alike = audit.alike._replace(groups=audit.groups._replace(diverse=diverse))
        page = audit_markdown(audit._replace(alike=alike), "a", [])
        assert ("A group of like activity has fewer than ten users" in page) == told
        assert "A group has fewer" not in page

    recall = np.where(np.isin(mine.users, members[9:]), np.nan, mine.per_user["recall@20"])
    mine = mine._replace(per_user=mine.per_user | {"recall@20": recall})
    page = audit_markdown(audit._replace(systems=audit.systems | {"mine": mine}), "a", [])
    assert "A group has fewer than ten users with held-out items" in page


def test_without_content_there_is_accuracy_and_no_bias(small_dataset):
    histories, truth = (split.histories(small_dataset.num_users) for split in (small_dataset.train, small_dataset.test))
    users = np.arange(small_dataset.num_users)
    lists = reference_lists(users, histories, num_items=small_dataset.num_items, k=20)
    audit = audit_lists({"a": lists["popularity"]}, users, histories, truth, num_items=small_dataset.num_items)
    found = audit.to_dict()
    assert list(found["references"]) == ["popularity"] and "groups" not in found
    assert not any("ucbias" in metric for metric in found["systems"]["a"])
    assert "no UCBias" in audit_markdown(audit, "a", [])


def bias(value, interval=None, activity=None, activity_interval=None, popularity=None):
    """A bias clear of zero, all of which is left at equal activity and popularity, unless told otherwise."""
    around = (value - 0.01, value + 0.01)
    activity = value if activity is None else activity
    return Bias(
        value, interval or around, activity, activity_interval or around, value if popularity is None else popularity
    )


@pytest.mark.parametrize(
    ("own", "popularity", "content", "words"),
    [
        (bias(0.18, popularity=0.07), 0.166, 0.051, "popularity can explain it, and nothing about content follows"),
        (bias(0.18), 0.166, 0.051, "popularity does not explain it, though: it is there among items of like"),
        (bias(0.11), 0.02, 0.13, "likeness of content can explain it, popularity does not"),
        (bias(0.2), 0.15, 0.26, "either can explain it"),
        (bias(0.2), 0.01, 0.02, "neither explains it alone"),
        (bias(-0.1), -0.09, 0.2, "content-diverse users get the better lists"),
        (bias(0.1), 0.0, 0.1, "activity alone does not explain it"),
        (bias(0.1), 0.0, 0.1, "popularity of the held-out items alone does not explain it"),
        (bias(0.1, activity=0.01, activity_interval=(-0.02, 0.04)), 0.0, 0.1, "activity may explain it"),
        (bias(0.1, activity=-0.2, activity_interval=(-0.3, -0.1)), 0.0, 0.1, "other way round: activity explains more"),
        (bias(0.1, activity_interval=(float("nan"), float("nan"))), 0.0, 0.1, "Too few users of like activity"),
        (bias(0.1, popularity=-0.3), 0.0, 0.1, "the other way round: the popularity of the held-out items"),
        (bias(0.6, interval=(float("nan"), float("nan"))), 0.0, 0.1, "too few users for an interval"),
        (bias(0.1, activity=float("nan")), 0.0, 0.1, "Too few users of like activity"),
        (bias(0.1, popularity=0.02), 0.0, 0.1, "popularity of the held-out items explains most of it"),
        (bias(0.1, popularity=float("nan")), 0.0, 0.1, "Too few held-out items of like popularity"),
        (bias(0.01, interval=(-0.02, 0.04)), 0.0, 0.1, "within noise of none"),
        (bias(float("nan")), 0.0, 0.1, "not defined"),
    ],
)
def test_words_follow_from_the_numbers(own, popularity, content, words):
    first, sentence = reading({"mine": own}, {"popularity": bias(popularity), "content": bias(content)})
    assert f"popularity alone has {popularity:+.3f} and s_ui alone has {content:+.3f}" in first
    assert sentence.startswith("mine: ") and words in sentence
