"""Runs on disk: resume equals uninterrupted, folders are protected, reports are complete."""

import dataclasses
import json
import math
import shutil
import warnings

import numpy as np
import pytest

from isolator_jax.data import Interactions, SyntheticConfig, make_dataset, write_dataset
from isolator_jax.errors import CheckpointError, DataError, RunError, TrainingDiverged, TrainingInterrupted
from isolator_jax.runs import (
    Learner,
    evaluate_problem,
    is_finished,
    load_dataset,
    load_run,
    make_problem,
    read_metrics,
    read_report,
    strategies_of,
    train_run,
)
from isolator_jax.runs.config import RunConfig

pytestmark = pytest.mark.slow

EVERY_EPOCH = {"checkpoint_every": lambda record: True}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    config = SyntheticConfig(users=80, items=60, clusters=4, styles=4, modalities={"image": 6, "text": 4})
    write_dataset(folder, "made", *make_dataset(config), config)
    return folder


def configure(data, **options):
    return RunConfig(**{"backbone": "vbpr", "data_dir": str(data), "dataset": "made", "max_epochs": 6, **options})


def start(config, run_dir, **options):
    return train_run(config, make_problem(config, load_dataset(config)), run_dir, **{**EVERY_EPOCH, **options})


class Killed(Exception):
    pass


def test_a_killed_run_resumes_and_ends_bit_identical(data, tmp_path):
    config = configure(data, backbone="lightgcn", batch_size=64)
    whole = start(config, tmp_path / "whole")

    def kill(state, record):
        if record.epoch == 4:
            raise Killed

    with pytest.raises(Killed):
        # Saved after epochs 1 and 3 only: epoch 4 is lost with the kill.
        start(config, tmp_path / "killed", on_epoch=kill, checkpoint_every=lambda record: record.epoch in (1, 3))
    resumed = start(config, tmp_path / "killed")

    for split in ("validation", "test"):
        assert resumed[split] == whole[split]
    for name in ("best_epoch", "epochs"):
        assert resumed[name] == whole[name]
    *_, first, _ = load_run(tmp_path / "whole")
    *_, second, _ = load_run(tmp_path / "killed")
    np.testing.assert_array_equal(first.users, second.users)
    np.testing.assert_array_equal(first.items, second.items)
    lines = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_can_be_extended_on_moved_data_and_equals_the_longer_run(data, tmp_path):
    longer = start(configure(data, max_epochs=6), tmp_path / "longer")
    run, short, long = tmp_path / "extended", configure(data, max_epochs=3), configure(data, max_epochs=6)
    dataset = load_dataset(short)
    assert not is_finished(run, short, dataset)
    start(short, run)
    assert is_finished(run, short, dataset) and not is_finished(run, long, dataset)
    with pytest.raises(TrainingInterrupted):
        start(long, run, stop=lambda: True)
    assert not is_finished(run, long, dataset)
    moved = shutil.copytree(data, tmp_path / "moved")
    extended = start(configure(moved, max_epochs=6), run)
    assert is_finished(run, long, dataset)
    assert extended["test"] == longer["test"]
    assert load_run(run)[0].data_dir == str(moved)


def test_the_report_is_what_is_on_disk_and_what_evaluation_reads_back(data, tmp_path):
    report = start(configure(data), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == report
    assert set(report["test"]) == {"training_strategy", "d", "u"}
    assert {"recall@10", "recall@20", "ndcg@10", "ndcg@20", "ucbias@20", "rho", "rho/image", "rho/text"} <= set(
        report["test"]["d"]
    )
    markdown = (tmp_path / "run" / "report.md").read_text()
    assert f"{report['test']['u']['recall@20']:.4f}" in markdown
    config, problem, encoded, epoch = load_run(tmp_path / "run")
    results = evaluate_problem(problem, encoded, "test", strategies_of(config, True))
    assert epoch == report["best_epoch"]
    for name, result in results.items():
        assert result.metrics == report["test"][name]


def test_reports_and_metrics_are_read_back_from_finished_runs_only(data, tmp_path):
    report = start(configure(data, max_epochs=2), tmp_path / "run")
    assert read_report(tmp_path / "run") == report
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lo')  # as a kill leaves it
    assert [record.epoch for record in read_metrics(tmp_path / "run")] == [1, 2]
    (tmp_path / "run" / "report.json").write_text('{"conf')
    with pytest.raises(RunError, match="report.json: cannot be read"):
        read_report(tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        read_report(tmp_path / "run")
    with pytest.raises(RunError, match="not a run folder"):
        read_report(tmp_path / "absent")


def test_plain_training_reports_vanilla_and_u_without_the_training_strategy(data, tmp_path):
    report = start(configure(data, training_strategy=False), tmp_path / "run")
    assert set(report["test"]) == {"vanilla", "u"}


def test_metrics_do_not_change_with_chunk_sizes_or_the_similarity_store(data, tmp_path):
    report = start(configure(data), tmp_path / "run")
    config, problem, encoded, _ = load_run(tmp_path / "run")
    strategies = strategies_of(config, True)
    for user_chunk, item_chunk in [(1, 7), (13, 60), (80, 1)]:
        results = evaluate_problem(problem, encoded, "test", strategies, user_chunk=user_chunk, item_chunk=item_chunk)
        assert {name: result.metrics for name, result in results.items()} == report["test"]
    on_the_fly = make_problem(configure(data, similarity_budget_mb=0), problem.dataset)
    results = evaluate_problem(on_the_fly, encoded, "test", strategies)
    for name, result in results.items():
        assert result.metrics == pytest.approx(report["test"][name], abs=1e-6)


def test_a_folder_of_another_run_or_of_something_else_is_left_alone(data, tmp_path):
    start(configure(data, max_epochs=1), tmp_path / "run")
    before = (tmp_path / "run" / "report.json").read_bytes()
    with pytest.raises(RunError, match="seed was 0, now 1"):
        start(configure(data, max_epochs=1, seed=1), tmp_path / "run")
    assert (tmp_path / "run" / "report.json").read_bytes() == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="not a run folder"):
        start(configure(data), tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_a_run_is_not_read_back_on_changed_data(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    start(configure(tmp_path / "data", max_epochs=1), tmp_path / "run")
    path = tmp_path / "data" / "made" / "image_feat.npy"
    features = np.load(path)
    features[0, 0] += 1
    np.save(path, features)
    with pytest.raises(RunError, match="dataset has changed"):
        load_run(tmp_path / "run")


def test_a_training_that_patience_ended_at_its_first_epoch_is_warned_of(data, tmp_path):
    with pytest.warns(UserWarning, match="still: validation Recall@20 was best after the first epoch .* patience=2"):
        still = start(configure(data, patience=2, hparams={"learning_rate": 1e-12}), tmp_path / "still")
    assert (still["best_epoch"], still["epochs"]) == (1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        learns = start(configure(data, patience=4, hparams={"learning_rate": 0.01}), tmp_path / "learns")
        start(configure(data, max_epochs=2, hparams={"learning_rate": 1e-12}), tmp_path / "short")
    assert learns["best_epoch"] > 1


def test_a_run_whose_data_was_named_from_one_folder_is_read_back_in_another(data, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    config = configure("", max_epochs=1, hparams={"dim": 4})
    start(dataclasses.replace(config, data_dir="."), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    config, problem, *_ = load_run("run")
    assert problem.dataset.num_users == 80 and config.data_dir == str(data)


def test_divergence_stops_the_run_and_the_last_good_checkpoint_stays(data, tmp_path, monkeypatch):
    real = Learner.train_epoch

    def poisoned(learner, state):
        state, loss, finite = real(learner, state)
        return state, loss, finite & (state.epoch < 3)

    monkeypatch.setattr(Learner, "train_epoch", poisoned)
    with pytest.raises(TrainingDiverged, match="epoch 3"):
        start(configure(data), tmp_path / "run")
    *_, epoch = load_run(tmp_path / "run")
    assert epoch in (1, 2)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2


def test_a_loss_that_overflows_is_noticed(data, tmp_path):
    config = configure(data, hparams={"learning_rate": 1e38})
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        start(config, tmp_path / "run")


def test_validation_of_users_without_training_items_alone_is_refused(data):
    config = configure(data)
    dataset = load_dataset(config)
    parts = {"train": dataset.train.users < 40, "validation": dataset.validation.users >= 40}
    cold = {
        name: Interactions(dataset.split(name).users[of], dataset.split(name).items[of]) for name, of in parts.items()
    }
    with pytest.raises(DataError, match="made: no validation user has training interactions"):
        make_problem(config, dataclasses.replace(dataset, **cold))


def test_isolator_without_features_is_refused_with_the_remedy(data, tmp_path):
    shutil.copytree(data / "made", tmp_path / "bare")
    for path in (tmp_path / "bare").glob("*_feat.npy"):
        path.unlink()
    (tmp_path / "bare" / "made.inter").rename(tmp_path / "bare" / "bare.inter")
    options = {"backbone": "mfbpr", "data_dir": str(tmp_path), "dataset": "bare", "max_epochs": 1}
    with pytest.raises(DataError, match="--notraining_strategy"):
        start(RunConfig(**options), tmp_path / "run")
    report = start(RunConfig(**options, training_strategy=False), tmp_path / "run")
    assert set(report["test"]) == {"vanilla"}
    assert "ucbias@20" not in report["test"]["vanilla"]
    assert math.isfinite(report["test"]["vanilla"]["recall@20"])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def damage(checkpoint, how):
    """Damages the largest file of a checkpoint."""
    path = max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if how == "flipped":
        flip_a_byte(path)
    elif how == "cut short":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["flipped", "cut short", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(how, data, tmp_path):
    whole = start(configure(data), tmp_path / "whole")
    start(configure(data, max_epochs=4), tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "4", how)
    with pytest.warns(UserWarning, match=r"checkpoints/4: damaged checkpoint"):
        load_run(tmp_path / "run")
    with pytest.warns(UserWarning, match=r"checkpoints/4: damaged checkpoint"):
        report = start(configure(data), tmp_path / "run")
    assert report["test"] == whole["test"]
    assert [record.epoch for record in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_a_run_without_a_usable_checkpoint_is_refused_and_left_as_it_is(data, tmp_path):
    start(configure(data, max_epochs=3), tmp_path / "run")
    for epoch in ("2", "3"):
        damage(tmp_path / "run" / "checkpoints" / epoch, "flipped")
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="3, 2 are damaged"):
        start(configure(data), tmp_path / "run")
    assert len(read_metrics(tmp_path / "run")) == 3


def test_a_folder_that_another_process_trains_in_is_refused(data, tmp_path):
    config = configure(data, max_epochs=2)

    def try_as_well(state, record):
        with pytest.raises(RunError, match="another command is working in this folder"):
            start(config, tmp_path / "run")

    start(config, tmp_path / "run", on_epoch=try_as_well)
    assert [record.epoch for record in read_metrics(tmp_path / "run")] == [1, 2]


def test_a_run_stopped_before_its_first_epoch_leaves_its_folder_to_any_other(data, tmp_path):
    with pytest.raises(TrainingInterrupted, match="before its first epoch, nothing is saved"):
        start(configure(data), tmp_path, stop=lambda: True)
    other = configure(data, seed=7, max_epochs=1)
    assert start(other, tmp_path)["config"]["seed"] == 7


def test_a_run_told_to_stop_is_saved_and_goes_on_as_if_never_stopped(data, tmp_path):
    whole = start(configure(data), tmp_path / "whole")
    epochs = []
    with pytest.raises(TrainingInterrupted, match="saved after epoch 2"):
        start(
            configure(data),
            tmp_path / "run",
            checkpoint_every=lambda record: False,
            on_epoch=lambda state, record: epochs.append(record.epoch),
            stop=lambda: len(epochs) == 2,
        )
    report = start(configure(data), tmp_path / "run", on_epoch=lambda state, record: epochs.append(record.epoch))
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert report["test"] == whole["test"]
