"""What Optuna draws: the same whether a search is interrupted or not, and each setting once."""

import json
from contextlib import ExitStack

import pytest

from isolator_jax.errors import ConfigError, TrainingInterrupted
from isolator_jax.runs import locked, sampler
from isolator_jax.runs.sampler import Range, Study

pytest.importorskip("optuna", reason="the extra isolator-jax[optuna] is not installed")

SPACE = {"reg": Range(1e-4, 1.0, log=True), "layers": Range(1, 4, whole=True), "rate": ["0.1", "0.01"]}


def study(folder, space=SPACE, seed=0, **options):
    return Study(folder, "plain BPR", {"seeds": [0]}, space, seed, **options)


def value_of(setting):
    return None if setting["layers"] == 4 else -abs(setting["reg"] - 0.01) - (setting["rate"] == "0.1")


def search(of, most=14):
    while of.draw(most):
        for number, setting in of.open().items():
            of.tell(number, value_of(setting))
    return list(of.settings().values())


def test_draws_lie_in_the_space_and_follow_the_seed_also_after_an_interruption(tmp_path):
    drawn = search(study(tmp_path / "whole"))
    assert len(drawn) == 14 and len({json.dumps(setting) for setting in drawn}) > 7
    for setting in drawn:
        assert 1e-4 <= setting["reg"] <= 1 and float(f"{setting['reg']:.4g}") == setting["reg"]
        assert setting["layers"] in (1, 2, 3, 4) and setting["rate"] in SPACE["rate"]
    # Interrupted after a draw, and each time the journal was being written: what is whole of it counts.
    folder = tmp_path / "interrupted"
    search(study(folder), most=11)
    study(folder).draw(12)
    with open(folder / "journal.log", "ab") as journal:
        journal.write(b'{"op_code": 4, "wor')
    again = study(folder)
    for number, setting in again.open().items():
        again.tell(number, value_of(setting))
    assert search(again) == drawn
    reordered = search(study(tmp_path / "reordered", dict(reversed(SPACE.items()))), most=3)
    assert reordered == drawn[:3]
    other = search(study(tmp_path / "other", seed=1))
    assert not {json.dumps(setting) for setting in drawn[:8]} & {json.dumps(setting) for setting in other[:8]}


def test_a_setting_is_open_until_it_is_told_once_by_any_worker(tmp_path):
    one, other = study(tmp_path), study(tmp_path)
    assert one.draw(2) and other.draw(2) and not one.draw(2)
    assert list(one.open()) == list(other.open()) == [0, 1]
    one.tell(0, 0.5)
    other.tell(0, 0.4)
    other.tell(1, None)
    assert not one.open() and list(one.settings()) == [0, 1]
    # Another space in the same folder is another study.
    assert not study(tmp_path, {"reg": SPACE["reg"]}).settings()


def test_a_draw_that_its_worker_did_not_live_to_end_is_drawn_again(tmp_path):
    expected = search(study(tmp_path / "whole"), most=2)
    of = study(tmp_path / "killed")
    search(of, most=1)
    with of._held() as inner:
        inner.ask()
    assert search(of, most=2) == expected


def test_a_study_that_another_worker_holds_is_waited_for_until_it_is_free_or_this_one_shall_end(tmp_path):
    with ExitStack() as held:
        held.enter_context(locked(tmp_path))
        with pytest.raises(TrainingInterrupted, match="waiting for other workers"):
            study(tmp_path, stop=lambda: True).draw(1)
        assert study(tmp_path, stop=held.close).draw(1)  # closing says nothing, and frees it


def test_without_optuna_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"isolator-jax\[optuna\]"):
        sampler.check_installed()
