"""The command `isolator`: in a checkout, and installed from a wheel outside of one."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import isolator_jax
from experiments import __main__ as entry
from experiments.common.help import TOPICS

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for names in entry.COMMANDS.values() for name in names]


def run(*command, cwd, **environment):
    """A process that finds nothing of the checkout but what `command` names."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**kept, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_help_has_a_line_for_every_command_that_there_is(monkeypatch, capsys):
    files = {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"__init__", "__main__"}
    assert sorted(NAMES) == sorted(files)
    monkeypatch.setattr(sys, "argv", ["isolator", "--help"])
    entry.main()
    lines = capsys.readouterr().out.splitlines()
    assert all(any(line.startswith(f"  {name} ") and line.split(maxsplit=1)[1] for line in lines) for name in NAMES)
    assert max(map(len, lines)) <= 80


def test_an_unknown_command_is_refused_with_the_nearest_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["isolator", "trian"])
    with pytest.raises(SystemExit, match="no command 'trian': did you mean train"):
        entry.main()


def test_every_package_is_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for folder in ("isolator_jax", "experiments")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    installed = config["options"]["packages"].split()
    assert sorted(installed) == sorted(f"isolator_jax.{name}" if name[0] == "e" else name for name in found)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The scripts of an environment that has a wheel of the project, and for the rest this one's packages."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"
    for name in ("isolator_jax", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, ".", cwd=source)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    scheme = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    (packages / "this.pth").write_text(sysconfig.get_path("purelib"))  # its .pth files are not read
    scripts = Path(sysconfig.get_path("scripts", "venv", vars=scheme))
    done = run(*pip, "--python", scripts / "python", "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return scripts


@pytest.mark.slow
def test_the_first_command_runs_from_a_wheel_outside_the_checkout(scripts, tmp_path):
    where = run(scripts / "python", "-c", "import isolator_jax; print(isolator_jax.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(scripts.parent)
    assert run(scripts / "isolator", "--version", cwd=tmp_path).stdout == f"isolator {isolator_jax.__version__}\n"
    done = run(scripts / "isolator", "train", "--run_dir=runs/first", "--max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "runs" / "first" / "report.json").read_text())
    assert set(report["test"]) == {"vanilla", "training_strategy", "d", "u"}


# Before the script's first line Python runs this; the signal comes where the first heavy import is looked for.
SITE = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name in ("absl", "jax", "numpy", "pandas"):
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.slow
def test_a_signal_while_the_installed_command_starts_is_one_line(scripts, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    done = run(scripts / "isolator", "statistics", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (130, "interrupted by SIGINT\n")
    assert "isolator COMMAND" in run(scripts / "isolator", "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path)).stdout


# Imports what commands share, forks for each command, and hides the packages that are optional.
HELP = """
import os, runpy, sys
for name in ("jinja2", "matplotlib", "optuna", "sklearn", "tensorboardX", "ranx"):
    sys.modules[name] = None
import isolator_jax.runs, isolator_jax.reporting
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        sys.argv = ["isolator", name, "--help"]
        runpy.run_module("experiments", run_name="__main__", alter_sys=True)
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_help_of_every_command_needs_no_optional_package():
    done = run(sys.executable, "-c", HELP, *NAMES, cwd=ROOT)
    for name in NAMES:
        text, found, rest = done.stdout.partition(f"{name} 0\n")
        assert found and any(f"\n{topic}:\n  --" in text for topic in TOPICS), f"{name}: {done.stderr}"
        assert max(map(len, text.splitlines())) <= 80, name
        done.stdout = rest
