"""The search as a user runs it: interrupted, failing, and what it tests."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from isolator_jax.runs.config import EXTENDABLE
from tests.experiments.test_commands import command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    made = command(
        "make_dataset", f"--output_dir={folder}", "--name=made", "--users=90", "--items=60",
        "--clusters=4", "--styles=4", "--modalities=image:8,text:6",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder


def sweep(data, out, *arguments):
    return command(
        "sweep", "--backbone=vbpr", f"--data_dir={data}", "--dataset=made", f"--output_dir={out}", "--max_epochs=3",
        "--gammas=0.1", "--alphas=2,10", "--betas=1", "--iotas=0.1,1", "--hparams=dim=8", *arguments,
    )  # fmt: skip


def test_a_search_records_failures_resumes_and_tests_only_what_validation_chose(data, tmp_path):
    out = tmp_path / "out"
    grid = ["--grid=learning_rate=0.01,1e30", "--seeds=0,1"]
    done = sweep(data, out, *grid)
    assert done.returncode == 0, done.stderr
    # 2 learning rates x (plain + 1 gamma) x 2 seeds; 4 settings where gamma > 0.
    assert "Trainings: 20 if every inference setting were trained, 8 in this search, 4 failed." in done.stdout
    assert "Trained by this worker: 8 of 8." in done.stdout
    failed = out / "trials" / "gamma=0.1,learning_rate=1e+30,seed=1" / "failure.json"
    assert json.loads(failed.read_text())["error"] == "TrainingDiverged"

    table = pd.read_parquet(out / "validation.parquet")
    pd.testing.assert_frame_equal(table, pd.read_csv(out / "validation.csv"), check_dtype=False)
    assert set(table["hparams.learning_rate"]) == {0.01}
    assert len(table) == 2 * ((1 + 4) + (2 + 4))
    report = json.loads((out / "report.json").read_text())
    (u,) = (row for row in report["chosen"] if row["strategy"] == "u")
    means = table[table.strategy == "u"].groupby(["alpha", "beta", "iota"])["recall@20"].mean()
    assert (u["alpha"], u["beta"], u["iota"]) in means[means == means.max()].index
    assert len(u["test"]) == 2 and u["mean"]["recall@20"] == pytest.approx(np.mean([x["recall@20"] for x in u["test"]]))
    # No trial was tested.
    for trial in (out / "trials").iterdir():
        if (trial / "report.json").exists():
            assert set(json.loads((trial / "report.json").read_text())) >= {"validation"}
            assert "test" not in json.loads((trial / "report.json").read_text())

    # One trial is lost, as by an interrupt: only it is run again, and the result is the same.
    shutil.rmtree(out / "trials" / "gamma=0.1,learning_rate=0.01,seed=1")
    again = sweep(data, out, *grid)
    assert "Trained by this worker: 1 of 8." in again.stdout, again.stderr
    assert json.loads((out / "report.json").read_text())["chosen"] == report["chosen"]

    # A seed fails in every setting: what validated without it is not chosen, and nothing is tested.
    for trial in (out / "trials").glob("*seed=1"):
        saved = json.loads((trial / "config.json").read_text())
        of_no_part = set(EXTENDABLE) - {"max_epochs", "patience"}
        saved["config"] = {name: value for name, value in saved["config"].items() if name not in of_no_part}
        (trial / "failure.json").write_text(json.dumps({"error": "RuntimeError", "message": "made", "of": saved}))
        (trial / "report.json").unlink(missing_ok=True)
    failing = sweep(data, out, *grid)
    assert failing.returncode == 1
    assert "no setting has all its 2 seeds, 6 of 8 trials failed" in failing.stderr


def test_a_search_for_an_aim_says_what_was_chosen_for_it_or_that_nothing_qualifies(data, tmp_path):
    aim = "least_bias_no_less_recall"
    done = sweep(data, tmp_path, f"--aim={aim}")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    found = {row["strategy"]: row for row in report["chosen"]}
    assert report["aim"] == aim and "the least size of UCBias@20" in done.stdout
    of_u = {"u", "u_without_training_strategy"}
    assert of_u == (of_u & set(found)) | set(report["none qualifies"])
    table = pd.read_parquet(tmp_path / "validation.parquet")
    (vanilla,) = table[table["strategy"] == "vanilla"]["recall@20"]
    for name in of_u:
        rows = table[(table["strategy"] == name) & (table["recall@20"] >= vanilla)]
        if name in found:
            assert abs(found[name]["validation ucbias@20"]) == rows["ucbias@20"].abs().min()
        else:
            assert rows.empty


def test_without_gammas_plain_bpr_is_searched_alone_and_needs_no_features(data, tmp_path):
    bare = tmp_path / "data" / "made"
    bare.mkdir(parents=True)
    shutil.copy(data / "made" / "made.inter", bare)
    arguments = ["--backbone=mfbpr", f"--output_dir={tmp_path / 'out'}", "--max_epochs=2", "--hparams=dim=8"]
    arguments += [f"--data_dir={tmp_path / 'data'}", "--dataset=made", "--grid=learning_rate=0.001,0.1"]
    refused = command("sweep", *arguments)
    assert refused.returncode == 1 and "isolator sweep --gammas=" in refused.stderr
    done = command("sweep", *arguments, "--gammas=")
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "out" / "validation.parquet")
    assert list(table["strategy"]) == ["vanilla"] * 2 and not table["training_strategy"].any()
    (chosen,) = json.loads((tmp_path / "out" / "report.json").read_text())["chosen"]
    assert chosen["hparams.learning_rate"] == table["hparams.learning_rate"][table["recall@20"].idxmax()]
    assert "Vanilla: learning_rate 0." in done.stdout and "p:" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gamma=0.1"], "--gammas"),
        (["--seed=1"], "--seeds"),
        (["--grid=reg"], "--grid must be"),
        (["--grid=reg=0.1,0.1"], "--grid must be"),
        (["--grid=nothing=1"], "no hyper-parameter nothing"),
        (["--seeds=0,x"], "--seeds must be"),
        (["--trials=3"], "add --sampler=optuna"),
        (["--sampler=optuna", "--space=reg=1..2"], "needs --trials"),
        (["--sampler=optuna", "--trials=2", "--space=reg=2..1"], "--space must be"),
        (["--sampler=optuna", "--trials=2", "--space=reg=0..1:log"], "--space must be"),
        (["--sampler=optuna", "--trials=2", "--space=dim=1..8"], "--hparams both set dim"),
        (["--sampler=optuna", "--trials=2", "--space=gamma=0.1..1"], "--gammas both set gamma"),
        (["--gammas=", "--alphas=2"], "--gammas= searches plain BPR alone"),
    ],
)
def test_flags_that_make_no_sense_are_refused(data, tmp_path, arguments, message):
    done = sweep(data, tmp_path / "out", *arguments)
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()
