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
    assert frame.at["d", "p"] == pytest.approx(max(p, 2 * frame.at["u", "p"] / 2))
    assert frame.at["u", "p"] < 1e-10 and np.isnan(frame.at["vanilla", "p"])


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
    ("marks", "best", "second", "star"),
    [
        (paper_tables.MARKDOWN, "**0.3000 ± 0.0100**", "<u>0.2000 ± 0.0100</u>", "\\*"),
        (paper_tables.LATEX, "\\textbf{0.3000} $\\pm$ 0.0100", "\\underline{0.2000} $\\pm$ 0.0100", "$^*$"),
    ],
)
def test_tables_mark_best_second_and_significantly_better(marks, best, second, star):
    rows = [
        ("vbpr", "vanilla", 0.1, np.nan),
        ("vbpr", "d", 0.2, 0.2),  # better by chance
        ("vbpr", "u", 0.3, 0.01),
        ("mgcn", "vanilla", 0.15, np.nan),
        ("mgcn", "u", 0.05, 0.01),  # significantly worse
    ]
    frame = pd.DataFrame(rows, columns=["backbone", "strategy", "mean", "p"]).assign(metric="recall@20", deviation=0.01)
    text = paper_tables.accuracy_table(frame, ["backbone"], marks)
    lines = {
        ("vbpr" in line, key): line
        for line in text.splitlines()
        for key in ("Vanilla", "D-ISO", "U-ISO")
        if key in line
    }
    assert star in lines[True, "U-ISO"] and text.count(star) == 1
    assert all(part in lines[True, "U-ISO"] for part in best.replace("**", "").split(" ± "))
    assert best.split(" ")[0].strip("*") in lines[True, "U-ISO"]
    assert second.split(" ")[0] in lines[True, "D-ISO"]


def test_the_lowest_bias_is_the_best():
    frame = pd.DataFrame(
        {"backbone": "vbpr", "strategy": ["vanilla", "d"], "mean": [0.2, 0.1], "p": np.nan, "metric": "ucbias@20"}
    ).assign(deviation=np.nan)
    text = paper_tables.accuracy_table(frame, ["backbone"], paper_tables.MARKDOWN)
    assert "**0.1000**" in text and "<u>0.2000</u>" in text


def test_models_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        model(vanilla=VANILLA).dataset = "other"


def test_a_plain_table_keeps_whole_numbers_whole_and_dashes_what_is_undefined():
    frame = pd.DataFrame({"dim": [3, np.nan], "value": [0.5, np.nan]})
    rows = paper_tables.plain_table(frame, paper_tables.MARKDOWN).splitlines()[2:]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == [["3", "0.5000"], ["-", "-"]]
