"""The numbers behind the paper's artefacts, on evaluations made by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from isolator_jax.reporting import paper
from isolator_jax.reporting.model import equal_activity_groups
from isolator_jax.reporting.paper_tables import LATEX, MARKDOWN, accuracy_table, plain_table, tied_note, typeset
from tests.reporting.made import evaluation, model

USERS = np.arange(1, 41)
RNG = np.random.default_rng(0)
VANILLA, U = RNG.random(40), RNG.random(40)


def test_means_carry_seeds_deviation_and_adjusted_tests_over_users():
    frame = paper.means(
        [model(vanilla=VANILLA, u=VANILLA + 0.01 * RNG.random(40), d=U)], ["vanilla", "d", "u"], ["recall@20"]
    )
    frame = frame.set_index("strategy")
    assert (
        frame[["dataset", "backbone", "modalities", "seeds", "gamma"]] == ["made", "vbpr", "image+text", "0 1", 0.1]
    ).all(axis=None)
    assert frame.at["d", "mean"] == pytest.approx(U.mean() + 0.05)
    assert frame.at["d", "deviation"] == pytest.approx(np.std([0, 0.1], ddof=1))
    p = stats.ttest_rel(U, VANILLA).pvalue
    # Two tests: the smaller p-value counts twice.
    adjusted = frame["p over users"]
    assert adjusted["d"] == pytest.approx(max(p, 2 * adjusted["u"] / 2))
    assert adjusted["u"] < 1e-10 and np.isnan(adjusted["vanilla"])


def test_significance_over_seeds_pairs_the_seeds():
    """Of two strategies one gains in all three seeds, by much the same; of a single seed nothing can be told."""
    gains = {"vanilla": [0.0, 0.0, 0.0], "d": [0.1, 0.11, 0.12], "u": [0.3, -0.2, 0.2]}
    levels = [0.2, 0.4, 0.6]  # seeds differ by more than strategies

    def means(seeds):
        evaluations = {
            name: [evaluation(VANILLA + levels[seed] + values[seed]) for seed in range(seeds)]
            for name, values in gains.items()
        }
        return paper.means(
            [dataclasses.replace(model(vanilla=VANILLA), evaluations=evaluations)], list(gains), ["recall@20"]
        ).set_index(["metric", "strategy"])

    p = means(3)["p over seeds"]
    values = stats.ttest_1samp(gains["d"], 0).pvalue, stats.ttest_1samp(gains["u"], 0).pvalue
    assert p["recall@20", "d"] == pytest.approx(2 * values[0]) and p["recall@20", "d"] < 0.05
    assert p["recall@20", "u"] == pytest.approx(values[1]) and values[1] > 0.05
    assert means(1)["p over seeds"].isna().all()


def test_bias_for_several_shares_is_the_difference_of_the_groups():
    frame = paper.bias([model(vanilla=VANILLA)], ["vanilla"], [5, 25]).set_index("percent")
    recall = VANILLA + 0.05
    for percent, size in ((5, 2), (25, 10)):
        expected = recall[-size:].mean() - recall[:size].mean()
        row = frame.loc[percent]
        assert row["ucbias"] == pytest.approx(expected)
        assert row["low"] < expected < row["high"] and row["ucbias deviation"] == pytest.approx(0)
    seeds = [evaluation(VANILLA), evaluation(2 * VANILLA)]
    made = dataclasses.replace(model(vanilla=VANILLA), evaluations={"vanilla": seeds})
    row = paper.bias([made], ["vanilla"]).iloc[0]
    assert row["ucbias deviation"] == pytest.approx(row["ucbias"] / 1.5 / np.sqrt(2))
    assert np.isnan(paper.bias([model(seeds=(0.0,), vanilla=VANILLA)], ["vanilla"])["ucbias deviation"][0])


def active(lengths, diverse=50, consistent=50):
    """A model of as many users as `lengths`; the first are the diverse group, the last the consistent."""
    users = len(lengths) - 1
    consistency = np.full(users + 1, 0.5)
    consistency[0] = np.nan
    consistency[1 : diverse + 1], consistency[users - consistent + 1 :] = 0.0, 1.0
    made = model(vanilla=np.random.default_rng(0).random(users), consistency=consistency)
    return dataclasses.replace(made, lengths=np.asarray(lengths))


def test_equal_activity_takes_the_lower_median_and_widens_until_both_groups_have_100():
    """Of 200 users in each group; the median of 4.5 is nobody's."""
    for pattern, window in (([4, 5], (4, 4, 4)), ([3, 4, 4, 5, 5], (4, 3, 5))):
        found = equal_activity_groups(active(np.concatenate([[0], np.tile(pattern, 1000 // len(pattern))]), 200, 200))
        assert (found.median, found.fewest, found.most) == window


def test_equal_activity_is_told_with_its_users_draws_and_bootstrap():
    lengths = np.concatenate([[0], np.tile([3, 3, 9, 3, 3], 250)])
    made = active(lengths, 250, 250)
    recall = np.where((lengths[1:] == 3) == (np.arange(1250) >= 625), 0.9, 0.1)
    recall[np.arange(1250) % 50 == 0] = np.nan  # without held-out items
    recall = recall + np.tile([0.0, 0.02], 625)
    frame = paper.bias_at_equal_activity(
        [dataclasses.replace(made, evaluations={"vanilla": [evaluation(recall)]})], draws=50
    )
    row = frame.iloc[0]
    assert (row["median"], row["fewest"], row["most"], row["size"]) == (3, 3, 3, 97)
    assert (row["consistent users"], row["diverse users"]) == (195, 195)
    assert row["ucbias"] == pytest.approx(0.8, abs=0.01)
    assert row["draws low"] < row["ucbias"] < row["draws high"] and row["low"] < row["ucbias"] < row["high"]


def test_an_activity_window_with_nobody_is_undefined():
    made = dataclasses.replace(active(np.array([0, 1, 2, 3]), 0, 0), consistency=np.full(4, np.nan))
    row = paper.bias_at_equal_activity([made], draws=5).iloc[0]
    assert np.isnan(row[["ucbias", "low", "high", "draws low", "draws high"]].astype(float)).all()
    assert (row["consistent users"], row["diverse users"], row["fewest"], row["most"]) == (0, 0, 2, 2)


def test_users_tied_at_the_cuts_are_told_with_every_bias():
    """30 of 40 users have the least c_u: 8 places at 20 %, 2 at 5 %."""
    consistency = np.concatenate([[np.nan], np.zeros(30), np.arange(1, 11)])
    made = model(vanilla=VANILLA, u=U, consistency=consistency)
    frame = paper.bias([made], ["vanilla"], [5, 20])
    assert frame["tied diverse"].tolist() == [30, 30] and frame["tied consistent"].tolist() == [0, 0]
    assert tied_note(frame).endswith("group: 5 %: 0 and 30; 20 %: 0 and 30.")
    means = paper.means([made], ["vanilla", "u"], ["recall@20", "ucbias@20"])
    assert means.set_index("metric")["tied diverse"].dropna().tolist() == [30, 30]
    assert tied_note(means).endswith("group: 0 and 30.")
    assert tied_note(paper.bias([model(vanilla=VANILLA)], ["vanilla"])) == ""


def test_a_smaller_bias_is_significant_by_its_size():
    """U has a bias of the other sign and half the size, for all users alike."""
    bias = np.where(USERS > 20, 0.9, 0.0)
    noise = 0.01 * VANILLA
    frame = paper.means([model(vanilla=bias + noise, u=-0.3 * bias + noise)], ["vanilla", "u"], ["ucbias@20"])
    row = frame.set_index("strategy").loc["u"]
    assert row["mean"] < 0 and row["p over users"] < 0.001
    text = typeset(accuracy_table(frame, {"label": "backbone"}, MARKDOWN), MARKDOWN)
    assert f"**{row['mean']:.4f}** ± " in text and "\\*" in text


def test_a_bias_that_is_smaller_on_average_and_larger_in_every_seed_has_no_p_over_seeds():
    """Of the other sign in every second seed: the mean of U is near zero."""
    bias = np.where(USERS > 20, 1.0, 0.0)
    evaluations = {
        name: [evaluation(bias * size) for size in sizes]
        for name, sizes in {"vanilla": [0.1, 0.11, 0.12, 0.13], "u": [0.8, -0.81, 0.82, -0.79]}.items()
    }
    made = dataclasses.replace(model(vanilla=VANILLA), evaluations=evaluations)
    row = paper.means([made], ["vanilla", "u"], ["ucbias@20"]).set_index("strategy").loc["u"]
    assert abs(row["mean"]) < 0.1 and np.isnan(row["p over seeds"])


def test_draws_of_tied_users_have_the_mean_of_the_groups_with_their_weights():
    """Of 40 diverse users who are no tie and miss, and 360 tied ones who share the other places and hit."""
    consistency = np.concatenate([[np.nan], np.zeros(40), np.full(360, 0.5), np.linspace(0.6, 1, 100)])
    recall = np.concatenate([np.zeros(40), np.ones(460)])
    lengths = np.concatenate([[0], np.full(500, 3)])
    made = dataclasses.replace(model(vanilla=recall, consistency=consistency), lengths=lengths)
    made = dataclasses.replace(made, evaluations={"vanilla": [evaluation(recall)]})
    row = paper.bias_at_equal_activity([made], draws=2000).iloc[0]
    assert row["tied diverse"] == 360 and row["ucbias"] == pytest.approx(0.4)
    assert (row["draws low"] + row["draws high"]) / 2 == pytest.approx(0.4, abs=0.011)


def test_rho_is_told_for_each_modality_and_averaged():
    frame = paper.rho_and_recall([model(vanilla=VANILLA)]).set_index("similarity")
    assert frame["rho"].to_dict() == pytest.approx({"rho": 0.315, "rho/image": 0.415})


@pytest.mark.parametrize(
    ("marks", "best", "second", "star", "dagger"),
    [
        (MARKDOWN, "**0.3000** ± 0.0100", "<u>0.2000</u> ± 0.0100", "\\*", "†"),
        (
            LATEX,
            "\\textbf{0.3000} $\\pm$ 0.0100",
            "\\underline{0.2000} $\\pm$ 0.0100",
            "$^*$",
            "$^\\dagger$",
        ),
    ],
)
def test_tables_mark_best_second_and_significantly_better(marks, best, second, star, dagger):
    rows = [
        ("VBPR", "vanilla", 0.1, np.nan, np.nan),
        ("VBPR", "d", 0.2, 0.2, 0.01),  # better by chance of the users
        ("VBPR", "u", 0.3, 0.01, 0.2),  # better by chance of the seeds
        ("MGCN", "vanilla", 0.15, np.nan, np.nan),
        ("MGCN", "d", 0.16, 0.01, 0.01),
        ("MGCN", "u", 0.05, 0.01, 0.01),  # significantly worse
    ]
    frame = pd.DataFrame(rows, columns=["label", "strategy", "mean", "p over users", "p over seeds"])
    text = typeset(
        accuracy_table(frame.assign(metric="recall@20", deviation=0.01), {"label": "backbone"}, marks), marks
    )
    lines = {
        (name, key): line
        for line in text.splitlines()
        for name in ("VBPR", "MGCN")
        for key in ("Vanilla", "D-ISO", "U-ISO")
        if name in line and key in line
    }
    assert best + star in lines["VBPR", "U-ISO"]
    assert second + dagger in lines["VBPR", "D-ISO"]
    # Each block has a best value of its own.
    assert best.replace("3", "16", 1).replace("1600", "160", 1) + star + dagger in lines["MGCN", "D-ISO"]
    assert text.count(star) == text.count(dagger) == 2


def marked(values, metric):
    """The cells of one block, Vanilla, D and U, as Markdown has them."""
    frame = pd.DataFrame({"label": "VBPR", "strategy": ["vanilla", "d", "u"], "mean": values, "metric": metric})
    frame = frame.assign(**{"deviation": np.nan, "p over users": np.nan, "p over seeds": np.nan})
    return [row[-1] for row in accuracy_table(frame, {"label": "backbone"}, MARKDOWN).rows]


@pytest.mark.parametrize(
    ("values", "metric", "cells"),
    [
        ([0.2, 0.1, 0.3], "ucbias@20", ["<u>0.2000</u>", "**0.1000**", "0.3000"]),
        ([-0.3, 0.01, -0.005], "ucbias@20", ["-0.3000", "<u>0.0100</u>", "**-0.0050**"]),
        ([np.nan, 0.1, 0.3], "ucbias@20", ["-", "**0.1000**", "<u>0.3000</u>"]),
        ([np.nan, np.nan, 0.3], "recall@20", ["-", "-", "0.3000"]),
        ([0.3, 0.3, 0.2], "recall@20", ["**0.3000**", "**0.3000**", "<u>0.2000</u>"]),
        ([0.3, 0.2, 0.20001], "recall@20", ["**0.3000**", "<u>0.2000</u>", "<u>0.2000</u>"]),
    ],
)
def test_marks_within_a_block(values, metric, cells):
    """Of UCBias the smallest size is the best; equal values share a mark; what is undefined has none."""
    assert marked(values, metric) == cells


def test_a_plain_table_keeps_whole_numbers_whole_and_dashes_what_is_undefined():
    frame = pd.DataFrame({"dim": [3, np.nan], "value": [0.5, np.nan], "p over users": [1.234e-5, 1.0]})
    assert plain_table(frame, MARKDOWN).rows == [["3", "0.5000", "1.2e-05"], ["-", "-", "1"]]


def test_names_are_text_in_latex():
    name = r"\immediate\write18{x} a_b & 5 %"
    frame = pd.DataFrame({"label": name, "strategy": ["vanilla"], "mean": 0.5, "metric": "rho/a_b"})
    frame = frame.assign(**{"deviation": np.nan, "p over users": np.nan, "p over seeds": np.nan})
    for table in (accuracy_table(frame, {"label": "backbone"}, LATEX), plain_table(frame, LATEX)):
        text = typeset(table, LATEX)
        assert r"\textbackslash{}immediate\textbackslash{}write18\{x\} a\_b \& 5 \%" in text
        assert "a_b" not in text
