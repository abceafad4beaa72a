"""The code in the documentation runs and does what the text says."""

import re
from pathlib import Path

import numpy as np

from isolator_jax.backbones import BACKBONES
from isolator_jax.config import RunConfig
from isolator_jax.run import make_problem, train_run

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
