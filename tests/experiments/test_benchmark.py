"""Random data of given sizes, the scaling study's points and exponents, and the counting of work."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import command

from experiments.measure import measuring, rates, scaling
from experiments.measure.random_data import random_dataset, with_random_features
from isolator_jax.data import SyntheticConfig, make_dataset
from isolator_jax.errors import ConfigError
from isolator_jax.runs.config import RunConfig

ROOT = Path(__file__).resolve().parents[2]


def test_random_data_has_the_sizes_asked_for_unique_pairs_and_popular_items():
    dataset = with_random_features(random_dataset(500, 200, 9000), {"image": 6})
    assert dataset.counts() == {"users": 500, "items": 200, "train": 7200, "validation": 900, "test": 900}
    splits = (dataset.train, dataset.validation, dataset.test)
    pairs = np.concatenate([split.users * 200 + split.items for split in splits])
    assert np.unique(pairs).size == 9000 and pairs.min() >= 0 and pairs.max() < 500 * 200
    popularity = np.sort(np.bincount(pairs % 200, minlength=200))
    assert popularity[-20:].mean() > 2 * popularity.mean()
    assert dataset.features["image"].shape == (200, 6)
    assert random_dataset(500, 200, 9000).fingerprint() == random_dataset(500, 200, 9000).fingerprint()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max_epochs=3"], "--max_epochs is of a whole training"),
        (["--scaling", "--users=100", "--items=50", "--interactions=1000"], "got 100, 50 and 2000"),
        (["--scaling", "--users=0"], "got 0, "),
        (["--profile", "--ranked_users=3"], "--profile ranks nobody"),
        (["--page=a.md", "--json=./a.md"], "would be replaced"),
        (["--page=a.md", "--data_dir=absent", "--dataset=absent"], "no such folder"),
        (["--modalities=image", "--users=60", "--items=40", "--interactions=300"], "--modalities"),
    ],
)
def test_what_would_be_ignored_or_fail_late_is_refused_first(arguments, message):
    done = command("benchmark", *arguments)
    assert done.returncode == 1 and message in done.stderr and not done.stdout


@pytest.mark.parametrize("sizes", [(0, 5, 1), (5, 5, 0), (10, 10, 26)])
def test_random_data_that_cannot_be_made_is_refused(sizes):
    with pytest.raises(ConfigError, match="quarter"):
        random_dataset(*sizes)


def test_the_study_doubles_one_size_at_a_time_and_finds_the_exponents_of_power_laws():
    base = {"users": 10, "items": 20, "interactions": 50, "dim": 4}
    growth = {
        "step_seconds": lambda s: 3.0 * s["users"] ** 2,
        "epoch_train_seconds": lambda s: 0.5 * s["users"] * s["dim"] ** 0.5,
        "validation_seconds": lambda s: s["items"] ** 1.5,
        "similarity_seconds": lambda s: 7.0,
        "top_k_u_seconds": lambda s: s["interactions"] / s["dim"],
        "peak_host_bytes": lambda s: 1000 + s["users"] * s["items"],
        "start_host_bytes": lambda s: 1000,
    }
    points = scaling.points(base, doublings=2)
    rows = scaling.study(points, lambda sizes: {name: law(sizes) for name, law in growth.items()})
    sizes = [tuple(row[axis] for axis in scaling.AXES) for row in rows]
    assert sizes == [
        (10, 20, 50, 4),
        *((20, 20, 50, 4), (40, 20, 50, 4)),
        *((10, 40, 50, 4), (10, 80, 50, 4)),
        *((10, 20, 100, 4), (10, 20, 200, 4)),
        *((10, 20, 50, 8), (10, 20, 50, 16)),
    ]
    expected = {
        "step_seconds": (2, 0, 0, 0),
        "epoch_train_seconds": (1, 0, 0, 0.5),
        "validation_seconds": (0, 1.5, 0, 0),
        "similarity_seconds": (0, 0, 0, 0),
        "top_k_u_seconds": (0, 0, 1, -1),
        "grown_host_bytes": (1, 1, 0, 0),
    }
    fitted = scaling.exponents(rows)
    for name, by_axis in expected.items():
        np.testing.assert_allclose([fitted[axis][name] for axis in scaling.AXES], by_axis, atol=1e-9, err_msg=name)


def test_the_peak_is_this_process_own_and_not_of_what_started_it():
    held = np.ones(60_000_000)  # 480 MB
    code = "from experiments.measure import rates; print(rates.peak_host_bytes())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 30e6 < int(done.stdout) < held.nbytes


@pytest.mark.parametrize("slow", ["content", "train"])
def test_preparation_is_measured_until_all_of_it_is_there(slow, monkeypatch):
    """Arrays are waited for in the time of the preparation, not in that of what follows."""
    config = RunConfig(backbone="mfbpr", hparams={"dim": 4})
    dataset, _ = make_dataset(SyntheticConfig(users=30, items=24, clusters=3, styles=3, modalities={"image": 4}))
    waited = []
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: waited.append(jax.tree.leaves(tree)) or tree)
    made = measuring.make_problem(config, dataset)
    monkeypatch.setattr(measuring, "make_problem", lambda *_: made)
    measuring.measure(config, dataset, 1, ["ranking"])
    first = {id(leaf) for leaf in waited[0]}
    assert all(id(leaf) in first for leaf in jax.tree.leaves(getattr(made, slow)))


def test_rates_are_shares_of_the_ceilings():
    # Three edges to two receivers, width 5: 3 weights, senders and rows; 2 row offsets and rows.
    work = rates.propagation_work(edges=3, receivers=2, dim=5)
    assert work == (4 * (3 + 3 + 15 + 2 + 10), 2 * 15)
    found = rates.achieved("x", work, seconds=2.0, ceilings=rates.Ceilings(132.0, 60.0))
    assert found == {
        "x_bytes_per_second": 66.0,
        "x_share_of_copy": 0.5,
        "x_flops_per_second": 15.0,
        "x_share_of_matmul": 0.25,
    }


def test_timing_leaves_the_warm_up_out_and_repeats_as_often_as_asked():
    calls = []
    timing = rates.timed(lambda: calls.append(0), repeats=4)
    assert len(calls) == 5
    assert 0 <= timing.fastest <= timing.median


@pytest.mark.parametrize("arguments", [[], ["--items=10", "--interactions=20", "--dataset=x", "--data_dir=y"]])
def test_sizes_and_a_dataset_are_not_mixed(arguments):
    done = command("benchmark", "--users=10", *arguments)
    assert done.returncode == 1
    assert "--interactions go together" in done.stderr
