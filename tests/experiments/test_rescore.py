"""Rescoring as a user runs it, on a made dataset and made models."""

import json

import numpy as np
import pandas as pd
import pytest

from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.reporting import rescoring_markdown
from tests.experiments.test_commands import command

pytestmark = pytest.mark.slow

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features, splits, embeddings and their scores."""
    folder = tmp_path_factory.mktemp("rescore")
    config = SyntheticConfig(users=90, items=60, clusters=4, styles=4, modalities={"image": 8, "text": 6})
    dataset, truth = make_dataset(config)
    write_dataset(folder, "made", dataset, truth, config)
    for split in SPLITS:
        pairs = dataset.split(split)
        pd.DataFrame({"user": pairs.users, "item": pairs.items}).to_csv(folder / f"{split}.csv", index=False)
    rng = np.random.default_rng(0)
    users, items = rng.integers(-3, 4, (90, 4)), rng.integers(-3, 4, (60, 4))
    for name, array in {"users": users, "items": items, "scores": users @ items.T}.items():
        np.save(folder / f"{name}.npy", array.astype(np.float32))
    return folder, dataset


def rescore(folder, out, *arguments):
    features = ",".join(str(path) for path in sorted(folder.glob("made/*_feat.npy")))
    return command("rescore", f"--features={features}", f"--output_dir={out}", *arguments)


def embeddings(folder):
    return [f"--user_embeddings={folder / 'users.npy'}", f"--item_embeddings={folder / 'items.npy'}"]


def splits(folder, *names):
    flags = {"train": "histories", "validation": "validation", "test": "test"}
    return [f"--{flags[name]}={folder / name}.csv" for name in names]


def test_embeddings_and_scores_and_every_way_to_give_the_splits_have_one_result(folder, tmp_path):
    folder, dataset = folder
    done = rescore(folder, tmp_path / "a", *embeddings(folder), *splits(folder, *SPLITS), "--k=5")
    assert done.returncode == 0, done.stderr
    whole = folder / "made" / "made.inter"
    again = rescore(folder, tmp_path / "b", f"--scores={folder / 'scores.npy'}", f"--histories={whole}", "--k=5")
    assert again.returncode == 0, again.stderr
    a, b = (json.loads((tmp_path / x / "report.json").read_text()) for x in "ab")
    assert {name: a[name] for name in a if name != "config"} == {name: b[name] for name in b if name != "config"}
    lists = pd.read_parquet(tmp_path / "a" / "lists.parquet")
    pd.testing.assert_frame_equal(lists, pd.read_parquet(tmp_path / "b" / "lists.parquet"))
    assert list(lists.columns) == ["user", "strategy", "rank", "item", "score"]
    pd.testing.assert_frame_equal(
        lists, pd.read_csv(tmp_path / "a" / "lists.csv"), check_dtype=False, check_categorical=False, rtol=1e-5
    )

    # Small whole numbers tie often; ties go to the lower id.
    scores = np.load(folder / "scores.npy").astype(float)
    scores[dataset.train.users, dataset.train.items] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    vanilla = lists[lists["strategy"] == "vanilla"]
    assert (
        vanilla["item"].to_numpy().reshape(-1, 5)[vanilla["user"].to_numpy()[::5].argsort()].tolist() == best.tolist()
    )

    # What is said of the lists is of those that are written, not of the 20 places that UCBias needs.
    of_u = lists[lists["strategy"] == "u"]["item"].to_numpy().reshape(-1, 5)
    assert a["f"]["changed"] == (of_u != vanilla["item"].to_numpy().reshape(-1, 5)).any(axis=1).mean()

    assert a["parameters"]["tuned"] == ["alpha", "beta", "iota"]
    assert a["parameters"]["alpha"] in (2, 4, 6, 8, 10) and a["parameters"]["beta"] in (1, 5, 10, 15, 20)
    assert a["groups"]["consistent"] == a["groups"]["diverse"] | {"evaluated": a["groups"]["consistent"]["evaluated"]}
    assert a["groups"]["consistent"]["users"] == 90 // 5
    for name, (low, high) in a["intervals"].items():
        assert low < a["metrics"][name]["ucbias@20"] < high
    page = (tmp_path / "a" / "report.md").read_text()
    for text in ("U w/o TS", "chosen on validation", "Quantiles of f", "bootstrap", f"{a['metrics']['u']['rho']:.4f}"):
        assert text in page
    assert "equal scores in float32" in page  # whole numbers tie
    a["groups"]["diverse"]["members"] = 9
    few = "A group has fewer than ten users with held-out items"
    assert few not in page and few in rescoring_markdown(a)


def test_with_a_mapping_beside_the_histories_ids_are_original_in_and_out(folder, tmp_path):
    folder, dataset = folder
    names = {"user": [f"u-{90 - row}" for row in range(90)], "item": [f"i{row}" for row in range(60)]}
    for column, ids in names.items():
        table = pd.DataFrame({"original": ids, f"{column}ID": range(len(ids))})
        table.to_csv(tmp_path / f"{column[0]}_id_mapping.csv", index=False)
    for split in SPLITS:
        rows = pd.read_csv(folder / f"{split}.csv")
        named = {column: [names[column][row] for row in rows[column]] for column in names}
        pd.DataFrame(named).to_csv(tmp_path / f"{split}.csv", index=False)
    arguments = [*embeddings(folder), "--k=5", "--trec_runs"]
    for out, of in (("rows", folder), ("named", tmp_path)):
        done = rescore(folder, tmp_path / out, *arguments, *splits(of, *SPLITS))
        assert done.returncode == 0, done.stderr
    by_row, named = (pd.read_parquet(tmp_path / out / "lists.parquet") for out in ("rows", "named"))
    for column, ids in names.items():
        assert named[column].tolist() == [ids[row] for row in by_row[column]]
    reports = [json.loads((tmp_path / out / "report.json").read_text()) for out in ("rows", "named")]
    assert reports[0]["metrics"] == reports[1]["metrics"]
    values = pd.read_parquet(tmp_path / "named" / "per_user.parquet")
    assert set(values["user"]) == set(names["user"]) and "recall@20/u" in values
    first = (tmp_path / "named" / "u.run").read_text().splitlines()
    assert first[0].split()[0] == "u-90" and len(first) == 90 * 5


@pytest.mark.parametrize("aim", ["recall_no_more_bias", "least_bias_no_less_recall"])
def test_a_setting_is_chosen_for_an_aim_on_validation_or_vanillas_lists_stand(folder, tmp_path, aim):
    folder, _ = folder
    done = rescore(folder, tmp_path / "out", *embeddings(folder), *splits(folder, *SPLITS), f"--aim={aim}")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["parameters"]["aim"] == aim
    vanilla, u = report["validation"]["vanilla"], report["validation"].get("u")
    said = "Vanilla's lists stand"
    page = (tmp_path / "out" / "report.md").read_text()
    assert (u is None) == (report["parameters"]["alpha"] is None) == (said in done.stdout) == (said in page)
    assert (u is None) == ("u" not in set(pd.read_parquet(tmp_path / "out" / "lists.parquet")["strategy"]))
    if u is not None and aim == "recall_no_more_bias":
        assert abs(u["ucbias@20"]) <= abs(vanilla["ucbias@20"])
    elif u is not None:
        assert u["recall@20"] >= vanilla["recall@20"]


def test_without_held_out_data_there_are_lists_and_rho_and_the_parameters_given_are_used(folder, tmp_path):
    folder, _ = folder
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text('{"without_training": {}}')  # of an earlier rescoring, with test data
    before = [out / "u.run", out / "per_user.parquet"]
    for path in [*before, out / "mine.run"]:
        path.touch()
    done = rescore(folder, out, *embeddings(folder), *splits(folder, "train"), "--iota=1")
    assert done.returncode == 0, done.stderr
    assert not any(path.exists() for path in before) and (out / "mine.run").exists()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["parameters"] == {"alpha": 2, "beta": 5, "iota": 1, "tuned": [], "default": ["alpha", "beta"]}
    assert set(report["metrics"]["u"]) == {"rho", "rho/image", "rho/text"}
    assert "intervals" not in report and "UCBias" not in done.stdout
    assert len(pd.read_csv(tmp_path / "out" / "lists.csv")) == 90 * 3 * 20


def test_what_is_given_and_not_used_and_who_is_left_out_is_said(folder, tmp_path):
    folder, dataset = folder
    train = dataset.train
    kept = train.users >= 30
    pd.DataFrame({"user": train.users[kept], "item": train.items[kept]}).to_csv(tmp_path / "train.csv", index=False)
    arguments = [f"--histories={tmp_path / 'train.csv'}", *splits(folder, "validation", "test")]
    done = rescore(folder, tmp_path / "out", *embeddings(folder), *arguments, "--alpha=1", "--beta=2", "--iota=0.5")
    assert done.returncode == 0, done.stderr
    assert "warning: --validation is not used: --alpha, --beta and --iota are all given" in done.stderr
    cold = json.loads((tmp_path / "out" / "report.json").read_text())["without_training"]["test"]
    assert cold == {"users": 30, "of": 90, "interactions": int((dataset.test.users < 30).sum())}
    said = "30 of 90 test users have no training interactions"
    assert said in done.stderr and said in (tmp_path / "out" / "report.md").read_text()


def test_a_parameter_that_is_given_is_not_tuned_and_large_scores_are_warned_of(folder, tmp_path):
    folder, _ = folder
    scores = np.load(folder / "scores.npy")
    np.save(tmp_path / "large.npy", 1e7 + scores.argsort(axis=1).argsort(axis=1))
    arguments = [f"--scores={tmp_path / 'large.npy'}", *splits(folder, "train", "validation"), "--alpha=3"]
    done = rescore(folder, tmp_path / "out", *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["parameters"]["alpha"] == 3 and report["parameters"]["tuned"] == ["beta", "iota"]
    assert "warning: 9" in done.stderr and "U-ISOLATOR ranks by in float32" in done.stderr
    assert "**Warning:** 9" in (tmp_path / "out" / "report.md").read_text()


def test_a_report_of_something_else_is_refused_and_stays(folder, tmp_path):
    folder, _ = folder
    report = tmp_path / "report.json"
    report.write_text('{"metrics": {}}')
    done = rescore(folder, tmp_path, *embeddings(folder), *splits(folder, "train"))
    assert done.returncode == 1 and "holds a report.json that is no rescoring's" in done.stderr
    assert list(tmp_path.iterdir()) == [report] and report.read_text() == '{"metrics": {}}'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user_embeddings={folder}/users.npy"], "either --user_embeddings and --item_embeddings, or --scores"),
        (["--scores={folder}/scores.npy", "--iota=nan"], "--iota must be a finite number"),
        (["--scores={folder}/scores.npy", "--aim=recall"], "--aim says what to choose on validation data"),
        (["--scores={folder}/nan.npy"], "nan.npy, row 7, column 5"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(folder, tmp_path, arguments, message):
    folder, _ = folder
    scores = np.load(folder / "scores.npy")
    scores[7, 5] = np.nan
    np.save(folder / "nan.npy", scores)
    given = [part.format(folder=folder) for part in arguments]
    done = rescore(folder, tmp_path / "out", *splits(folder, "train"), *given)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
