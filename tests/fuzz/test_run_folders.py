"""Mangled run folders and configurations: read right, or refused with the file's name."""

import copy
import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_interactions import mutations

from isolator_jax.backbones import BACKBONES
from isolator_jax.errors import ConfigError, RunError
from isolator_jax.runs import read_config, read_metrics, read_report, write_report
from isolator_jax.runs.config import RunConfig, make_hyperparameters

CONFIG = RunConfig(backbone="gume", modalities=("image", "text")).to_dict()
SAVED = {"config": CONFIG, "data_fingerprint": "0" * 32}
METRICS = {"recall@10": 0.25, "ucbias@20": None}
REPORT = {
    "config": CONFIG,
    "dataset": {"users": 9, "items": 8, "train": 7, "validation": 6, "test": 5},
    "best_epoch": 2,
    "epochs": 3,
    "seconds_per_epoch": {"train": 0.5, "validation": None},
    "validation": {"d": METRICS},
    "test": {"vanilla": METRICS, "d": METRICS},
    "baseline": {"best_epoch": 1, "epochs": 2, "seconds_per_epoch": {"train": 1.0, "validation": 2.0}},
}
LINE = {"epoch": 1, "loss": 0.5, "validation": 0.25, "train_seconds": 1.0, "validation_seconds": 2.0}

NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1e-300, 1e39, 1e300, 10**400, -(10**400), 2**31, 2**32, math.nan, math.inf, 0.5, 1]),
)
ODD_TEXT = st.sampled_from(["", "\x00", "\ud800", "../..", "a" * 5000, "nan", "é\n"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, ODD_TEXT, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


def places(tree, path=()):
    """Every path in a tree of dictionaries and lists."""
    yield path
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in steps:
        yield from places(value, (*path, key))


@st.composite
def mangled(draw, tree):
    """The tree with a value or two replaced, removed or added."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(tree))))
        if not path:
            continue
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "remove":
            del parent[path[-1]]
        elif change == "replace" or not isinstance(parent, dict):
            parent[path[-1]] = draw(VALUES)
        else:
            parent[draw(st.text(max_size=4))] = draw(VALUES)
    return tree


def files_of(tree):
    whole = mangled(tree).map(lambda value: json.dumps(value).encode())
    nested = st.just(b"[" * 100_000)
    return st.one_of(whole, mutations(json.dumps(tree).encode()), VALUES.map(json.dumps).map(str.encode), nested)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


def one_line(error):
    return "\n" not in str(error) and len(str(error)) < 2000


@given(values=mangled(CONFIG))
def test_a_configuration_is_refused_or_comes_back_as_it_was(values):
    try:
        config = RunConfig.from_dict(values)
    except ConfigError as error:
        assert one_line(error)
    else:
        assert config.to_dict() == {**values, "hparams": config.to_dict()["hparams"]}
        assert {**config.hparams, **values["hparams"]}.keys() == config.hparams.keys()
        for name in ("gamma", "alpha", "beta", "iota"):
            assert np.isfinite(np.float32(getattr(config, name)) * 2)


@pytest.mark.parametrize("backbone", BACKBONES)
@given(data=st.data())
def test_hyperparameters_are_refused_or_usable(backbone, data):
    names = [field.name for field in dataclasses.fields(BACKBONES[backbone].hyperparameters)]
    value = data.draw(
        st.one_of(VALUES, NUMBERS.filter(lambda x: abs(x) < 10**300).map(str), st.sampled_from(["1", "2", "0.5"]))
    )
    name = data.draw(st.sampled_from(names))
    try:
        made = getattr(make_hyperparameters(backbone, {name: value}), name)
    except ConfigError as error:
        assert one_line(error) and name in str(error)
        return
    if isinstance(made, bool):
        assert str(value).lower() == str(made).lower()
        return
    if isinstance(made, tuple):  # several integers, as 10:15
        assert list(made) == [float(part) for part in str(value).split(":")]
        (made,) = made[:1]
    else:
        assert made == float(value)
    assert np.isfinite(np.float32(made)) and made >= 0
    if name in ("dim", "neighbours", "norm_batch", "decay_epochs", "learning_rate") or "temperature" in name:
        assert np.float32(made) > 0


@given(content=files_of(SAVED))
def test_a_mangled_config_json_is_refused_or_a_configuration(folder, content):
    (folder / "config.json").write_bytes(content)
    try:
        saved = read_config(folder)
    except RunError as error:
        assert str(folder / "config.json") in str(error) and one_line(error)
    else:
        assert isinstance(saved["data_fingerprint"], str)
        assert RunConfig.from_dict(saved["config"]).backbone in BACKBONES


@given(content=files_of(REPORT))
def test_a_mangled_report_json_is_refused_or_can_be_written_again(folder, content):
    (folder / "config.json").write_text(json.dumps(SAVED))
    (folder / "report.json").write_bytes(content)
    try:
        report = read_report(folder)
    except RunError as error:
        assert str(folder / "report.json") in str(error) and one_line(error)
    else:
        write_report(folder / "again", report)


@st.composite
def logs(draw):
    lines = [json.dumps({**LINE, "epoch": number + 1}) for number in range(draw(st.integers(0, 4)))]
    if lines and draw(st.booleans()):
        lines[draw(st.integers(0, len(lines) - 1))] = json.dumps(draw(mangled(LINE)))
    content = "".join(f"{line}\n" for line in lines).encode()
    return draw(
        st.one_of(st.just(content), mutations(content), st.integers(0, len(content)).map(lambda n: content[:n]))
    )


@given(content=logs())
def test_a_mangled_log_of_epochs_is_refused_or_read_up_to_the_cut(folder, content):
    path = folder / "metrics.jsonl"
    path.write_bytes(content)
    *whole, last = content.split(b"\n")
    try:
        records = read_metrics(folder)
    except RunError as error:
        assert str(path) in str(error) and one_line(error)
        return
    epochs = [record.epoch for record in records]
    assert epochs == sorted(set(epochs)) and all(epoch > 0 for epoch in epochs)
    found = [record._asdict() for record in records[: len(whole)]]
    assert json.dumps(found) == json.dumps([{name: json.loads(line)[name] for name in LINE} for line in whole])
