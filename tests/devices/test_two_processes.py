"""Two processes on one machine work as one device does."""

import json
import signal
import time

import pytest
from commands import start_command
from started import finish, free_port, start

from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.runs import load_dataset, make_problem, read_metrics, train_run
from isolator_jax.runs.config import RunConfig

pytestmark = pytest.mark.slow


def test_two_processes_train_and_rank_as_one(tmp_path):
    port = free_port()
    running = [start("tests/devices/two_processes.py", rank, port, tmp_path, devices=2) for rank in (0, 1)]
    try:
        for rank, process in enumerate(running):
            code, output = finish(process)
            assert code == 0 and f"process {rank} agrees" in output, output
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.fixture
def started():
    """Starts `train` in two processes; none is left behind."""
    running = []

    def train(config, run_dir, *, checkpoint_seconds, devices):
        arguments = [
            "--novanilla", f"--backbone={config.backbone}", f"--data_dir={config.data_dir}", "--dataset=made",
            f"--run_dir={run_dir}", f"--max_epochs={config.max_epochs}", f"--patience={config.patience}",
            f"--checkpoint_seconds={checkpoint_seconds}", f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2",
        ]  # fmt: skip
        both = [start_command("train", *arguments, f"--process_id={i}", devices=devices) for i in (0, 1)]
        running.extend(both)
        return both

    yield train
    for process in running:
        process.send_signal(signal.SIGKILL)


def test_the_run_of_two_processes_goes_on_in_one_and_that_of_one_in_two(started, tmp_path):
    made = SyntheticConfig(users=30, items=21, clusters=3, styles=3, modalities={"image": 4})
    write_dataset(tmp_path, "made", *make_dataset(made), made)

    def train_alone(run_dir, max_epochs):
        config = RunConfig(
            backbone="mfbpr", data_dir=str(tmp_path), dataset="made", max_epochs=max_epochs, patience=max_epochs
        )
        problem = make_problem(config, load_dataset(config))
        return config, train_run(config, problem, run_dir, checkpoint_every=lambda record: False)

    config, expected = train_alone(tmp_path / "alone", 200)
    split = tmp_path / "split"
    first, second = started(config, split, checkpoint_seconds=0.2, devices=1)
    while first.poll() is None and len(read_metrics(split)) <= saved_epoch(split):
        time.sleep(0.005)
    second.send_signal(signal.SIGKILL)
    ended = first.finish()
    if ended.returncode == -signal.SIGABRT:  # the other died while a checkpoint was written
        assert "The following tasks are unhealthy" in ended.stderr
    else:
        assert ended.returncode == 1, ended.stderr
        assert "process 0: error: another process of this run has ended" in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr
    assert 1 <= len(read_metrics(split)) < 200
    assert_same(train_alone(split, 200)[1], expected)

    config, expected = train_alone(tmp_path / "whole", 12)
    train_alone(tmp_path / "joined", 6)
    both = [process.finish() for process in started(config, tmp_path / "joined", checkpoint_seconds=60, devices=2)]
    assert [ended.returncode for ended in both] == [0, 0], both
    assert "Written: " in both[0].stdout and "Written: " not in both[1].stdout
    assert len(read_metrics(tmp_path / "joined")) == 12
    assert_same(json.loads((tmp_path / "joined" / "report.json").read_text()), expected)


def saved_epoch(run_dir):
    """Of the newest checkpoint; infinite where there is none."""
    epochs = [int(path.name) for path in (run_dir / "checkpoints").glob("*") if path.name.isdigit()]
    return max(epochs, default=float("inf"))


def assert_same(report, expected):
    for name in ("best_epoch", "epochs", "dataset", "groups"):
        assert report[name] == expected[name]
    for split in ("validation", "test"):
        for strategy, metrics in expected[split].items():
            assert report[split][strategy] == pytest.approx(metrics, abs=1e-6, nan_ok=True)
