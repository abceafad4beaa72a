"""Every backbone with a golden file equals it to 1e-5."""

import json

import numpy as np
import pytest

from experiments.parity import LAYOUTS, TOLERANCE, compare, gradient_error
from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.errors import ConfigError, DataError

FILES = {
    "vbpr": "VBPR",
    "grcn": "GRCN",
    "slmrec": "SLMRec",
    "mgcn": "MGCN",
    "gume": "GUME",
    "freedom": "FREEDOM",
    "smore": "SMORE",
    "lgmrec": "LGMRec",
}


@pytest.mark.parametrize("backbone", sorted(LAYOUTS))
def test_golden_file_is_reproduced(backbone, golden_dir):
    with np.load(golden_dir / f"{FILES[backbone]}.npz", allow_pickle=False) as golden:
        errors = compare(backbone, golden, str(golden_dir), "small")
    assert set(errors) == {"loss", "user_emb", "item_emb", "u_scores", "grad"}
    assert all(value <= TOLERANCE for value in errors.values()), json.dumps(errors)


def test_a_wrong_weight_is_noticed(golden_dir):
    with np.load(golden_dir / "VBPR.npz", allow_pickle=False) as golden:
        changed = {name: golden[name] for name in golden.files}
    changed["param/i_embedding"] = changed["param/i_embedding"] * 1.01
    errors = compare("vbpr", changed, str(golden_dir), "small")
    assert errors["item_emb"] > TOLERANCE and errors["loss"] > TOLERANCE


@pytest.mark.parametrize("name", LAYOUTS["vbpr"].parameters)
def test_a_gradient_that_is_no_number_is_the_largest_error(name):
    layout = LAYOUTS["vbpr"]
    gradients = {of: np.ones(3) for of in layout.parameters}
    spoiled = gradients | {name: np.array([1.0, np.nan, 1.0])}
    assert gradient_error(layout, gradients, gradients) == 0
    assert np.isnan(gradient_error(layout, spoiled, gradients))


def test_a_file_of_other_data_is_refused(golden_dir, tmp_path):
    config = SyntheticConfig(users=20, items=16, clusters=2, styles=2)
    write_dataset(tmp_path, "other", *make_dataset(config), config)
    with np.load(golden_dir / "VBPR.npz", allow_pickle=False) as golden:
        with pytest.raises(ConfigError, match="other has 20 and 16"):
            compare("vbpr", golden, str(tmp_path), "other")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hparams", "[1, 2]", "no numbers by name"),
        ("hparams", '{"reg": 0.1, "gamma": "x"}', "no numbers by name"),
        ("hparams", "{", "no JSON"),
        ("param/i_embedding", np.ones((3, 2)), "item has shape"),
        ("user_emb", np.float32(1), "is of 1 users"),
    ],
)
def test_a_malformed_file_is_refused(name, value, message, golden_dir):
    with np.load(golden_dir / "VBPR.npz", allow_pickle=False) as golden:
        changed = {key: golden[key] for key in golden.files} | {name: np.asarray(value)}
    with pytest.raises((ConfigError, DataError), match=message):
        compare("vbpr", changed, str(golden_dir), "small")
