"""Commands as processes: signals end them in one line, output never ends them, nothing steers the terminal."""

import io
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags

from experiments.common import cli, process
from experiments.common.events import Events
from experiments.common.ids import warn_of_formulas
from experiments.common.progress import progress
from isolator_jax.errors import ConfigError, DataError
from isolator_jax.training import EpochRecord

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}


class Broken(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text=""):
        raise BrokenPipeError(32, "Broken pipe")

    flush = write


def outcome(main, capsys, code=0):
    """What a command prints on both streams; the code it ends with."""

    def checked():
        with process.shown_streams():
            found, message, _ = cli._outcome(main, [])
            if message:
                print(message, file=sys.stderr)
        assert found == code

    flags.FLAGS.mark_as_parsed()
    checked()
    return capsys.readouterr()


def raising(error):
    def main():
        raise error

    return main


def test_control_characters_of_foreign_text_are_shown_and_not_sent(capsys):
    evil = "a\x1b]52;c;cm0=\x07\x9b2J\u202eb\rc"

    def main():
        print(f"| {evil} |\n\tvalue")
        raise DataError(f"{evil}\nno such file")

    found = outcome(main, capsys, 1)
    assert found.out == "| a\\x1b]52;c;cm0=\\x07\\x9b2J\\u202eb\\rc |\n\tvalue\n"
    assert found.err == "error: a\\x1b]52;c;cm0=\\x07\\x9b2J\\u202eb c no such file\n"


def test_a_letter_that_the_terminal_lacks_is_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with process.shown_streams():
        print("naïve ☃")
        sys.stdout.flush()
    assert raw.getvalue() == b"na\\xefve \\u2603\n"


def test_a_gone_reader_of_standard_error_ends_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Broken())
    monkeypatch.setattr(process, "discard", lambda descriptor: None)
    with process.shown_streams():
        for _ in progress(range(3), desc="steps"):
            print("said to nobody", file=sys.stderr)
            sys.stderr.flush()
            warnings.showwarning("a", UserWarning, "b", 1)


def test_a_gone_reader_of_standard_output_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Broken())
    discarded = []
    monkeypatch.setattr(process, "discard", discarded.append)
    found = outcome(lambda: print("table"), capsys, 1)
    assert found.err == "error: standard output was closed before all was written\n" and discarded == [1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory (MemoryError)"),
        (MemoryError("Unable to allocate 9 TiB"), "out of memory (Unable to allocate 9 TiB)"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "out of memory (RESOURCE_EXHAUSTED"),
        (PermissionError(13, "Permission denied", "x"), "[Errno 13] Permission denied: 'x'"),
    ],
)
def test_limits_of_the_machine_are_one_line(error, message, capsys):
    found = outcome(raising(error), capsys, 1)
    assert found.err.startswith(f"error: {message}") and found.err.count("\n") == 1


def test_a_missing_accelerator_is_one_line_and_a_fault_of_the_program_is_none(monkeypatch, capsys):
    with pytest.raises(AssertionError):
        outcome(raising(AssertionError()), capsys)

    monkeypatch.setattr(jax, "devices", raising(AssertionError()))
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    found = outcome(raising(AssertionError()), capsys, 1)
    assert found.err.startswith("error: JAX finds no device of cuda (no such accelerator")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_flag_that_is_no_finite_number_is_refused_by_name(monkeypatch, value):
    values = flags.FlagValues()
    flags.DEFINE_float("checkpoint_seconds", value, "", flag_values=values)
    values.mark_as_parsed()
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(ConfigError, match="--checkpoint_seconds must be a finite number"):
        cli._refuse_numbers_that_are_none()


def test_event_files_that_cannot_be_written_end_no_training(tmp_path):
    (tmp_path / "tensorboard").write_text("a file in its place")
    events = Events(tmp_path / "tensorboard")
    with pytest.warns(UserWarning, match="no further event files"):
        events.write(EpochRecord(1, 0.5, 0.1, 1.0, 1.0))
    events.write(EpochRecord(2, 0.5, 0.1, 1.0, 1.0))
    events.close()


def test_event_files_that_cannot_be_closed_end_no_training(tmp_path, monkeypatch):
    events = Events(tmp_path / "tensorboard")
    events.write(EpochRecord(1, 0.5, 0.1, 1.0, 1.0))

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(events._writer, "close", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        events.close()


CHILD = """
import sys
from experiments.common import process
process.begin()
code = "import os, time; print(os.getpid(), file=open('pid', 'w'), flush=True); time.sleep(60)"
process.run_child([sys.executable, "-c", code])
"""


def test_a_signal_ends_what_a_command_has_started(tmp_path):
    with subprocess.Popen([sys.executable, "-c", CHILD], cwd=tmp_path, env=ENVIRONMENT) as command:
        pid = tmp_path / "pid"
        while command.poll() is None and not (pid.exists() and pid.read_text().strip()):
            time.sleep(0.02)
        command.terminate()
    for _ in range(500):
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("it runs on")


def test_ids_like_formulas_are_written_as_they_are_with_a_warning():
    for harmless in ("5", "-5", "+1.5", "B00=1", "a@b"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_formulas(Path("lists.csv"), np.array([harmless], object))
    for formula in ("=1+1", "+cmd|x", "-1+1", "@SUM(A1)", "\t=1", "\r=1"):
        with pytest.warns(UserWarning, match="lists.csv: 1 ids, such as .* begin like formulas"):
            warn_of_formulas(Path("lists.csv"), np.array(["7", formula], object))


def test_training_notes_every_signal_and_gives_the_handlers_back():
    before = {number: signal.getsignal(number) for number in process.stop_signals()}
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} == set(before)
    for number in before:
        with process.stop_requests() as stop:
            assert not stop()
            signal.raise_signal(number)
            assert stop()
    assert {number: signal.getsignal(number) for number in before} == before
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        assert signal.SIGHUP not in process.stop_signals()
    finally:
        signal.signal(signal.SIGHUP, previous)


HALF_WRITTEN = """
import os, signal
from pathlib import Path
from experiments.common import process
process.begin()
from isolator_jax.data.folder import new_folder
from isolator_jax.files import write_atomically

def half(draft):
    draft.write_text("half")
    os.kill(os.getpid(), signal.SIGTERM)

with new_folder(Path("folder")) as draft:
    (draft / "file").write_text("half")
    write_atomically("file", half)
"""


def test_a_signal_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "-c", HALF_WRITTEN]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == process.INTERRUPTED and done.stderr == "interrupted by SIGTERM\n"
    assert not list(tmp_path.iterdir())


# Stops itself with a signal where a module is imported for the first time.
AT_AN_IMPORT = """
import os, signal, sys
signal.signal({number}, signal.default_int_handler)
class Finder:
    def find_spec(self, name, *_):
        if name == "{module}":
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
"""
BY_MODULE = (
    AT_AN_IMPORT
    + """
sys.argv = ["-m"]
import experiments, runpy
sys.argv = ["statistics"]
runpy.run_module("experiments.statistics", run_name="__main__", alter_sys=True)
"""
)
BY_THE_COMMAND = (
    AT_AN_IMPORT
    + """
sys.argv = ["/usr/bin/isolator", "statistics"]
from experiments.__main__ import main
main()
"""
)


@pytest.mark.parametrize(
    ("start", "number", "module"),
    [
        (BY_MODULE, signal.SIGINT, "absl"),
        (BY_MODULE, signal.SIGTERM, "jax"),
        (BY_MODULE, signal.SIGHUP, "numpy"),
        (BY_THE_COMMAND, signal.SIGINT, "experiments.__main__"),
        (BY_THE_COMMAND, signal.SIGINT, "experiments.common.cli"),
        (BY_THE_COMMAND, signal.SIGTERM, "jax"),
    ],
)
def test_a_signal_ends_a_command_in_one_line_from_its_first_line_on(start, number, module):
    done = subprocess.run(
        [sys.executable, "-c", start.format(number=int(number), module=module)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == process.INTERRUPTED
    assert done.stderr == f"interrupted by {number.name}\n"


@pytest.mark.slow
def test_a_closed_standard_error_and_a_gone_reader_of_output_are_borne():
    def statistics(redirected):
        line = f"{sys.executable} -m experiments.statistics {redirected}; exit ${{PIPESTATUS[0]}}"
        return subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=ENVIRONMENT, timeout=300, capture_output=True, text=True
        )

    closed = statistics("2>&-")
    assert closed.returncode == 0 and "synthetic" in closed.stdout
    gone = statistics("| true")
    assert gone.returncode == 1
    assert gone.stderr.splitlines() == ["error: standard output was closed before all was written"]
