"""What was there before a command is neither lost nor mixed with what it writes."""

import json

import pytest

from experiments.common.outputs import (
    refuse_inputs,
    refuse_replacing,
    refuse_results_of_others,
    refuse_values_of_others,
)
from isolator_jax.errors import ConfigError, RunError


def test_a_file_that_is_read_is_not_written(tmp_path):
    lists = tmp_path / "lists" / "mine.run"
    lists.parent.mkdir()
    lists.touch()
    (tmp_path / "link").symlink_to(lists.parent)
    refuse_inputs([tmp_path / "mine.run", lists.parent / "other.run"], [lists])
    for written in (lists, tmp_path / "lists" / ".." / "lists" / "mine.run", tmp_path / "link" / "mine.run"):
        with pytest.raises(ConfigError, match=r"mine\.run is read, and would be replaced; write elsewhere"):
            refuse_inputs([lists.parent / "other.run", written], [tmp_path / "elsewhere", lists])


@pytest.mark.parametrize(
    ("report", "config", "audit", "allowed"),
    [
        (False, False, False, {None, "an audit", "a rescoring"}),
        (True, False, False, {"a rescoring"}),
        (True, True, False, {None, "an audit", "a rescoring"}),  # a run's own folder, where evaluate may write
        (False, False, True, {"an audit"}),
        (True, False, True, set()),
    ],
)
def test_users_values_of_another_command_are_not_replaced(tmp_path, report, config, audit, allowed):
    for name, there in {"report.json": report, "config.json": config, "audit.json": audit}.items():
        if there:
            (tmp_path / name).touch()
    for own in (None, "an audit", "a rescoring"):
        refuse_values_of_others(tmp_path, own)  # there are none yet
    (tmp_path / "per_user.parquet").touch()
    for own in (None, "an audit", "a rescoring"):
        if own in allowed:
            refuse_values_of_others(tmp_path, own)
        else:
            with pytest.raises(RunError, match=r"per_user\.parquet is of .*, and would be replaced"):
                refuse_values_of_others(tmp_path, own)


def test_a_file_of_unknown_origin_is_not_replaced(tmp_path):
    path = tmp_path / "validation.csv"
    refuse_replacing([path])
    path.touch()
    with pytest.raises(RunError, match=r"validation\.csv is there already"):
        refuse_replacing([tmp_path / "absent", path])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, None),
        ({"report.json": json.dumps({"chosen": []})}, None),
        ({"report.json": json.dumps({"chosen": []}), "config.json": "{}"}, "holds a run, whose report the search"),
        ({"report.json": json.dumps({"metrics": {}})}, r"holds a report\.json that is no search's"),
        ({"report.json": "half a rep"}, r"holds a report\.json that is no search's"),
        ({"report.json": "7"}, r"holds a report\.json that is no search's"),
    ],
)
def test_results_of_something_else_are_not_replaced(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if message is None:
        refuse_results_of_others(tmp_path, "search", "chosen")
        return
    with pytest.raises(RunError, match=f"{message}.*; choose another --output_dir"):
        refuse_results_of_others(tmp_path, "search", "chosen")
