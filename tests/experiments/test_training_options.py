"""What `experiments.train` offers beside training: estimates, event files, folders that must not be written."""

import dataclasses
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments.common import estimate as estimates
from experiments.common import training
from experiments.common.events import Events
from experiments.common.training import train_and_show
from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.devices.placement import ONE_DEVICE
from isolator_jax.errors import ConfigError, TrainingInterrupted
from isolator_jax.runs import load_dataset, make_learner, make_problem, read_metrics
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.plan import plan_memory
from isolator_jax.training import EpochRecord

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CONFIG = RunConfig(backbone="mfbpr", hparams={"dim": 4}, max_epochs=3)
DATASET, _ = make_dataset(SyntheticConfig(users=30, items=24, clusters=3, styles=3, modalities={"image": 4}))


@pytest.mark.parametrize("training_strategy", [True, False])
def test_an_estimate_is_of_whole_epochs(training_strategy):
    config = dataclasses.replace(CONFIG, training_strategy=training_strategy, batch_size=16)
    found = estimates.estimate(config, DATASET, ONE_DEVICE, trainings=2)
    assert found["parameters"] == (30 + 24) * 4
    assert 0 < found["needed_bytes"] < found["available_bytes"]
    assert found["steps"] == -(-DATASET.train.users.size // 16)
    epoch = found["steps"] * found["step_seconds"] + found["validation_seconds"]
    assert found["epoch_seconds"] == pytest.approx(epoch) and found["step_seconds"] > 0
    assert found["most_seconds"] == pytest.approx(2 * 3 * epoch)


def test_what_does_not_fit_is_refused_with_both_sizes_before_it_is_made(monkeypatch):
    monkeypatch.setattr(estimates, "available_bytes", lambda placement: 1000)
    monkeypatch.setattr(estimates, "make_problem", lambda *_: pytest.fail("made what does not fit"))
    with pytest.raises(ConfigError, match="needs .* GB of memory and there are 1e-06 GB; lower --batch_size"):
        estimates.estimate(CONFIG, DATASET, ONE_DEVICE, trainings=1)


@pytest.mark.parametrize("backbone", ["mfbpr", "mgcn"])
def test_a_plan_knows_the_state_and_the_similarities(backbone):
    config = RunConfig(backbone=backbone, hparams={"dim": 4})
    plan = plan_memory(config, DATASET, ONE_DEVICE, available=10**12)
    learner = make_learner(config, make_problem(config, DATASET))
    state = learner.initial_state(0)
    sizes = [leaf.nbytes for leaf in jax.tree.leaves((state.train.params, state.train.opt_state, state.best_params))]
    params = sum(leaf.nbytes for leaf in jax.tree.leaves(state.best_params))
    assert plan.state == sum(sizes) + params and plan.checkpoint == sum(sizes)
    assert plan.similarity >= learner.problem.content.similarity.table.nbytes
    assert plan.step > 0 and plan.inputs > 0


def shown(folder):
    """Scalars by name and step as TensorBoard shows them: a session's start drops what was written from its step on."""
    values = {}
    for file in sorted(folder.iterdir()):
        content, position = file.read_bytes(), 0
        while position < len(content):
            (length,) = struct.unpack_from("<Q", content, position)
            event = Event.FromString(content[position + 12 : position + 12 + length])
            position += 12 + length + 4
            if event.session_log.status == SessionLog.START:
                values = {key: value for key, value in values.items() if key[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in values
                values[value.tag, event.step] = value.simple_value
    return values


def test_event_files_show_each_epoch_once_after_a_kill_and_a_resumption(tmp_path):
    problem = make_problem(CONFIG, DATASET)

    def train(epochs):
        config = dataclasses.replace(CONFIG, max_epochs=epochs)
        train_and_show(config, problem, tmp_path, vanilla=True, checkpoint_seconds=0.0, tensorboard=True)

    train(2)
    lost = Events(tmp_path / "tensorboard")  # an epoch that a killed process never saved
    lost.write(EpochRecord(3, 9.0, 9.0, 9.0, 9.0))
    lost.close()
    train(4)
    for run in (tmp_path, tmp_path / "vanilla"):
        expected = {
            (name, record.epoch): pytest.approx(value)
            for record in read_metrics(run)
            for name, value in record._asdict().items()
            if name != "epoch"
        }
        assert len(expected) == 4 * 4
        assert shown(run / "tensorboard") == expected


# Root may write anywhere; without CAP_DAC_OVERRIDE it is held to the permissions as others are.
DROP = """
import ctypes, os, sys
if os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) != 0:
    sys.exit("cannot drop the right to write everywhere")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def command(module, *arguments):
    return subprocess.run(
        [sys.executable, "-c", DROP, "-m", f"experiments.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def forbid():
    """Takes the right to write away from a folder and all in it; gives it back at the end."""
    forbidden = []

    def forbid(folder):
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        forbidden.append(folder)
        probe = subprocess.run(
            [sys.executable, "-c", DROP, "-c", "open('probe', 'w')"], cwd=folder, capture_output=True, text=True
        )
        if "PermissionError" not in probe.stderr:
            pytest.skip(f"this user cannot be kept from writing: {probe.stderr}")

    yield forbid
    for folder in forbidden:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


@pytest.mark.parametrize(
    "arguments", [("train", "run_dir"), ("sweep", "output_dir"), ("make_dataset", "output_dir", "--name=made")]
)
def test_a_folder_that_must_not_be_written_is_refused_at_once_and_left_as_it_is(arguments, forbid, tmp_path):
    forbid(tmp_path)
    module, flag, *others = arguments
    done = command(module, f"--{flag}={tmp_path / 'new'}", *others)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: --{flag}={tmp_path / 'new'}: {tmp_path} must not be written"
    assert not list(tmp_path.iterdir())


def test_a_run_in_a_folder_that_must_not_be_written_is_read_and_not_resumed(forbid, tmp_path):
    planted = SyntheticConfig(users=30, items=24, clusters=3, styles=3, modalities={"image": 4})
    write_dataset(tmp_path, "made", *make_dataset(planted), planted)
    config = RunConfig(backbone="mgcn", data_dir=str(tmp_path), dataset="made", hparams={"dim": 4}, max_epochs=1)
    problem, run = make_problem(config, load_dataset(config)), tmp_path / "run"
    train_and_show(config, problem, run, vanilla=True, checkpoint_seconds=0.0)
    forbid(tmp_path)
    done = command("evaluate", f"--run_dir={run}")
    assert done.returncode == 0 and "U-ISOLATOR" in done.stdout, done.stderr
    done = command("train", f"--config={run / 'config.json'}", f"--run_dir={run}", "--max_epochs=2")
    assert done.returncode == 1 and f"{run} must not be written" in done.stderr


def test_a_signal_after_the_last_epoch_still_ends_what_was_to_follow(tmp_path, monkeypatch):
    def train(*_, **__):
        signal.raise_signal(signal.SIGTERM)  # while the trained models are evaluated
        return {}

    monkeypatch.setattr(training, "train_with_vanilla", train)
    with pytest.raises(TrainingInterrupted, match="run: finished and saved, stopped before what was to follow"):
        train_and_show(RunConfig("mfbpr"), None, tmp_path / "run", vanilla=True, checkpoint_seconds=0.0)
