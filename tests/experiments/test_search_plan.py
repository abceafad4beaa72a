"""What a search is of, and where it may be kept."""

import json

import pytest

from experiments.common.search_plan import Plan
from isolator_jax.errors import RunError
from isolator_jax.evaluation import Settings
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.sampler import Range


def plan_in(folder, **changes):
    values = {
        "base": RunConfig(backbone="vbpr"), "grid": {}, "gammas": [0.1], "seeds": [0], "aim": "recall",
        "settings": Settings((2.0,), (1.0,), (0.1,)), "folder": folder,
    }  # fmt: skip
    return Plan(**values | changes)


def test_a_folder_with_files_of_something_else_is_refused(tmp_path):
    plan = plan_in(tmp_path)
    report, held_out = tmp_path / "report.json", tmp_path / "validation.csv"
    report.write_text(json.dumps({"metrics": {}}))
    with pytest.raises(RunError, match="a report.json that is no search's"):
        plan.check()
    report.unlink()
    held_out.touch()
    with pytest.raises(RunError, match="validation.csv is there already"):
        plan.check()
    (tmp_path / "trials").mkdir()  # of a search that was interrupted
    plan.check()


def test_the_order_of_hyperparameters_is_no_part_of_a_search(tmp_path):
    values, rest = {"reg": ["0.1", "1"], "dim": ["8"]}, {"learning_rate": Range(0.1, 1.0), "batches": Range(1.0, 2.0)}
    one, other = (
        plan_in(tmp_path, grid=dict(order(values.items())), space=dict(order(rest.items())))
        for order in (list, reversed)
    )
    assert one.searched == other.searched == ["batches", "dim", "learning_rate", "reg"]
    one, other = (plan_in(tmp_path, grid=dict(order(values.items()))) for order in (list, reversed))
    assert list(one.trials.items()) == list(other.trials.items())
    assert next(iter(one.trials)).name == "plain,dim=8,reg=0.1,seed=0"
    drawn = one.trials_of({"reg": 0.1, "dim": 8}) | other.trials_of({"dim": 8, "reg": 0.1})
    assert [folder.name for folder in drawn] == ["plain,dim=8,reg=0.1,seed=0"]
