"""The code in the documentation runs and does what the text says."""

import csv
import fnmatch
import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from commands import command
from pages import ROOT, code_of, commands_of

import isolator_jax
from isolator_jax.backbones import BACKBONES
from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.runs import make_problem, train_run
from isolator_jax.runs.config import RunConfig


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_tutorial_ends_with_the_numbers_of_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code_of("docs/tutorial.md"), names)
    text = (ROOT / "docs" / "tutorial.md").read_text()
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert shown in capsys.readouterr().out
    ((command_name, arguments),) = commands_of("docs/tutorial.md")
    done = command(command_name, *arguments, cwd=tmp_path)
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


@pytest.mark.slow
def test_the_pages_and_the_reference_are_built_without_a_warning(tmp_path):
    arguments = ["build", "--strict", "--config-file", ROOT / "mkdocs.yml", "--site-dir", tmp_path / "site"]
    done = subprocess.run([sys.executable, "-m", "mkdocs", *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    reference = "".join(path.read_text() for path in (tmp_path / "site" / "reference").glob("*.html"))
    missing = [
        name
        for name in isolator_jax.__all__
        if not name.startswith("_")
        and not any(f'id="{module}.{name}"' in reference for module in ("isolator_jax", module_of(name)))
    ]
    assert not missing


def module_of(name):
    return getattr(getattr(isolator_jax, name), "__module__", None)


OVER_DATASETS = """
import sys
sys.path.insert(0, {docs!r})
import pathlib, over_datasets
over_datasets.DATASETS = (("made", ("text",)), ("made", ("image", "text")))
over_datasets.RESULTS = pathlib.Path({folder!r})
sys.argv = ["over_datasets.py", "rankers", "--data_dir=" + {folder!r}]
over_datasets.main()
"""


@pytest.mark.slow
def test_the_study_measures_popularity_and_content_alone(tmp_path):
    config = SyntheticConfig(users=200, items=80, clusters=4, styles=4, modalities={"image": 12, "text": 8}, seed=3)
    write_dataset(tmp_path, "made", *make_dataset(config), config)
    # In a process of its own, as its flags are: with the datasets made above, and its results beside them.
    code = OVER_DATASETS.format(docs=str(ROOT / "docs"), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "rankers.csv").read_text().splitlines()))
    assert [(row["content"], row["ranker"]) for row in rows] == [
        (content, ranker) for content in ("text", "image, text") for ranker in ("popularity alone", "content alone")
    ]
    # Taste is planted to follow content, for some users; popularity has no part in it.
    for popularity, content in (rows[:2], rows[2:]):
        assert float(popularity["UCBias@20 low"]) < 0 < float(popularity["UCBias@20 high"])
        assert 0 < float(content["UCBias@20 low"])
        assert popularity["R@20"] == rows[0]["R@20"] and 0 < float(content["R@20"]) < 1


def test_the_tables_of_the_pages_are_those_of_their_files():
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    make_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tables)
    for page in make_tables.PAGES:
        assert make_tables.rewritten(page.read_text()) == page.read_text(), "run python docs/make_tables.py"
    tables = sum(page.read_text().count("<!-- table: ") for page in make_tables.PAGES)
    files = {path.relative_to(make_tables.DOCS).as_posix() for path in make_tables.DOCS.rglob("*.csv")}
    text = "".join(page.read_text() for page in make_tables.PAGES)
    shown = re.findall(r"<!-- table: (\S+) -->", text)
    assert tables == len(shown) and all(fnmatch.filter(files, pattern) for pattern in shown)
    assert not [file for file in files - set(shown) if f"`docs/{file}`" not in text]


def test_a_table_says_that_its_ucbias_is_of_the_earlier_grouping():
    text = (ROOT / "docs" / "results.md").read_text()
    for table in re.findall(r"<!-- table: (\S+) -->(.*?)<!-- end -->", text, re.DOTALL):
        rows = list(csv.DictReader((ROOT / "docs" / table[0]).read_text().splitlines()))
        measured = any("ucbias" in value.lower() for row in rows for value in (*row, *row.values()) if value)
        assert not measured or all(row["groups"] in ("earlier", "shared", "") for row in rows)
        assert ("earlier grouping" in table[1]) == any(row.get("groups") == "earlier" for row in rows)
