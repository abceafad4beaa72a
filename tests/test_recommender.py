"""The facade: original ids in and out, the library's own lists and numbers, and run folders that the commands take."""

import dataclasses
import errno
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import command

import isolator_jax
from isolator_jax import Recommender
from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.errors import ConfigError, DataError, RunError
from isolator_jax.runs import (
    load_dataset,
    load_run,
    make_problem,
    read_report,
    strategies_of,
    train_run,
    vanilla_folder,
)
from isolator_jax.runs.config import RunConfig

pytestmark = pytest.mark.slow

CONFIG = SyntheticConfig(users=80, items=60, clusters=4, styles=4, modalities={"image": 6, "text": 4})
DATA, TRUTH = make_dataset(CONFIG)
QUICK = {"gamma": 1.0, "max_epochs": 2}


def named(split):
    return pd.DataFrame({"user": [f"u{user}" for user in split.users], "asin": [f"B{item:03}" for item in split.items]})


PAIRS = pd.concat(map(named, (DATA.train, DATA.validation, DATA.test)))
FEATURES = {
    name: pd.DataFrame(x, index=[f"B{item:03}" for item in range(60)])[::-1] for name, x in DATA.features.items()
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "own"


@pytest.fixture(scope="module")
def fitted(run_dir):
    return Recommender("vbpr", **QUICK).fit(PAIRS, FEATURES, run_dir=run_dir, progress=False)


def test_lists_are_those_of_the_library_on_the_same_run_in_original_ids(fitted, run_dir):
    config, problem, encoded, _ = load_run(run_dir)
    strategies = strategies_of(config, True)
    assert fitted.strategies == tuple(strategies) == ("training_strategy", "d", "u")
    chosen = ["u7", "u3", "u70"]
    dense = np.array([sorted(PAIRS["user"].unique()).index(user) for user in chosen], np.int32)
    lists = isolator_jax.top_k_lists(encoded, dense, problem.train.histories, strategies, problem.content, k=5)
    for name, (items, keys) in lists.items():
        table = fitted.recommend(chosen, k=5, strategy=name)
        assert list(table.columns) == ["user", "item", "rank", "score"]
        assert table["user"].tolist() == np.repeat(chosen, 5).tolist() and table["rank"].tolist() == [1, 2, 3, 4, 5] * 3
        assert table["item"].tolist() == [f"B{item:03}" for item in np.ravel(items)]
        np.testing.assert_array_equal(table["score"], np.ravel(strategies[name].score(keys)))
    everyone = fitted.recommend(k=1, strategy="d")
    assert everyone["user"].tolist() == sorted(PAIRS["user"].unique())
    pd.testing.assert_frame_equal(fitted.recommend("u7", k=5), fitted.recommend(["u7"], k=5))


def test_metrics_are_those_of_the_library_and_of_the_report(fitted, run_dir):
    config, problem, encoded, _ = load_run(run_dir)
    wanted = isolator_jax.evaluate(
        encoded,
        None,
        problem.train.histories,
        strategies_of(config, True),
        problem.content,
        truth=problem.test,
        ks=(5,),
    )
    found = fitted.evaluate(ks=(5,))
    assert found.T.to_dict() == {name: result.metrics for name, result in wanted.items()}
    assert fitted.evaluate().T.to_dict() == read_report(run_dir)["test"] == fitted.report["test"]
    # The same pairs given.
    users, items = fitted._fitted.identified.user_ids, fitted._fitted.identified.item_ids
    test = pd.DataFrame({"user": users[problem.dataset.test.users], "item": items[problem.dataset.test.items]})
    pd.testing.assert_frame_equal(fitted.evaluate(test, ks=(5,)), found)
    assert not fitted.evaluate(test[:20], ks=(5,)).equals(found)


@pytest.mark.slow
def test_a_saved_run_gives_the_same_lists_and_the_commands_the_same_numbers_wherever_it_lies(fitted, tmp_path):
    saved = fitted.save(tmp_path / "saved")
    with pytest.raises(FileExistsError, match="exists"):
        fitted.save(saved)
    moved = shutil.move(saved, tmp_path / "moved")
    loaded = Recommender.load(moved)
    for name in fitted.strategies:
        pd.testing.assert_frame_equal(loaded.recommend(strategy=name), fitted.recommend(strategy=name))
    pd.testing.assert_frame_equal(loaded.evaluate(), fitted.evaluate())
    done = command("evaluate", f"--run_dir={moved}", f"--json={tmp_path / 'metrics.json'}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == fitted.evaluate().T.to_dict()
    done = command("recommend", f"--run_dir={moved}", "--strategy=u", "--k=3", f"--output={tmp_path / 'lists.csv'}")
    assert done.returncode == 0, done.stderr
    lists = pd.read_csv(tmp_path / "lists.csv")
    assert lists["item"].tolist() == fitted.recommend(k=3)["item"].tolist()


def test_a_run_whose_folder_cannot_be_written_to_is_saved_elsewhere(fitted, run_dir, tmp_path, monkeypatch):
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != run_dir and real(path, mode))

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("isolator_jax.runs.lock.FileLock.acquire", refuse)
    saved = Recommender.load(fitted.save(tmp_path / "saved"))
    pd.testing.assert_frame_equal(saved.recommend(k=1), fitted.recommend(k=1))


def test_a_finished_run_is_there_while_fit_is_interrupted_as_it_writes_the_data(run_dir, fitted, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    run = shutil.copytree(run_dir, tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("isolator_jax.data.identified.write_splits", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Recommender("vbpr", **QUICK).fit(PAIRS, FEATURES, run_dir=run, progress=False)
    assert Recommender.load(run).report["test"] == fitted.report["test"]


def test_a_run_goes_on_in_its_folder_and_ends_as_one_that_was_never_interrupted(fitted, tmp_path, capfd):
    Recommender("vbpr", **{**QUICK, "max_epochs": 1}).fit(PAIRS, FEATURES, run_dir=tmp_path / "run", progress=False)
    again = Recommender("vbpr", **QUICK).fit(PAIRS, FEATURES, run_dir=tmp_path / "run", progress=False)
    pd.testing.assert_frame_equal(again.evaluate(), fitted.evaluate())
    assert capfd.readouterr().err == ""
    with pytest.raises(RunError, match="another configuration.*the data has changed"):
        Recommender("vbpr", **QUICK).fit(PAIRS[:-1], FEATURES, run_dir=tmp_path / "run", progress=False)


def test_whole_numbers_come_back_as_such_and_a_model_without_content_needs_no_features(tmp_path, capsys):
    train, validation = ((1000 - split.users, split.items) for split in (DATA.train, DATA.validation))
    test = (np.append(1000 - DATA.test.users, 5000), np.append(DATA.test.items, 0))
    plain = Recommender("mfbpr", training_strategy=False, max_epochs=1)
    with pytest.warns(UserWarning, match="test: 1 of 81 test users have no training"):
        plain.fit(train, validation=validation, test=test)
    assert "mfbpr" in capsys.readouterr().err  # the bar
    assert plain.strategies == ("vanilla",)
    loaded = Recommender.load(plain.save(tmp_path / "saved"))
    for model in (plain, loaded):
        with pytest.warns(UserWarning, match="users: 1 without training items, '5000' the first; they get no list"):
            table = model.recommend([1000, 5000, 950], k=2, strategy="vanilla")
        assert table["user"].tolist() == [1000, 1000, 950, 950] and table["item"].dtype == np.int64
    arguments = [f"--run_dir={tmp_path / 'saved'}", "--strategy=vanilla", "--users=5000,1000", "--k=2"]
    done = command("recommend", *arguments, f"--output={tmp_path / 'lists.csv'}")
    assert "warning: users: 1 without training items, '5000' the first; they get no list" in done.stderr
    assert pd.read_csv(tmp_path / "lists.csv")["user"].tolist() == [1000, 1000]
    folder = plain._fitted.folder
    assert folder.is_dir()
    del plain, model
    assert not folder.exists()  # the temporary one


def test_a_run_of_the_command_is_loaded_and_saved_with_its_data(tmp_path):
    write_dataset(tmp_path, "made", DATA, TRUTH, CONFIG)
    config = RunConfig("vbpr", data_dir=str(tmp_path), dataset="made", **QUICK)
    report = train_run(
        config, make_problem(config, load_dataset(config)), tmp_path / "run", checkpoint_every=lambda record: False
    )
    loaded = Recommender.load(tmp_path / "run")
    assert loaded.evaluate().T.to_dict() == report["test"]
    plain = dataclasses.replace(config, training_strategy=False)
    train_run(plain, make_problem(plain, load_dataset(plain)), vanilla_folder(tmp_path / "run"), checkpoint_every=bool)
    saved = loaded.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "made")
    assert load_run(vanilla_folder(saved))[0].training_strategy is False
    pd.testing.assert_frame_equal(Recommender.load(saved).recommend(), loaded.recommend())


def test_what_another_command_has_made_of_the_run_is_not_taken_for_this_model(tmp_path):
    one = Recommender("mfbpr", **{**QUICK, "max_epochs": 1}).fit(
        PAIRS, FEATURES, run_dir=tmp_path / "run", progress=False
    )
    before = one.report
    Recommender("mfbpr", **QUICK).fit(PAIRS, FEATURES, run_dir=tmp_path / "run", progress=False)
    for call in (lambda: one.save(tmp_path / "saved"), lambda: one.report):
        with pytest.raises(RunError, match="another command has gone on with this run"):
            call()
    assert before["epochs"] == 1 and not (tmp_path / "saved").exists()
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RunError, match="run is not a run folder"):
        one.save(tmp_path / "saved")


def test_numbers_of_users_alike_are_compiled_for_once_and_lists_end_with_the_catalogue(fitted, compilations):
    users = [f"u{user}" for user in range(1, 8)]
    five = fitted.recommend(users[:5], k=5)
    compilations.clear()
    for count in (6, 7):
        pd.testing.assert_frame_equal(fitted.recommend(users[:count], k=5)[: 5 * 5], five)
    assert not compilations
    pd.testing.assert_frame_equal(fitted.recommend(users, k=10**7), fitted.recommend(users, k=60))


def test_what_a_killed_fit_left_of_its_data_is_removed(tmp_path):
    left = tmp_path / "run" / "data" / f".draft-{'0' * 16}"
    model = Recommender("mfbpr", **QUICK).fit(PAIRS, FEATURES, run_dir=tmp_path / "run", progress=False)
    left.mkdir()
    (left / "image_feat.npy").touch()
    model.fit(PAIRS, FEATURES, run_dir=tmp_path / "run", progress=False)
    assert [path.name for path in (tmp_path / "run" / "data").iterdir()] == ["interactions"]


CONSTRUCTED = {
    "bert": lambda: Recommender("bert"),
    "gama is no option of Recommender; it has hparams": lambda: Recommender("vbpr", gama=1),
    "data_dir is no option": lambda: Recommender("vbpr", data_dir="x"),
    "gamma must be": lambda: Recommender("vbpr", gamma=-1),
    "no hyper-parameter": lambda: Recommender("vbpr", hparams={"depth": 1}),
    "vbpr needs item features": lambda: Recommender("vbpr").fit(PAIRS),
    "training_strategy=False": lambda: Recommender("lightgcn").fit(PAIRS),
    "no modality sound": lambda: Recommender("vbpr", modalities=["sound"]).fit(PAIRS, FEATURES),
    "features must be of type Mapping": lambda: Recommender("vbpr").fit(PAIRS, [DATA.features["image"]]),
    "not fitted; call fit": lambda: Recommender("vbpr").recommend(),
    "not a run folder": lambda: Recommender.load("absent"),
}
CALLS = {
    "users: 2 unknown, 'zoe' the first": lambda model: model.recommend(["zoe", "u3", "eve"]),
    "'vanilla' is none of this model's: training_strategy, d, u": lambda model: model.recommend(strategy="vanilla"),
    "strategy must be of type str": lambda model: model.recommend(strategy=["u"]),
    "k must be at least 1": lambda model: model.recommend(k=0),
    "k must be an integer": lambda model: model.recommend(k="20"),
    "ks must be a sequence": lambda model: model.evaluate(ks=10),
    "test, users: 1 unknown": lambda model: model.evaluate((["zoe"], ["B000"])),
    "interactions and test": lambda model: model.evaluate(PAIRS),
}  # fmt: skip


@pytest.mark.parametrize("message", [*CONSTRUCTED, *CALLS])
def test_bad_arguments_are_refused_in_one_line(message, request):
    with pytest.raises((ConfigError, DataError, RunError, ValueError, TypeError), match=message) as error:
        CONSTRUCTED[message]() if message in CONSTRUCTED else CALLS[message](request.getfixturevalue("fitted"))
    assert "\n" not in str(error.value)
