"""Verdicts on the paper's claims, from evaluations made so that each verdict is known."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from isolator_jax.evaluation import consistency_groups, ucbias
from isolator_jax.evaluation.resampling import resampled_ucbias, two_sided_p
from isolator_jax.evaluation.significance import bootstrap_ucbias
from isolator_jax.reporting.claims import VERDICTS, claims, summary
from tests.reporting.made import evaluation, model, same

N = 400
RNG = np.random.default_rng(0)
BASE = np.tile(RNG.random(20), N // 20)  # the same in every group
CONSISTENT = np.arange(N) >= N // 2  # c_u rises with the user's id
NOISE = 0.1 * RNG.choice([-1.0, 1.0], N)
NOISE -= NOISE.mean()
BIAS = np.where(CONSISTENT, 0.6, 0.0)


def verdicts(frame, claim):
    """Verdicts of a claim's cases by their names."""
    rows = frame[(frame["claim"] == claim) & ~frame["case"].str.startswith("all ")]
    assert len(rows), claim
    return dict(zip(rows["case"], rows["verdict"], strict=True))


@pytest.fixture(scope="module")
def frame():
    """Counterparts without bias or gain; VBPR as the paper has it, MGCN the reverse or by chance."""
    paper_like = {
        "vanilla": BASE + BIAS,
        "training_strategy": BASE + 1.3 * BIAS + 0.05 + 0.1 * NOISE,
        "d": BASE + 0.5 * BIAS + 0.3 + NOISE / 10,
        "u": BASE + 0.8 * BIAS + 0.35 + NOISE / 5,
        "u_without_training_strategy": BASE + 1.6 * BIAS - 0.5 + NOISE / 20,
    }
    reverse = {
        "vanilla": BASE + 0.1 * BIAS,
        "training_strategy": BASE + 0.1 * BIAS + NOISE + 0.0005,
        "d": BASE - 2 * BIAS - 0.2 + NOISE / 10,
        "u": BASE + 0.1 * BIAS + NOISE - 0.0005,
        "u_without_training_strategy": BASE + 0.1 * BIAS,
    }
    rhos = {"mfbpr": 0.1, "lightgcn": 0.2, "vbpr": 0.3, "mgcn": 0.15}
    return claims(
        [
            same("mfbpr", BASE, rho=rhos["mfbpr"], u=BASE + 1),
            same("lightgcn", BASE, rho=rhos["lightgcn"], u=BASE + 1),
            model("vbpr", rho=rhos["vbpr"], **paper_like),
            model("mgcn", rho=rhos["mgcn"], **reverse),
        ]
    )


@pytest.mark.parametrize(
    ("claim", "vbpr", "mgcn"),
    [
        ("D-ISOLATOR has higher R@20 than Vanilla", "holds beyond noise", "against beyond noise"),
        ("U-ISOLATOR has higher R@20 than Vanilla", "holds beyond noise", "against"),
        ("U-ISOLATOR has higher R@20 than D-ISOLATOR", "holds beyond noise", "holds beyond noise"),
        ("Vanilla w/ TS has higher R@20 than Vanilla", "holds beyond noise", "sign only"),
        ("Vanilla w/ TS has larger UCBias@20 than Vanilla", "holds beyond noise", None),
        ("D-ISOLATOR has smaller UCBias@20 than Vanilla", "holds beyond noise", "against beyond noise"),
        ("D-ISOLATOR has smaller UCBias@20 than U-ISOLATOR", "holds beyond noise", None),
        ("U w/o TS has lower R@20 than Vanilla", "holds beyond noise", "equal"),
        ("U w/o TS has larger UCBias@20 than D-ISOLATOR", "holds beyond noise", None),
    ],
)
def test_claims_on_strategies_are_scored_for_multi_modal_models_alone(frame, claim, vbpr, mgcn):
    """D of MGCN has a UCBias of the other sign: smaller with its sign, and larger in size."""
    found = verdicts(frame, claim)
    assert set(found) == {"VBPR", "MGCN"} and found["VBPR"] == vbpr
    assert mgcn is None or found["MGCN"] == mgcn


def test_graph_models_alone_are_held_to_us_lower_bias(frame):
    assert set(verdicts(frame, "U-ISOLATOR has smaller UCBias@20 than Vanilla, graph models")) == {"MGCN"}


def test_the_sign_of_a_bias_is_shown_and_its_size_compared(frame):
    row = frame[(frame["claim"] == "D-ISOLATOR has smaller UCBias@20 than Vanilla") & (frame["case"] == "MGCN")].iloc[0]
    assert row["subject"] < 0 < row["other"]
    assert row["difference"] == pytest.approx(abs(row["subject"]) - row["other"])
    assert row["test"] == "t over users and seeds, bootstrap over users, paired t over seeds"


@pytest.mark.parametrize("where", ["groups of 5 %", "groups of 25 %", "equal activity"])
def test_bias_is_scored_for_each_share_and_at_equal_activity(frame, where):
    positive = verdicts(frame, f"UCBias@20 is positive, {where}")
    assert set(positive) == {"MFBPR", "LightGCN", "VBPR", "MGCN"}
    assert positive["VBPR"] == "holds beyond noise" and positive["MFBPR"] != "holds beyond noise"
    larger = verdicts(frame, f"UCBias@20 is larger for multi-modal models than for their counterparts, {where}")
    assert set(larger) == {"VBPR over MFBPR", "MGCN over LightGCN"}


def test_counterparts_are_found_by_kind(frame):
    rho = verdicts(frame, "rho is higher for multi-modal models than for their counterparts")
    # rho has no test over users; two seeds cannot bear the adjustment over the table.
    assert rho == {"VBPR over MFBPR": "sign only", "MGCN over LightGCN": "against"}
    assert verdicts(frame, "R@20 is higher for multi-modal models than for their counterparts")["VBPR over MFBPR"] == (
        "holds beyond noise"
    )


def test_the_correlation_is_tested_by_permuting_the_models(frame):
    rows = frame[frame["claim"] == "R@20 rises with rho over the models"]
    assert list(rows["case"]) == ["all 2", "4 models, rho", "4 models, rho (image)"]
    row = rows.iloc[1]
    recalls = [BASE.mean() + 0.05, BASE.mean() + 0.05, (BASE + BIAS).mean() + 0.05, (BASE + 0.1 * BIAS).mean() + 0.05]
    assert row["subject"] == pytest.approx(stats.pearsonr([0.1, 0.2, 0.3, 0.15], recalls).statistic)
    assert row["p over models"] >= 2 / 24 and row["verdict"] == "sign only"


def test_p_values_are_adjusted_over_the_whole_table(frame):
    """Of a claim by chance, the raw p is known; Holm makes it larger, up to 1."""
    row = frame[(frame["claim"] == "U-ISOLATOR has higher R@20 than Vanilla") & (frame["case"] == "MGCN")].iloc[0]
    raw = stats.ttest_1samp(NOISE - 0.0005, 0).pvalue
    assert raw < 1 and row["p over users"] == 1
    tested = frame["p over users"].count()
    strongest = frame["p over users"].min()
    assert tested > 50 and strongest < 0.05


def test_each_claim_has_a_row_that_counts_its_verdicts(frame):
    counts = summary(frame).set_index("claim")["verdict"]
    assert counts["D-ISOLATOR has higher R@20 than Vanilla"] == "1 holds beyond noise, 1 against beyond noise"
    assert len(counts) == frame["claim"].nunique()
    cases = frame[~frame["case"].str.startswith("all ")]
    assert set(cases["verdict"]) <= set(VERDICTS)
    assert set(cases["section"].str.partition(",")[0]) == {"3.3", "3.4", "3.5", "5.1", "5.3", "5.4"}


def test_what_is_undefined_is_never_beyond_noise():
    """Nobody has a c_u: no UCBias. One seed: nothing over seeds."""
    nobody = np.full(N + 1, np.nan)
    frame = claims([same(name, BASE, seeds=(0.0,), consistency=nobody) for name in ("mfbpr", "vbpr")])
    assert set(verdicts(frame, "UCBias@20 is positive, groups of 20 %").values()) == {"undefined"}
    assert set(verdicts(frame, "D-ISOLATOR has smaller UCBias@20 than Vanilla").values()) == {"undefined"}
    assert verdicts(frame, "R@20 rises with rho over the models") == {
        "2 models, rho": "undefined",
        "2 models, rho (image)": "undefined",
    }
    assert set(verdicts(frame, "D-ISOLATOR has higher R@20 than Vanilla").values()) == {"equal"}
    assert not frame["verdict"].str.contains("beyond").any()


def test_equal_values_summed_in_another_order_are_equal():
    """The recalls of three users change places: no user's is the same, and the mean is."""
    values = np.tile([0.1, 0.2, 0.3], N // 3)
    frame = claims([same("vbpr", values, u=np.roll(values, 1), seeds=(0.0,))])
    assert verdicts(frame, "U-ISOLATOR has higher R@20 than Vanilla") == {"VBPR": "equal"}


def test_where_the_test_over_users_has_no_p_that_over_seeds_does_not_decide():
    """Every user gains the same, so the t-test over them is undefined; over the seeds it is not."""
    model = same("vbpr", np.zeros(N))
    us = [evaluation(np.full(N, recall)) for recall in (1.0, 1.1001)]
    frame = claims([dataclasses.replace(model, evaluations={**model.evaluations, "u": us})])
    row = frame[(frame["claim"] == "U-ISOLATOR has higher R@20 than Vanilla") & (frame["case"] == "VBPR")].iloc[0]
    assert np.isnan(row["p over users"]) and row["p over seeds"] < 0.05
    assert row["verdict"] == "sign only"


def test_a_seed_that_disagrees_is_noise():
    """Over users the gain is sure; one of two seeds has none of it."""
    claim = "U-ISOLATOR has higher R@20 than Vanilla"
    sure = same("vbpr", BASE, u=BASE + 0.2 + NOISE / 10)
    assert verdicts(claims([sure]), claim) == {"VBPR": "holds beyond noise"}
    gaining, losing = same("vbpr", BASE, u=BASE + 0.5 + NOISE / 10), same("vbpr", BASE, u=BASE - 0.1 + NOISE / 10)
    mixed = [gaining.evaluations["u"][0], losing.evaluations["u"][1]]
    torn = dataclasses.replace(sure, evaluations={**sure.evaluations, "u": mixed})
    assert verdicts(claims([torn]), claim) == {"VBPR": "sign only"}


def test_a_gain_that_scatters_over_the_seeds_is_noise():
    """Over users it is sure and has its sign in every seed; the seeds' gains differ by more than it."""
    claim = "U-ISOLATOR has higher R@20 than Vanilla"
    plain, gains = same("vbpr", BASE, seeds=(0.0, 0.0, 0.0)), (0.001, 0.008, 0.03)
    us = [evaluation(BASE + gain + NOISE / 20) for gain in gains]
    frame = claims([dataclasses.replace(plain, evaluations={**plain.evaluations, "u": us})])
    row = frame[(frame["claim"] == claim) & (frame["case"] == "VBPR")].iloc[0]
    assert (row["p over users"], row["seeds agreeing"]) == (pytest.approx(0, abs=1e-9), 3)
    assert row["deviation over seeds"] == pytest.approx(np.std(gains, ddof=1))
    assert row["p over users and seeds"] > 0.3 and row["verdict"] == "sign only"


def test_of_a_model_with_fewer_seeds_those_that_both_have_are_compared():
    """VBPR is ahead in both of MFBPR's seeds; its third, far behind, counts in its mean alone."""
    models = [same("mfbpr", BASE, seeds=(0.0, 0.1)), same("vbpr", BASE + NOISE, seeds=(0.3, 0.4, -0.1))]
    other = same("lightgcn", BASE, seeds=(0.0,))
    frame = claims([*models, other])
    claim = "R@20 is higher for multi-modal models than for their counterparts"
    row = frame[(frame["claim"] == claim) & (frame["case"] == "VBPR over MFBPR")].iloc[0]
    assert row["difference"] == pytest.approx(0.2 - 0.05)
    assert (row["seeds"], row["seeds agreeing"]) == (2, 2)
    correlation = frame[frame["case"] == "3 models, rho"].iloc[0]
    assert correlation["seeds"] == 1
    of_models = [
        (np.mean(model.per_seed("vanilla", name)) for model in [*models, other]) for name in ("rho", "recall@20")
    ]
    assert correlation["subject"] == pytest.approx(stats.pearsonr(*map(list, of_models)).statistic)


def test_claims_on_table_3_are_of_each_modality_and_of_all_together():
    plain = [same("vbpr", BASE, d=BASE + 0.2 + NOISE / 10)]
    alone = [
        same("vbpr", BASE - level + NOISE / 10, modalities=(name,)) for name, level in (("image", 0.3), ("text", -0.3))
    ]
    frame = claims(plain, [*alone, same("vbpr", BASE, d=BASE + 0.2 + NOISE / 10)])
    together = verdicts(frame, "All modalities together have higher R@20 than one alone")
    assert together["Vanilla, over image"] == "holds beyond noise"
    assert together["Vanilla, over text"] == "against beyond noise"
    gains = verdicts(frame, "D-ISOLATOR has higher R@20 than Vanilla on each modality")
    assert gains == {"image": "equal", "text": "equal", "image+text": "holds beyond noise"}
    assert "5.2, Table 3" in set(frame["section"])


def test_models_that_rank_different_users_are_refused():
    with pytest.raises(ValueError, match="mgcn ranks other users than vbpr"):
        claims([same("vbpr", BASE), same("mgcn", BASE[:-1], consistency=np.linspace(0, 1, N + 1))])


def test_resamples_agree_with_the_bootstrap_of_one_and_keep_weights():
    """Users 0 to 9 are tied at the diverse cut; its six places are shared."""
    consistency = np.linspace(0, 1, 30)
    consistency[:10] = 0.0
    groups = consistency_groups(consistency, 20)
    values = np.random.default_rng(1).random((30, 2))
    users = np.arange(30)
    draws = resampled_ucbias(values, users, groups, draws=4000)
    for column in range(2):
        low, high = bootstrap_ucbias(values[:, column], users, groups)
        np.testing.assert_allclose(np.percentile(draws[:, column], [2.5, 97.5]), [low, high], atol=0.03)
        assert draws[:, column].mean() == pytest.approx(ucbias(values[:, column], users, groups), abs=0.01)
    np.testing.assert_array_equal(draws, resampled_ucbias(values, users, groups, draws=4000))


@pytest.mark.parametrize(
    ("draws", "p"),
    [
        ([1.0] * 99, np.nan),  # nothing varies
        ([1 / 3, np.nextafter(1 / 3, 1)] * 50, np.nan),  # but by rounding
        ([0.0] * 9, 1.0),
        ([np.nan] * 9, np.nan),
        ([1.0, -1.0] * 10, 1.0),
    ],
)
def test_p_of_resamples(draws, p):
    np.testing.assert_equal(two_sided_p(np.array(draws)), p)


def test_p_of_a_clear_difference_is_the_difference_s_and_not_the_seed_s():
    """1.96 and 4.5 deviations off zero, of 20,000 draws the first has some below it and the second none."""
    for away, p in ((1.96, 0.05), (3.0, 2.7e-3), (4.5, 6.8e-6)):
        found = [two_sided_p(np.random.default_rng(seed).normal(away, 1, 20_000)) for seed in range(5)]
        np.testing.assert_allclose(found, p, rtol=0.35)
