"""Runs whose modalities are knocked out: what sees which features."""

import dataclasses

import numpy as np
import pytest

from isolator_jax.data import make_dataset
from isolator_jax.errors import ConfigError, DataError
from isolator_jax.evaluation import consistency_groups
from isolator_jax.runs import evaluate_problem, load_run, make_problem, strategies_of, train_run
from isolator_jax.runs.config import RunConfig

pytestmark = pytest.mark.slow

EVERY_EPOCH = {"checkpoint_every": lambda record: True}
BOTH = {"image": "shuffle", "text": "noise"}


@pytest.fixture
def embedded(small_dataset, monkeypatch):
    """The small dataset in place of the embedded one, so that runs find it again."""
    monkeypatch.setattr("isolator_jax.runs.problem.make_dataset", lambda: (small_dataset, None))
    return small_dataset


def configure(backbone="vbpr", **options):
    return RunConfig(backbone=backbone, hparams={"dim": 8}, **{"max_epochs": 2, **options})


def test_model_and_strategies_see_what_is_left_and_metrics_the_true_features(small_dataset):
    plain, out = (make_problem(configure(knock_out=how), small_dataset) for how in ({}, BOTH))
    assert plain.shown is plain.dataset is out.dataset is small_dataset
    np.testing.assert_array_equal(out.content.consistency, plain.content.consistency)
    np.testing.assert_array_equal(out.content.channel_consistency, plain.content.channel_consistency)
    for name, features in plain.content.modalities.items():
        np.testing.assert_array_equal(out.content.modalities[name], features)
    # s_ui is that of a dataset whose features are what is left.
    left = make_problem(configure(), out.shown)
    users = np.arange(small_dataset.num_users)
    seen, true, expected = (x.content.similarity.rows(users, 0, small_dataset.num_items) for x in (out, plain, left))
    np.testing.assert_array_equal(seen, expected)
    assert np.abs(seen - true).max() > 0.1
    groups = [consistency_groups(x.content.consistency).summary() for x in (plain, out)]
    assert groups[0] == groups[1]


def test_a_run_without_a_modality_reports_it_and_is_read_back_to_the_same_numbers(embedded, tmp_path):
    plain, out = configure(), configure(knock_out=BOTH)
    report = train_run(out, make_problem(out, embedded), tmp_path / "out", **EVERY_EPOCH)
    of_plain = train_run(plain, make_problem(plain, embedded), tmp_path / "plain", **EVERY_EPOCH)
    assert report["config"]["knock_out"] == BOTH and RunConfig.from_dict(report["config"]) == out
    assert report["groups"] == of_plain["groups"] and report["test"] != of_plain["test"]
    assert "Knocked out" in (tmp_path / "out" / "report.md").read_text()
    config, problem, encoded, _ = load_run(tmp_path / "out")
    again = evaluate_problem(problem, encoded, "test", strategies_of(config, True))
    assert {name: result.metrics for name, result in again.items()} == report["test"]
    with pytest.raises(ConfigError, match="text knocked out"):
        load_run(tmp_path / "out", knock_out={"text": "constant"})


@pytest.mark.parametrize("name", ["vbpr", "mgcn", "lightgcn"])
def test_an_evaluated_model_loses_its_inputs_and_the_tables_it_trained(name, embedded, tmp_path):
    config = configure(name)
    train_run(config, make_problem(config, embedded), tmp_path, **EVERY_EPOCH)
    _, _, true, epoch = load_run(tmp_path)
    _, _, constant, same_epoch = load_run(tmp_path, knock_out=dict.fromkeys(BOTH, "constant"))
    assert epoch == same_epoch
    changed = [not np.allclose(x, y) for x, y in zip(true[:2], constant[:2], strict=True)]
    # LightGCN looks at no features.
    assert any(changed) == (name != "lightgcn")
    if name == "vbpr":  # its items are [table ; what is learned of the features]
        table, content = np.split(np.asarray(constant.items), 2, axis=1)
        np.testing.assert_array_equal(table, np.asarray(true.items)[:, :8])
        np.testing.assert_allclose(content, np.broadcast_to(content[0], content.shape), atol=1e-6)


def test_a_modality_that_there_is_not_is_refused_before_long_work():
    with pytest.raises(DataError, match="modality 'sound'; there are"):
        make_problem(configure(knock_out={"sound": "noise"}), make_dataset()[0])
    with pytest.raises(ConfigError, match="knock_out of image must be one of shuffle"):
        dataclasses.replace(configure(), knock_out={"image": "blur"})
