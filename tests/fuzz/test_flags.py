"""Every command with odd flag values: it begins its work, or refuses in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax.data import SyntheticConfig, make_dataset
from isolator_jax.data.synthetic import write_dataset
from isolator_jax.runs import load_dataset, make_problem, train_run
from isolator_jax.runs.config import RunConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

# What makes each command begin its work, or end well.
GOOD = {
    "train": ["--data_dir=data", "--dataset=made", "--run_dir=new"],
    "evaluate": ["--run_dir=run"],
    "recommend": ["--run_dir=run", "--output=lists.csv"],
    "sweep": ["--data_dir=data", "--dataset=made", "--output_dir=sweep"],
    "reproduce": ["--artefact=fig1", "--data_dir=data", "--datasets=made"],
    "benchmark": ["--data_dir=data", "--dataset=made"],
    "report": ["run", "--output=report.html"],
    "rescore": [
        "--features=image.npy",
        "--histories=data/made/made.inter",
        "--scores=scores.npy",
        "--output_dir=rescored",
    ],
    "parity": ["--backbone=vbpr", "--golden=golden.npz", "--data_dir=data", "--dataset=made"],
    "statistics": ["--data_dir=data", "--datasets=made"],
    "make_dataset": ["--output_dir=more", "--name=made", "--users=20", "--items=12"],
    "audit": ["--lists=mine=lists.csv", "--data_dir=data", "--dataset=made", "--output_dir=audited"],
    "prepare": ["--interactions=data/made/made.inter", "--output_dir=prepared", "--name=made"],
}

PATHS = [
    "", ".", "/", "absent", "absent/deep", "file.txt", "file.txt/below", "run", "data", "data/made", "image.npy",
    "data/made/made.inter", "golden.npz", "scores.npy", "x" * 300, "run/report.json", "out.csv", "out.parquet",
    "out.html", "/proc/nothing", "a,b", "é ü", "\udcff", "--", "~",
]  # fmt: skip
NUMBERS = [
    "0", "1", "-1", "2", "0.5", "-0.5", "nan", "inf", "-inf", "1e300", "1e39", "1e-300", "1e308", "2147483648",
    "4294967296", "9" * 30, "9" * 5000, "0x10", "1_000", "1.0", "00", "-0", " 1", "1 ", "\u0661", "\u00b2",
    "1e3", "+1", "",
]  # fmt: skip
TEXTS = [
    "image", "text", "image,image", "text,image", ",", "a=b", "=", "==", "reg=", "reg=0.1", "reg=0.1,reg=0.2", "dim=0",
    "dim=-1", "dim=1e300", "dim=1e9", "dim=true", "learning_rate=0", "learning_rate=nan", "layers=1000000000",
    "x" * 5000, "made", "../data/made", "made/", "..", "all", "table1", "fig1,fig1", "vbpr", "vbprr", "image:8,text:4",
    "image:0", "image:" + "9" * 5000, "a/b:3", "image:3,image:4", "true", "false", "None", "0,0", "0,00",
    "0,1", "1,1.0",
    "mine=lists.csv,other=image.npy", "=lists.csv", "a b=lists.csv", "mine=",
    "10,10", "reg=0.1,0.10", ",".join(map(str, range(5000))), "\u202e", "<b>", "10,9" + "9" * 5000, "a\nb",
    "float16",
]  # fmt: skip


def values_of(kind, choices):
    pools = [st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(PATHS), st.text(max_size=4)]
    if kind in ("int", "float"):
        pools += [st.integers().map(str), st.floats().map(str), st.sampled_from(NUMBERS)]
    if choices:
        pools += [st.sampled_from(choices)] * 3
    return st.one_of(pools).filter(lambda value: "\0" not in value)


class Command:
    """A running `command.py`."""

    def __init__(self, name, folder):
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("command.py"), name, folder],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.flags = json.loads(self.process.stdout.readline())

    def __call__(self, *arguments):
        print(json.dumps(arguments), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def arguments(self):
        """Good arguments with up to four flags set to anything, or left out."""

        def flag(name):
            kind, choices = self.flags[name]
            alone = st.sampled_from([f"--{name}", f"--no{name}"])
            given_value = values_of(kind, choices).map(lambda value: f"--{name}={value}")
            return alone if kind == "bool" else given_value

        odd = st.lists(st.sampled_from(sorted(self.flags)).flatmap(flag), min_size=1, max_size=4)
        kept = st.one_of(st.just(GOOD[self.name]), st.lists(st.sampled_from(GOOD[self.name]), unique=True))
        operands = st.lists(st.sampled_from(PATHS), max_size=2) if self.name == "report" else st.just([])
        return st.tuples(kept, odd, operands).map(lambda parts: [*parts[0], *parts[1], *parts[2]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset, a run on it, and files of the kinds that flags name."""
    folder = tmp_path_factory.mktemp("flags")
    planted = SyntheticConfig(users=30, items=24, clusters=3, styles=3, modalities={"image": 4, "text": 3})
    write_dataset(folder / "data", "made", *make_dataset(planted), planted)
    config = RunConfig(backbone="mfbpr", data_dir="data", dataset="made", max_epochs=1)
    here = os.getcwd()
    os.chdir(folder)
    try:
        problem = make_problem(config, load_dataset(config))
        train_run(config, problem, "run", checkpoint_every=lambda record: False)
    finally:
        os.chdir(here)
    (folder / "file.txt").write_text("text")
    (folder / "lists.csv").write_text("user,item,rank\n" + "".join(f"{user},{user % 24},1\n" for user in range(30)))
    np.save(folder / "scores.npy", np.random.default_rng(0).standard_normal((30, 24)))
    np.save(folder / "image.npy", np.load(folder / "data" / "made" / "image_feat.npy"))
    np.savez(folder / "golden.npz", hparams="{}", loss=1.0)
    return folder


@pytest.fixture(scope="module", params=GOOD)
def command(request, folder):
    command = Command(request.param, folder)
    yield command
    command.process.stdin.close()
    command.process.wait(timeout=60)


def test_the_good_arguments_are_accepted(command):
    outcome, text = command(*GOOD[command.name])
    assert outcome in ("work", "done") or command.name == "parity", text


@given(data=st.data())
def test_odd_flags_are_refused_in_one_line_or_the_work_begins(command, data):
    arguments = data.draw(command.arguments())
    outcome, text = command(*arguments)
    assert outcome != "crash", text
    if outcome == "error":
        # A path is named as it was given, however long.
        assert text and "\n" not in text and len(text) < 2000 + 2 * max(map(len, arguments)), text
