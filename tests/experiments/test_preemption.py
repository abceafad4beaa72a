"""Training that is stopped, killed or out of room, in processes of its own: nothing is lost, and nothing changes."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest
from commands import command, start_command

from isolator_jax.runs import load_run

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "2"))
# Of milliseconds each, enough of them to be hit.
EPOCHS = 6 * KILLS


def start(folder, run_dir, **limits):
    return start_command(
        "train", "--backbone=mfbpr", f"--data_dir={folder}", "--dataset=made", f"--run_dir={run_dir}",
        "--checkpoint_seconds=0", f"--max_epochs={EPOCHS}", f"--patience={EPOCHS}", **limits,
    )  # fmt: skip


def finish(process):
    """Waits for a process; its exit code and what it said on stderr."""
    ended = process.finish()
    return ended.returncode, ended.stderr


def lines(run_dir):
    path = run_dir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def newest_checkpoint(run_dir):
    return max(int(path.name) for path in (run_dir / "checkpoints").iterdir() if path.name.isdigit())


def wait_for(process, epochs, *run_dirs):
    """Waits until the runs have so many more epochs than they had, or the process has ended."""
    before = sum(map(lines, run_dirs))
    while process.poll() is None and sum(map(lines, run_dirs)) < before + epochs:
        time.sleep(0.005)


def results(run_dir):
    """All that a run leaves behind but its times."""

    def without_times(values):
        return {name: value for name, value in values.items() if "seconds" not in name}

    report = without_times(json.loads((run_dir / "report.json").read_text()))
    report["config"] = None  # names the data's folder
    report["checkpoint"] = report["checkpoint"]["epoch"]  # its files hold the time they were written
    report["baseline"] = without_times(report["baseline"])
    metrics = [
        [without_times(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (run_dir, run_dir / "vanilla")
    ]
    return report, metrics, [load_run(folder)[2] for folder in (run_dir, run_dir / "vanilla")]


def assert_equal(found, expected):
    assert found[:2] == expected[:2]
    for ours, theirs in zip(found[2], expected[2], strict=True):
        np.testing.assert_array_equal(ours.users, theirs.users)
        np.testing.assert_array_equal(ours.items, theirs.items)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preemption")
    made = command(
        "make_dataset", f"--output_dir={folder}", "--name=made", "--users=60", "--items=40", "--clusters=4",
        "--styles=4", "--modalities=image:4",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def uninterrupted(folder):
    code, stderr = finish(start(folder, folder / "whole"))
    assert code == 0, stderr
    return results(folder / "whole")


def test_killed_at_any_moment_a_run_resumes_and_ends_as_if_never_killed(folder, uninterrupted, tmp_path):
    run_dir = tmp_path / "run"
    moments, codes = random.Random(0), []
    for _ in range(KILLS):
        process = start(folder, run_dir)
        wait_for(process, moments.randrange(1, 2 * EPOCHS // KILLS), run_dir, run_dir / "vanilla")
        time.sleep(moments.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        codes.append(finish(process)[0])
    # A late one may find the run ended.
    assert -signal.SIGKILL in codes and set(codes) <= {-signal.SIGKILL, 0}
    code, stderr = finish(start(folder, run_dir))
    assert code == 0, stderr
    assert_equal(results(run_dir), uninterrupted)


def test_a_signal_saves_and_ends_the_command_a_full_disk_is_one_clear_error_and_then_it_goes_on(
    folder, uninterrupted, tmp_path
):
    run_dir = tmp_path / "run"
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start(folder, run_dir)
        wait_for(process, EPOCHS // 4, run_dir)
        process.send_signal(number)
        code, stderr = finish(process)
        assert code == 75
        assert "Traceback" not in stderr and "the same command goes on from there" in stderr.splitlines()[-1]
        # What was trained is saved: nothing is trained twice.
        assert newest_checkpoint(run_dir) == lines(run_dir)
    saved = newest_checkpoint(run_dir)
    # Files of checkpoints are larger than this, all others smaller.
    code, stderr = finish(start(folder, run_dir, file_bytes=16 * 1024))
    assert code == 1
    assert "Traceback" not in stderr
    assert "could not be written" in stderr.splitlines()[-1] and str(run_dir) in stderr.splitlines()[-1]
    assert newest_checkpoint(run_dir) == saved
    code, stderr = finish(start(folder, run_dir))
    assert code == 0, stderr
    assert_equal(results(run_dir), uninterrupted)
