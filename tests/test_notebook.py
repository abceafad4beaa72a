"""The notebook runs from top to bottom, and shows what it says."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOK = json.loads((Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb").read_text())


def run(source, names):
    """Runs a cell, and returns the value of its last line if that is an expression."""
    *lines, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        lines, last = [*lines, last], None
    exec(compile(ast.Module(lines, []), "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.slow
def test_the_notebook_runs_and_its_outputs_are_those_that_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names, values = {"__name__": "notebook"}, {}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            values["".join(cell["outputs"][0]["data"]["text/plain"])] = run("".join(cell["source"]), names)
    raw, fitted, lists, metrics, same = values.items()
    for shown, value in (raw, fitted, same):
        assert repr(value) == shown
    assert same[1] and len(lists[0].splitlines()) == 1 + len(lists[1])
    table = [line.split() for line in metrics[0].splitlines()]
    assert table[0] == list(metrics[1].columns)
    for strategy, *numbers in table[2:]:
        assert list(map(float, numbers)) == pytest.approx(metrics[1].loc[strategy].tolist(), abs=0.02)
    # What ISOLATOR is for.
    recall, ucbias = metrics[1]["recall@20"], metrics[1]["ucbias@20"]
    assert recall["u"] > recall["d"] > recall["vanilla"] and ucbias["vanilla"] > ucbias["u"] > ucbias["d"]
