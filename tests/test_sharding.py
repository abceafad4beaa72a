"""Several devices, in processes of their own: how many a process has is fixed when JAX starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Compiling fast matters more here than running fast.
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
GROUPS = ("training", "not training")


def start(*arguments, devices=8):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {FAST}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, output


@pytest.fixture(scope="module")
def processes():
    """All at once: each mostly compiles, on one core."""
    running = {
        group: start("pytest", "-p", "no:cacheprovider", "tests/eight_devices.py", "-k", group) for group in GROUPS
    }
    yield running
    for process in running.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("group", GROUPS)
def test_what_holds_on_eight_devices(group, processes):
    code, output = finish(processes[group])
    assert code == 0, output
    assert " passed" in output and "skipped" not in output


def test_the_commands_take_a_number_of_devices(tmp_path):
    made = ["--users=30", "--items=21", "--clusters=3", "--styles=3", "--modalities=image:4,text:3"]
    code, output = finish(start("experiments.make_dataset", f"--output_dir={tmp_path}", "--name=made", *made))
    assert code == 0, output
    run, out = tmp_path / "run", tmp_path / "metrics.json"
    data = [f"--data_dir={tmp_path}", "--dataset=made", f"--run_dir={run}"]
    code, output = finish(start("experiments.train", *data, "--novanilla", "--max_epochs=2", "--devices=4"))
    assert code == 0, output
    code, output = finish(start("experiments.evaluate", f"--run_dir={run}", "--devices=2", f"--json={out}"))
    assert code == 0, output
    report = json.loads((run / "report.json").read_text())
    for strategy, metrics in json.loads(out.read_text())["metrics"].items():
        assert metrics == pytest.approx(report["test"][strategy], abs=1e-6)
    code, output = finish(start("experiments.train", *data, "--devices=9", devices=1))
    assert code == 1 and "9 devices asked for, and JAX sees 1" in output and "Traceback" not in output
