"""Run folders: a report is of its checkpoint, a lock of its command, and nothing is lost without a word."""

import dataclasses
import errno
import gc
import json
import os
import shutil
import warnings
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import pytest
from filelock import FileLock

from experiments.common import cli
from isolator_jax.data import SyntheticConfig, make_dataset
from isolator_jax.errors import NothingSaved, RunError, TrainingDiverged, TrainingInterrupted
from isolator_jax.files import draft_beside
from isolator_jax.runs import (
    check_run_folder,
    finished_report,
    is_finished,
    load_model,
    locked,
    make_learner,
    make_problem,
    read_config,
    read_metrics,
    read_report,
    train_run,
    train_with_vanilla,
)
from isolator_jax.runs import folder as folders
from isolator_jax.runs.config import RunConfig
from isolator_jax.training import Checkpoints, EpochRecord

pytestmark = pytest.mark.slow

CONFIG = RunConfig(backbone="mfbpr", hparams={"dim": 4}, max_epochs=3, training_strategy=False)


@pytest.fixture(scope="module")
def problem():
    dataset, _ = make_dataset(SyntheticConfig(users=30, items=24, clusters=3, styles=3, modalities={"image": 4}))
    return make_problem(CONFIG, dataset)


@pytest.fixture(scope="module")
def finished(problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(problem, folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run of three epochs."""
    return shutil.copytree(finished, tmp_path / "run")


def config(**options):
    return dataclasses.replace(CONFIG, **options)


def train(problem, run_dir, configuration=CONFIG, **options):
    return train_run(configuration, problem, run_dir, **{"checkpoint_every": lambda record: True, **options})


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("shorter", [{"max_epochs": 2}, {"max_epochs": 50, "patience": 1}])
def test_fewer_epochs_than_trained_are_refused_and_nothing_is_changed(problem, run, shorter):
    if "patience" in shorter:  # a run whose validation no longer rose after its second epoch
        path = run / "metrics.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record, value in zip(records, (0.1, 0.1, 0.2), strict=True):
            record["validation"] = value
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    before = contents(run)
    for refused in (train, lambda *given: is_finished(run, given[2], problem.dataset)):
        with pytest.raises(RunError, match="after 3 epochs, more than the 2 of max_epochs="):
            refused(problem, run, config(**shorter))
    assert contents(run) == before


def test_a_report_is_read_with_the_checkpoint_it_is_of_and_no_other(problem, run):
    named = read_report(run)["checkpoint"]
    assert named["epoch"] == 3 and finished_report(run, CONFIG, problem.dataset)["checkpoint"] == named
    load_model(run, problem, checkpoint=named)
    with pytest.raises(TrainingInterrupted):  # an extension, begun and stopped
        epochs = []
        train(
            problem,
            run,
            config(max_epochs=9),
            stop=lambda: len(epochs) == 2,
            on_epoch=lambda state, record: epochs.append(record.epoch),
        )
    with pytest.raises(RunError, match="report.json tells of epoch 3, and the newest checkpoint is another"):
        read_report(run)
    with pytest.raises(RunError, match="of epoch 3, and what can be loaded is another, of epoch 5"):
        load_model(run, problem, checkpoint=named)
    assert not is_finished(run, config(max_epochs=9), problem.dataset)
    assert train(problem, run, config(max_epochs=5))["checkpoint"]["epoch"] == read_report(run)["epochs"] == 5


def test_no_earlier_model_takes_the_place_of_the_reported_one(problem, run):
    named = read_report(run)["checkpoint"]
    for path in (run / "checkpoints" / "3").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    for checkpoint, outcome in ((None, nullcontext()), (named, pytest.raises(RunError, match="another, of epoch 2"))):
        with pytest.warns(UserWarning, match="checkpoints/3: damaged checkpoint"), outcome:
            load_model(run, problem, checkpoint=checkpoint)


def test_another_model_under_the_same_number_is_noticed(problem, run):
    path = run / "checkpoints" / "digests.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "3": "0" * 64}))
    with pytest.raises(RunError, match="the newest checkpoint is another"):
        read_report(run)
    assert not is_finished(run, CONFIG, problem.dataset)


def test_a_finished_run_whose_checkpoints_are_gone_is_not_begun_anew(problem, run):
    shutil.rmtree(run / "checkpoints")
    before = contents(run)
    for epochs in (3, 9):
        with pytest.raises(RunError, match="its checkpoints are gone"):
            train(problem, run, config(max_epochs=epochs))
    assert contents(run) == before and read_report(run)["epochs"] == 3  # the report stands alone
    (run / "report.json").rename(run / "old")
    with pytest.warns(UserWarning, match="epochs 1 to 3 have no checkpoint and are trained again"):
        train(problem, run)


def test_what_a_kill_leaves_before_the_first_file_is_resumed_and_cleared(problem, tmp_path):
    draft = draft_beside(tmp_path / "run" / "config.json")
    draft.parent.mkdir()
    draft.write_text("{")
    (draft.parent / ".lock").touch()
    train(problem, draft.parent)
    assert not draft.exists() and len(read_metrics(draft.parent)) == 3


def test_a_run_that_saved_nothing_leaves_the_folder_to_another_configuration(problem, tmp_path):
    large = {name: 1e18 * feature for name, feature in problem.dataset.features.items()}
    of_large = dataclasses.replace(problem, dataset=dataclasses.replace(problem.dataset, features=large))
    with pytest.raises(TrainingDiverged) as error:
        diverging = config(hparams={"dim": 4, "learning_rate": 1e38})
        train(of_large, tmp_path, diverging, checkpoint_every=lambda record: False)
    for part in ("lower the learning rate", "scale the features image down, whose values", "nothing was saved"):
        assert part in str(error.value)
    assert "checkpoint of epoch" not in str(error.value)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(EpochRecord(1, 0.5, 0.1, 1.0, 1.0)._asdict()) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # its epochs are none of this run's
        train(problem, tmp_path)
    with pytest.raises(RunError, match=r"another configuration \(seed was 0, now 1\)"):
        train(problem, tmp_path, config(seed=1))
    with pytest.raises(RunError, match=r"another configuration \(hparams.reg was .*, now 0.5\)"):
        train(problem, tmp_path, config(hparams={**config().hparams, "reg": 0.5}))


def test_a_command_that_begins_while_another_is_looking_is_a_command_and_no_stranger(problem, run, monkeypatch):
    real, begun = Path.is_file, []

    def before_it_began(path):
        if path.name == "config.json" and not begun:
            begun.append(path)
            return False
        return real(path)

    with locked(run):
        monkeypatch.setattr(Path, "is_file", before_it_began)
        with pytest.raises(RunError, match="another command is working in this folder"):
            train(problem, run)
    assert begun


def test_the_lock_keeps_every_other_command_out_also_in_this_process(problem, tmp_path):
    with locked(tmp_path):
        for other in (lambda: train(problem, tmp_path), lambda: locked(tmp_path).__enter__()):
            with pytest.raises(RunError, match="another command is working in this folder"):
                other()
        train(problem, tmp_path, lock=False)
    with locked(tmp_path):
        pass


def test_what_fails_once_the_lock_is_taken_frees_it(tmp_path, monkeypatch):
    def fail(folder):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patched:
        patched.setattr("isolator_jax.runs.lock.remove_drafts", fail)
        with pytest.raises(PermissionError) as kept, locked(tmp_path):  # an error that is kept, as notebooks do
            pass
    with locked(tmp_path):
        assert kept


@pytest.mark.parametrize("begun_anew", [True, False])
def test_a_training_whose_folder_is_removed_writes_nothing_into_what_takes_its_place(problem, run, begun_anew):
    before = []

    def remove(state, record):
        shutil.rmtree(run)
        if begun_anew:
            train(problem, run, config(max_epochs=1, seed=2))
        before.append(contents(run))

    with pytest.raises(RunError, match="the folder was removed or replaced while this command worked in it"):
        train(problem, run, config(max_epochs=5), on_epoch=remove)
    assert len(before) == 1 and contents(run) == before[0]


def test_the_lock_is_held_while_the_plain_run_beside_it_trains_and_its_row_stays(problem, tmp_path):
    asked, ends_with = [], [None]
    with_vanilla = lambda epochs: train_with_vanilla(
        config(training_strategy=True, max_epochs=epochs), problem, tmp_path, train=and_meanwhile
    )

    def and_meanwhile(configuration, *arguments, **options):
        with pytest.raises(RunError, match="another command"), locked(tmp_path):
            pass
        asked.append(configuration.training_strategy)
        if len(asked) == 2 and ends_with[0] is not None:
            raise ends_with[0]
        return train_run(configuration, *arguments, checkpoint_every=lambda record: True, **options)

    with_vanilla(1)
    assert asked == [True, False] and list(read_report(tmp_path)["test"])[0] == "vanilla"
    before = contents(tmp_path)
    asked.clear()
    with locked(tmp_path / "vanilla"), pytest.raises(RunError, match="vanilla: another command is working"):
        with_vanilla(2)
    assert not asked and contents(tmp_path) == before  # what is refused is refused before the first training
    ends_with[0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        with_vanilla(2)
    report = read_report(tmp_path)
    assert report["epochs"] == 2 and report["baseline"]["epochs"] == 1 and "vanilla" in report["test"]
    asked.clear()
    train(problem, tmp_path / "vanilla", config(max_epochs=3))
    with pytest.raises(RunError, match="vanilla holds the run after 3 epochs, more than the 2"):
        with_vanilla(2)
    assert not asked


def test_what_a_stop_says_of_two_trainings_is_what_is_saved(problem, tmp_path):
    """Exit codes follow the kind of the error."""
    stop = []

    def train_until(configuration, *arguments, **options):
        options = {"checkpoint_every": lambda record: False, "stop": lambda: stop, **options}
        report = train_run(configuration, *arguments, **options)
        stop.append("in the evaluation")
        return report

    both = config(training_strategy=True, max_epochs=1)
    with pytest.raises(
        TrainingInterrupted, match="between its two trainings, the first is saved after epoch 1"
    ) as error:
        train_with_vanilla(both, problem, tmp_path, train=train_until)
    assert cli._told(error.value)[0] == 75
    with pytest.raises(NothingSaved) as error:
        train_with_vanilla(both, problem, tmp_path / "other", train=train_until)
    code, message = cli._told(error.value)
    assert code == 130 and "nothing is saved; the same command begins anew" in message


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("flock")])
def test_a_file_system_without_locks_is_refused_with_what_to_do(tmp_path, monkeypatch, error):
    def fail(self, *_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", fail)
    with pytest.raises(RunError, match="no file locks .* choose a folder on a local disk"), locked(tmp_path):
        pass


def test_links_of_a_strangers_folder_lead_no_write_out_of_it(problem, run, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for name in ("report.json", "report.md", "metrics.jsonl", "config.json"):
        text = (run / name).read_text()
        (run / name).unlink()
        (tmp_path / name).write_text(text)
        (run / name).symlink_to(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    train(problem, run, config(max_epochs=4))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to(outside)
    with pytest.raises(RunError, match="is a link to elsewhere"):
        train(problem, run, config(max_epochs=5))
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("lead_out", [lambda path: path.symlink_to("/dev/null"), os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", ["report.json", "report.md", "metrics.jsonl"])
def test_what_is_no_file_in_a_strangers_folder_is_not_written_to(problem, run, name, lead_out):
    (run / name).unlink()
    lead_out(run / name)
    with pytest.raises(RunError, match=f"{name} is no file, and leads to a device, a pipe or a folder"):
        train(problem, run, config(max_epochs=4))


@pytest.mark.parametrize("name", ["exp[1]", "a\\b"])
def test_a_folder_that_can_hold_no_checkpoint_is_refused_first(problem, tmp_path, name):
    with pytest.raises(RunError, match="checkpoints cannot be kept"):
        check_run_folder(tmp_path / name / "run", CONFIG, problem.dataset)
    with pytest.raises(RunError, match="checkpoints cannot be kept"):
        train(problem, tmp_path / name / "run")
    assert not os.listdir(tmp_path)


def test_epochs_allowed_are_those_of_the_fit_loop(tmp_path):
    values = np.array([0.1, 0.3, 0.2, 0.3, 0.1, 0.4])
    lines = [
        {"epoch": i, "loss": 1.0, "validation": x, "train_seconds": 0.1, "validation_seconds": 0.1}
        for i, x in enumerate(values.tolist(), start=1)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for patience, allowed in ((1, 3), (2, 4), (3, 5), (4, 50)):
        assert folders._epochs_allowed(tmp_path, config(max_epochs=50, patience=patience)) == allowed


def test_a_model_is_read_without_a_second_state_beside_it(problem, finished, monkeypatch):
    held, restore = [], Checkpoints._restore

    def live():
        gc.collect()
        return sum(array.nbytes for array in jax.live_arrays())

    def watched(*arguments):
        held.append(live())
        return restore(*arguments)

    monkeypatch.setattr(Checkpoints, "_restore", watched)
    before = live()
    load_model(finished, problem)
    config = RunConfig.from_dict(read_config(finished)["config"])
    state = jax.tree.leaves(make_learner(config, problem).initial_state(0))
    assert held[0] - before < sum(leaf.nbytes for leaf in state) / 2


@pytest.mark.parametrize("setting", [lambda: jax.default_prng_impl("rbg"), lambda: jax.threefry_partitionable(False)])
def test_the_random_numbers_of_a_run_are_not_those_of_the_environment(setting, problem, finished, tmp_path):
    with setting():
        train(problem, tmp_path / "run")
    ours, theirs = (
        [(record.epoch, record.loss, record.validation) for record in read_metrics(folder)]
        for folder in (tmp_path / "run", finished)
    )
    assert ours == theirs
