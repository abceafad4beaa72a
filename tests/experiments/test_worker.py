"""Workers that share the trials of a search."""

import dataclasses
import io
import json
import shutil
import sys
import threading
import time

import pandas as pd
import pytest

from experiments.common import worker as worker_module
from experiments.common.progress import progress
from experiments.common.worker import Worker
from isolator_jax.errors import NothingSaved, RunError, TrainingDiverged, TrainingInterrupted
from isolator_jax.evaluation import Settings
from isolator_jax.runs import locked, make_problem, train_run
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import RunConfig

pytestmark = pytest.mark.slow

SETTINGS = Settings((2.0,), (1.0,), (0.1, 1.0))
BASE = RunConfig(backbone="mfbpr", hparams={"dim": 4}, max_epochs=2)


@pytest.fixture(scope="module")
def problem(small_dataset):
    return make_problem(BASE, small_dataset)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(worker_module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(worker_module, "_LONGEST_PAUSE", 0.05)


def trials_in(folder):
    return {folder / search.trial_name(trial, []): trial for trial in search.make_trials(BASE, {}, [0.1], [0, 1])}


def new_worker(problem, folder, stop=lambda: False):
    return Worker(problem, SETTINGS, folder / "cache", progress(total=4), stop)


def in_thread(action):
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def table(worker, trials):
    return pd.concat([worker.rows[folder] for folder in trials], ignore_index=True)


@pytest.fixture(scope="module")
def alone(problem, tmp_path_factory):
    """The rows of one worker's search."""
    folder = tmp_path_factory.mktemp("alone")
    worker = new_worker(problem, folder)
    worker.run(trials_in(folder))
    assert worker.trained == 4
    return table(worker, trials_in(folder))


def test_two_workers_train_each_trial_once_and_end_with_the_rows_of_one(problem, alone, tmp_path):
    workers = [new_worker(problem, tmp_path) for _ in range(2)]
    threads = [in_thread(lambda worker=worker: worker.run(trials_in(tmp_path))) for worker in workers]
    for thread in threads:
        thread.join(240)
    assert sum(worker.trained for worker in workers) == 4
    for worker in workers:
        pd.testing.assert_frame_equal(table(worker, trials_in(tmp_path)), alone, check_exact=True)


def test_a_held_trial_is_waited_for_and_taken_when_its_holder_is_gone(problem, alone, tmp_path, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    trials = trials_in(tmp_path)
    first = next(iter(trials))
    worker = new_worker(problem, tmp_path)
    with locked(first):
        thread = in_thread(lambda: worker.run(trials))
        wait_until(lambda: worker.trained == 3)
        wait_until(lambda: "waiting for trials that other workers hold: 1" in said.getvalue())
        assert first not in worker.rows and thread.is_alive()
    thread.join(240)
    pd.testing.assert_frame_equal(table(worker, trials), alone, check_exact=True)


def test_a_trial_that_failed_is_left_out_and_another_in_its_folder_is_run(problem, tmp_path, monkeypatch):
    def diverges(*arguments, **options):
        raise TrainingDiverged("epoch 1: the loss is NaN")

    trials = dict(list(trials_in(tmp_path).items())[:1])
    with monkeypatch.context() as patched:
        patched.setattr("isolator_jax.runs.train.fit", diverges)
        worker = new_worker(problem, tmp_path)
        worker.run(trials)
    assert worker.trained == 1 and set(worker.rows.values()) == {None}
    again = new_worker(problem, tmp_path)
    again.run(trials)
    assert again.trained == 0 and set(again.rows.values()) == {None}
    other = {folder: dataclasses.replace(trial, batch_size=64) for folder, trial in trials.items()}
    mended = new_worker(problem, tmp_path)
    mended.run(other)
    assert mended.trained == 1 and not any(rows is None for rows in mended.rows.values())
    assert not list(tmp_path.rglob("failure.json"))


def test_a_trial_that_kills_its_process_over_and_over_is_left_out_and_the_others_go_on(problem, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    (killer, _), (other, _) = trials = list(trials_in(tmp_path).items())[:2]
    left = {}

    def train(trial, problem, folder, **options):
        if folder != killer:
            return train_run(trial, problem, folder, **options)
        left.update({path: path.read_bytes() for path in folder.glob("*.json")})
        raise ends

    def run(of_trials=trials):
        worker = new_worker(problem, tmp_path)
        worker.run(dict(of_trials))
        return worker.rows

    def is_killed():
        with pytest.raises(Killed):
            run()
        for path, content in left.items():  # a killed process cleans nothing up
            path.write_bytes(content)

    monkeypatch.setattr(worker_module, "train_run", train)
    ends = TrainingInterrupted()
    for _ in range(4):  # a stop is no kill
        with pytest.raises(TrainingInterrupted):
            run()
    ends = Killed()
    is_killed()
    is_killed()
    (killer / "checkpoints" / "1").mkdir(parents=True)  # it has come further
    for _ in range(3):
        is_killed()
    rows = run()
    assert rows[killer] is None and rows[other] is not None
    failure = killer / "failure.json"
    assert "killed 3 times after epoch 1" in json.loads(failure.read_text())["message"]
    failure.unlink()
    is_killed()  # it is tried again
    ends = MemoryError()
    assert run(trials[:1])[killer] is None and json.loads(failure.read_text())["error"] == "MemoryError"


def test_a_longer_training_that_fails_leaves_the_shorter_ones_rows_and_is_not_tried_again(
    problem, tmp_path, monkeypatch
):
    def run(epochs):
        worker = new_worker(problem, tmp_path)
        worker.run({folder: dataclasses.replace(trial, max_epochs=epochs)})
        return worker.rows[folder], worker.trained

    def diverges(*arguments, **options):
        raise TrainingDiverged("epoch 3: the loss is NaN")

    folder, trial = next(iter(trials_in(tmp_path).items()))
    rows, _ = run(2)
    with monkeypatch.context() as patched:
        patched.setattr(worker_module, "train_run", diverges)
        assert run(4) == (None, 1) and run(4) == (None, 0)
    again, trained = run(2)
    pd.testing.assert_frame_equal(again, rows)
    assert trained == 0
    # Without the rows, as where the first was killed while it made them.
    (folder / "validation.parquet").unlink()
    again, trained = run(2)
    pd.testing.assert_frame_equal(again, rows)
    assert trained == 1


def test_the_rows_of_a_trial_that_another_command_extends_are_made_anew_and_no_other_model_is_tested(problem, tmp_path):
    def rows_after(epochs, trained):
        worker = new_worker(problem, tmp_path)
        worker.run({folder: dataclasses.replace(trial, max_epochs=epochs)})
        assert worker.trained == trained
        return worker.rows[folder]

    folder, trial = next(iter(trials_in(tmp_path).items()))
    before = rows_after(2, trained=1)
    longer, stale = dataclasses.replace(trial, max_epochs=3), (folder / "validation.parquet").read_bytes()
    shutil.rmtree(folder)  # trained from the start, which compiles less, it is as the extended one
    train_run(longer, problem, folder, checkpoint_every=lambda record: False, splits=("validation",))
    (folder / "validation.parquet").write_bytes(stale)
    rows = rows_after(3, trained=1)
    assert set(before["epochs"]) == {2} and set(rows["epochs"]) == {3}
    pd.testing.assert_frame_equal(rows_after(3, trained=0), rows, check_exact=True)
    chosen, of = search.choose(rows, [], seeds=1), {folder: before.attrs["checkpoint"]}
    with pytest.raises(RunError, match="checkpoint of epoch 2"):
        search.test_chosen(chosen, [], {folder: longer}, problem, tmp_path / "cache", of)


def test_a_worker_that_waits_ends_when_it_is_told_to(problem, tmp_path):
    trials = dict(list(trials_in(tmp_path).items())[:1])
    with locked(*trials), pytest.raises(TrainingInterrupted, match="waiting for other workers"):
        new_worker(problem, tmp_path, stop=lambda: True).run(trials)
    with pytest.raises(TrainingInterrupted, match="what was trained before it is saved") as error:
        new_worker(problem, tmp_path, stop=lambda: True).run(trials)
    assert not isinstance(error.value, NothingSaved)  # its exit code is that of what is saved
    new_worker(problem, tmp_path).run(trials)
    with pytest.raises(TrainingInterrupted, match="stopped before what was to follow"):
        new_worker(problem, tmp_path, stop=lambda: True).run(trials)
