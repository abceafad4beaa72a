"""The numbers behind the paper's artefacts, on evaluations made by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from isolator_jax.evaluation import Evaluation
from isolator_jax.reporting import paper, paper_tables

USERS = np.arange(1, 41)  # user 0 has no history
CONSISTENCY = np.concatenate([[np.nan], np.linspace(0, 1, 40)])


def evaluation(recall, rho=0.3):
    recall = np.asarray(recall, np.float64)
    metrics = {"recall@20": np.nanmean(recall), "ucbias@20": 0.1, "rho": rho, "rho/image": rho + 0.1}
    return Evaluation(USERS, np.zeros((40, 20), np.int32), {"recall@20": recall}, metrics)


def model(backbone="vbpr", **recalls):
    """Evaluations of two seeds; the values of the second are 0.1 higher."""
    evaluations = {name: [evaluation(values), evaluation(np.add(values, 0.1))] for name, values in recalls.items()}
    return paper.Model(
        dataset="made",
        backbone=backbone,
        modalities=("image", "text"),
        config={"seeds": "0 1", "gamma": 0.1},
        evaluations=evaluations,
        consistency=CONSISTENCY,
        lengths=np.where(np.arange(41) == 0, 0, 3 + np.arange(41) % 2),
    )


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
            [dataclasses.replace(model(), evaluations=evaluations)], list(gains), ["recall@20", "ucbias@20"]
        ).set_index(["metric", "strategy"])

    p = means(3)["p over seeds"]
    values = stats.ttest_1samp(gains["d"], 0).pvalue, stats.ttest_1samp(gains["u"], 0).pvalue
    # Four tests, the two of UCBias without any difference.
    assert p["recall@20", "d"] == pytest.approx(4 * values[0]) and p["recall@20", "d"] < 0.05
    assert p["recall@20", "u"] == 1 and 3 * values[1] > 1
    assert p["ucbias@20"].tolist()[1:] == [1, 1]
    assert means(1)["p over seeds"].isna().all()


def test_bias_for_several_shares_is_the_difference_of_the_groups():
    frame = paper.bias([model(vanilla=VANILLA)], ["vanilla"], [5, 25]).set_index("percent")
    recall = VANILLA + 0.05
    for percent, size in ((5, 2), (25, 10)):
        expected = recall[-size:].mean() - recall[:size].mean()
        row = frame.loc[percent]
        assert row["ucbias"] == pytest.approx(expected)
        assert row["low"] < expected < row["high"]


def test_equal_activity_looks_only_at_users_with_the_median_history():
    """Users of the median length have recall 1 in the consistent group and 0 in the diverse; others the reverse."""
    lengths = 3 + USERS % 2
    median = int(np.median(lengths))
    recall = np.where((lengths == median) == (USERS > 20), 0.9, 0.0)
    row = paper.bias_at_equal_activity([model(vanilla=recall)], draws=50).iloc[0]
    assert row["interactions"] == median and row["size"] == 2
    assert row["ucbias"] == pytest.approx(0.9) and row["low"] == row["high"] == pytest.approx(0.9)


def test_rho_is_told_for_each_modality_and_averaged():
    frame = paper.rho_and_recall([model(vanilla=VANILLA)]).set_index("similarity")
    assert frame["rho"].to_dict() == {"average": 0.3, "image": 0.4}


def test_claims_say_how_many_models_they_hold_for():
    full = {name: VANILLA for name in ("vanilla", "training_strategy", "d", "u_without_training_strategy")}
    models = [model("mfbpr", u=VANILLA + 0.01, **full), model("vbpr", u=VANILLA - 0.01, **full)]
    frame = paper.claims(models).set_index("claim")
    assert frame.at["U-ISOLATOR has higher Recall@20 than Vanilla", "holds"] == "1 of 2"
    without = "U-ISOLATOR without the training strategy has lower Recall@20"
    assert frame.at[without, "holds"] == "1 of 2"
    assert frame.at["UCBias is positive", "holds"] == "2 of 2"
    assert (
        frame.at["Multi-modal models have higher Recall@20 than their conventional counterparts", "holds"] == "0 of 1"
    )
    # The claim's subject comes first; the mean of the seeds is 0.05 above the first.
    u, vanilla = VANILLA.mean() + 0.06, VANILLA.mean() + 0.05
    assert frame.at["U-ISOLATOR has higher Recall@20 than Vanilla", "numbers"].startswith(
        f"MFBPR {u:.4f} against {vanilla:.4f}"
    )
    assert frame.at[without, "numbers"].startswith(f"MFBPR {vanilla:.4f} against {u:.4f}")


def test_claims_say_which_differences_are_within_noise():
    """Chance decides which users gain; or all users gain the same, or only the consistent ones."""
    chance = VANILLA + 0.1 * np.random.default_rng(0).choice([-1.0, 1.0], VANILLA.size)
    consistent = VANILLA + np.where(USERS > 20, 0.2, 0.0)
    constant = VANILLA + 0.1
    full = {name: VANILLA for name in ("training_strategy", "d", "u_without_training_strategy")}
    models = [
        model("mfbpr", vanilla=constant, u=chance, **full),
        model("lightgcn", vanilla=constant, u=consistent, **full),
    ]
    frame = paper.claims(models).set_index("claim")["numbers"]
    recall = frame["U-ISOLATOR has higher Recall@20 than D-ISOLATOR"].split("; ")
    bias = frame["D-ISOLATOR has lower UCBias than U-ISOLATOR"].split("; ")
    assert [number.endswith("(within noise)") for number in recall] == [True, False]
    assert [number.endswith("(within noise)") for number in bias] == [True, False]
    assert "within noise" in frame["D-ISOLATOR has lower UCBias than Vanilla"]


@pytest.mark.parametrize(
    ("marks", "best", "second", "star", "dagger"),
    [
        (paper_tables.MARKDOWN, "**0.3000** ± 0.0100", "<u>0.2000</u> ± 0.0100", "\\*", "†"),
        (
            paper_tables.LATEX,
            "\\textbf{0.3000} $\\pm$ 0.0100",
            "\\underline{0.2000} $\\pm$ 0.0100",
            "$^*$",
            "$^\\dagger$",
        ),
    ],
)
def test_tables_mark_best_second_and_significantly_better(marks, best, second, star, dagger):
    rows = [
        ("vbpr", "vanilla", 0.1, np.nan, np.nan),
        ("vbpr", "d", 0.2, 0.2, 0.01),  # better by chance of the users
        ("vbpr", "u", 0.3, 0.01, 0.2),  # better by chance of the seeds
        ("mgcn", "vanilla", 0.15, np.nan, np.nan),
        ("mgcn", "d", 0.16, 0.01, 0.01),
        ("mgcn", "u", 0.05, 0.01, 0.01),  # significantly worse
    ]
    frame = pd.DataFrame(rows, columns=["backbone", "strategy", "mean", "p over users", "p over seeds"])
    text = paper_tables.accuracy_table(frame.assign(metric="recall@20", deviation=0.01), ["backbone"], marks)
    lines = {
        (name, key): line
        for line in text.splitlines()
        for name in ("VBPR", "MGCN")
        for key in ("Vanilla", "D-ISO", "U-ISO")
        if name in line and key in line
    }
    assert best + star in lines["VBPR", "U-ISO"]
    assert second + dagger in lines["VBPR", "D-ISO"]
    assert "0.0100" + star + dagger in lines["MGCN", "D-ISO"]
    assert text.count(star) == text.count(dagger) == 2


def test_the_lowest_bias_is_the_best():
    frame = pd.DataFrame(
        {"backbone": "vbpr", "strategy": ["vanilla", "d", "u"], "mean": [0.2, 0.1, 0.3], "metric": "ucbias@20"}
    ).assign(**{"deviation": np.nan, "p over users": np.nan, "p over seeds": [np.nan, 0.01, 0.01]})
    text = paper_tables.accuracy_table(frame, ["backbone"], paper_tables.MARKDOWN)
    assert "**0.1000**†" in text and "<u>0.2000</u>" in text and text.count("†") == 1


def test_models_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        model(vanilla=VANILLA).dataset = "other"


def test_a_plain_table_keeps_whole_numbers_whole_and_dashes_what_is_undefined():
    frame = pd.DataFrame({"dim": [3, np.nan], "value": [0.5, np.nan]})
    rows = paper_tables.plain_table(frame, paper_tables.MARKDOWN).splitlines()[2:]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == [["3", "0.5000"], ["-", "-"]]
