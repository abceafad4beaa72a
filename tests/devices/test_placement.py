"""Training and ranking on several devices, in processes that have eight."""

import json

import pytest
from commands import start_command
from started import finish, start

from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset

pytestmark = pytest.mark.slow
# What compiles longest is half of the time.
LONGEST = "training and (grcn or gume or lgmrec or mgcn or slmrec or smore)"
GROUPS = (LONGEST, f"not ({LONGEST})")


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """All at once: each mostly compiles, on one core."""
    folder = tmp_path_factory.mktemp("eight_devices")
    chosen = ("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--durations=20", "tests/devices/eight_devices.py")
    running = {
        group: start(*chosen, f"--basetemp={folder / str(number)}", "-k", group) for number, group in enumerate(GROUPS)
    }
    yield running
    for process in running.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("group", GROUPS, ids=["longest", "others"])
def test_what_holds_on_eight_devices(group, processes):
    code, output = finish(processes[group])
    assert code == 0, output
    assert " passed" in output and "skipped" not in output


def test_the_commands_take_a_number_of_devices(tmp_path):
    config = SyntheticConfig(users=30, items=21, clusters=3, styles=3, modalities={"image": 4, "text": 3})
    write_dataset(tmp_path, "made", *make_dataset(config), config)
    run, out = tmp_path / "run", tmp_path / "metrics.json"
    data = [f"--data_dir={tmp_path}", "--dataset=made", f"--run_dir={run}"]
    for name, *arguments in (
        ("train", *data, "--novanilla", "--max_epochs=2", "--devices=4"),
        ("evaluate", f"--run_dir={run}", "--devices=2", f"--json={out}"),
    ):
        ended = start_command(name, *arguments, devices=8).finish()
        assert ended.returncode == 0, ended.stderr
    report = json.loads((run / "report.json").read_text())
    for strategy, metrics in json.loads(out.read_text())["metrics"].items():
        assert metrics == pytest.approx(report["test"][strategy], abs=1e-6)
