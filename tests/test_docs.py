"""The code in the documentation runs and does what the text says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import isolator_jax
from isolator_jax.backbones import BACKBONES
from isolator_jax.runs import make_problem, train_run
from isolator_jax.runs.config import RunConfig

ROOT = Path(__file__).resolve().parents[1]


def code_of(path):
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.DOTALL))


def test_the_backbone_of_the_guide_trains_under_isolator_once_registered(small_dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONES, "content", None)  # removed again after the test
    exec(code_of("docs/adding_a_backbone.md"), {"__name__": "guide"})
    config = RunConfig(backbone="content", max_epochs=30, hparams={"learning_rate": 0.01})
    losses = []
    report = train_run(
        config,
        make_problem(config, small_dataset),
        tmp_path / "run",
        checkpoint_every=lambda record: False,
        on_epoch=lambda state, record: losses.append(record.loss),
    )
    assert losses[-1] < 0.8 * losses[0]
    assert set(report["test"]) == {"training_strategy", "d", "u"}


def test_the_example_of_the_readme_makes_lists_without_what_users_have():
    names = {}
    exec(code_of("README.md"), names)
    lists = np.asarray(names["lists"])
    assert lists.shape == (50, 10)
    for user, row in enumerate(lists):
        assert not set(row) & set(names["items"][names["users"] == user])


def test_the_tutorial_ends_with_the_numbers_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code_of("docs/tutorial.md"), names)
    (shell,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    _, arguments = shell.replace("\\\n", " ").split("python -m ")
    done = subprocess.run(
        [sys.executable, "-m", *arguments.split()],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "tutorial" / "rescored" / "report.json").read_text())
    assert {name: report["parameters"][name] for name in ("alpha", "beta", "iota")} == names["parameters"]._asdict()
    for name, result in names["results"].items():
        assert report["metrics"][name] == pytest.approx(result.metrics, rel=1e-6)
    # What the text says about them.
    plain, u = report["metrics"]["vanilla"], report["metrics"]["u"]
    assert plain["recall@20"] < 0.9 * u["recall@20"] and plain["rho"] < 0.8 * u["rho"]
    assert 0 < 2 * plain["ucbias@20"] < u["ucbias@20"] and plain["ucbias@20"] < report["intervals"]["u"][0]
    assert report["metrics"]["d"] == plain


def test_the_pages_and_the_reference_are_built_without_a_warning(tmp_path):
    arguments = ["build", "--strict", "--config-file", ROOT / "mkdocs.yml", "--site-dir", tmp_path / "site"]
    done = subprocess.run([sys.executable, "-m", "mkdocs", *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference.html").read_text()
    missing = [name for name in isolator_jax.__all__ if f'id="isolator_jax.{name}"' not in reference]
    assert not missing
