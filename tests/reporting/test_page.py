"""The HTML page, from made-up runs: foreign names stay text, and users tied at the cuts, or too few, are told."""

import re

import numpy as np
import pytest

from isolator_jax.evaluation import Settings, consistency_groups
from isolator_jax.evaluation.bias import measured_summary
from isolator_jax.reporting.page import report_page
from isolator_jax.reporting.views import Curve, Interval, ListItem, RunView, SettingsMetrics, UserExample
from isolator_jax.strategies import LABELS, MAIN

NAME = "<script>alert('a$_$b')</script>&\x1b[31m"


def run_view(name, *, tied=0, dataset="made", tested=200):
    """Of 200 users, of whom the first have test items."""
    rng = np.random.default_rng(0)
    consistency = rng.random(200)
    consistency[:tied] = 0.0
    metrics = {"recall@10": 0.1, "recall@20": 0.2, "ucbias@20": 0.05, "rho": 0.4, f"rho/{name}": 0.4}
    values = {strategy: {key: value + rng.random() / 100 for key, value in metrics.items()} for strategy in LABELS}
    grid = Settings()
    shape = tuple(map(len, grid))
    items = [ListItem(f"{name} {number}", 0.5, number == 2) for number in range(20)]
    config = {
        "backbone": "vbpr", "dataset": dataset, "modalities": None, "knock_out": {}, "training_strategy": True,
        "seed": 0, "gamma": 0.1, "alpha": 2.0, "beta": 5.0, "iota": 0.1, "fusion": "mean", "batch_size": 2048,
        "max_epochs": 5, "patience": 25, "hparams": {"reg": name},
    }  # fmt: skip
    return RunView(
        name=name,
        data=dataset,
        report={
            "config": config,
            "dataset": {"users": 200, "items": 50, "train": 900, "validation": 100, "test": 100},
            "seconds_per_epoch": {"train": 1.0, "validation": None},
        },
        metrics={"test": values, "validation": values},
        curves=[Curve("ISOLATOR", np.arange(1, 4), np.ones(3), np.arange(3.0), 2)],
        ucbias={strategy: Interval(0.1, 0.05, 0.2) for strategy in LABELS},
        consistency=consistency,
        groups=consistency_groups(consistency),
        groups_in_numbers=measured_summary(
            np.where(np.arange(200) < tested, 0.1, np.nan), np.arange(200), consistency_groups(consistency)
        ),
        settings=SettingsMetrics(grid, rng.random(shape), rng.normal(size=shape) / 20),
        example=UserExample(name, 0.3, [items[2].item], items[:4], dict.fromkeys(MAIN, items)),
    )


@pytest.fixture(scope="module")
def page():
    return report_page(
        [run_view(NAME, tied=60), run_view("a$_$b", tied=60), run_view("other", dataset="other", tested=49)]
    )


def test_foreign_names_are_text_in_the_page(page):
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "\x1b" not in page and "\\x1b" in page
    assert not any("<" in comment for comment in re.findall(r"<!--(.*?)-->", page, flags=re.DOTALL))
    assert "a$_$b" in page


def test_users_tied_at_a_cut_are_told_where_there_are_any(page):
    assert page.count("cut of the content-consistent and of the content-diverse group: 0 and 60.") == 1


def test_groups_of_fewer_than_ten_users_are_told(page):
    other = run_view("other", tested=49)
    assert min(group["members"] for group in other.groups_in_numbers.values()) < 10 < other.groups.diverse.sum()
    assert page.count("A group has fewer than ten users") == 1


def test_the_pareto_front_is_of_the_size_of_the_bias(page):
    """Settings have biases of both signs; by their sign the most negative would be the best."""
    (table,) = re.findall(r"<caption>Pareto front of other, validation</caption>(.*?)</table>", page, flags=re.DOTALL)
    biases = [float(cells[-1]) for row in table.split("<tr>")[2:] if (cells := re.findall(r">(-?\d\.\d+)<", row))]
    assert len(biases) > 3 and max(np.diff(np.abs(biases))) <= 0
    assert min(biases) > -0.06
