"""The commands as a user runs them, in subprocesses, on a small dataset."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A made dataset with id mappings, and a run of VBPR on it."""
    folder = tmp_path_factory.mktemp("commands")
    made = command(
        "make_dataset", f"--output_dir={folder}", "--name=made", "--users=90", "--items=60",
        "--clusters=4", "--styles=4", "--modalities=image:8,text:6",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    mapping = pd.DataFrame({"asin": [f"B{item:03d}" for item in range(60)], "itemID": range(60)})
    mapping.to_csv(folder / "made" / "i_id_mapping.csv", sep="\t", index=False)
    trained = command(
        "train", "--backbone=vbpr", f"--data_dir={folder}", "--dataset=made", f"--run_dir={folder / 'run'}",
        "--seed=0", "--gamma=0.1", "--alpha=2", "--beta=5", "--iota=0.1", "--max_epochs=4", "--patience=25",
        "--modalities=image,text", "--hparams=reg=0.01,learning_rate=0.01",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    for name in ("Vanilla", "D-ISOLATOR", "U-ISOLATOR", "UCBias@20"):
        assert name in trained.stdout
    (folder / "log.txt").write_text(trained.stderr)
    return folder


def test_progress_in_a_log_is_readable_lines_with_the_time_left(folder):
    text = (folder / "log.txt").read_bytes().decode()
    assert "\r" not in text and all(len(line) < 200 for line in text.splitlines())
    for label in ("1 of 2: vbpr ISOLATOR", "2 of 2: vbpr plain BPR"):
        of_label = [line for line in text.splitlines() if line.startswith(label)]
        assert f"{label}: 0/4 [00:00<?" in of_label[0]
        assert f"{label}: 4/4" in of_label[-1] and "R@20=0." in of_label[-1] and "<00:00" in of_label[-1]


def test_a_run_is_repeated_from_its_configuration_and_flags_win_over_it(folder):
    again, other = folder / "again", folder / "other"
    config = f"--config={folder / 'run' / 'config.json'}"
    done = command("train", config, f"--run_dir={again}", "--novanilla")
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((run / "report.json").read_text()) for run in (folder / "run", again))
    assert second["config"] == first["config"]
    for strategy in ("training_strategy", "d", "u"):
        assert second["test"][strategy] == first["test"][strategy]
    flags = ["--seed=1", "--hparams=reg=0.5", "--max_epochs=1", "--novanilla"]
    assert command("train", config, f"--run_dir={other}", *flags).returncode == 0
    changed = json.loads((other / "config.json").read_text())["config"]
    expected = first["config"] | {"seed": 1, "max_epochs": 1}
    assert changed == expected | {"hparams": expected["hparams"] | {"reg": 0.5}}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("absent/config.json", "not a run folder"),
        ("log.txt", "config.json of a run folder"),
        ("bad/config.json", "bad"),
    ],
)
def test_a_configuration_that_is_none_is_refused_by_name(folder, file, message):
    (folder / "bad").mkdir(exist_ok=True)
    (folder / "bad" / "config.json").write_text("{}")
    done = command("train", f"--config={folder / file}", f"--run_dir={folder / 'unused'}")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "unused").exists()


def test_a_dry_run_estimates_and_writes_nothing(folder):
    before = sorted(folder.rglob("*"))
    done = command("train", f"--config={folder / 'run' / 'config.json'}", f"--run_dir={folder / 'dry'}", "--dry_run")
    assert done.returncode == 0, done.stderr
    for line in ("memory of training", "a step", "an epoch with validation", "2 x 4 epochs"):
        assert line in done.stdout
    assert sorted(folder.rglob("*")) == before
    # What a run would refuse, it refuses.
    done = command("train", f"--run_dir={folder / 'run'}", "--dry_run")
    assert done.returncode == 1 and "holds a run of another configuration" in done.stderr


def test_train_writes_the_report_of_the_contract(folder):
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["dataset"]["users"] == 90 and report["dataset"]["items"] == 60
    assert report["epochs"] == 4 and 1 <= report["best_epoch"] <= 4
    assert set(report["seconds_per_epoch"]) == {"train", "validation"}
    assert list(report["test"]) == ["vanilla", "training_strategy", "d", "u"]
    for metrics in report["test"].values():
        assert {"recall@10", "recall@20", "ndcg@10", "ndcg@20", "ucbias@20", "rho", "rho/image"} <= set(metrics)
    assert report["config"]["hparams"]["reg"] == 0.01
    assert (folder / "run" / "report.md").is_file()


def test_evaluate_reads_a_run_back_whatever_the_chunks(folder):
    out = folder / "metrics.json"
    for chunks in (["--user_chunk=7", "--item_chunk=11"], ["--user_chunk=90"]):
        done = command("evaluate", f"--run_dir={folder / 'run'}", "--k=10,20", f"--json={out}", *chunks)
        assert done.returncode == 0, done.stderr
        metrics = json.loads(out.read_text())["metrics"]
        report = json.loads((folder / "run" / "report.json").read_text())
        for name, values in metrics.items():
            assert values == report["test"][name]


def test_evaluate_writes_every_users_values_and_lists_in_original_ids(folder):
    out, lists = folder / "values", folder / "of-u.csv"
    arguments = [f"--run_dir={folder / 'run'}", f"--output_dir={out}", "--trec_runs", "--k=5"]
    done = command("evaluate", *arguments, f"--json={folder / 'values.json'}")
    assert done.returncode == 0, done.stderr
    table, metrics = (pd.read_parquet(out / "per_user.parquet"), json.loads((folder / "values.json").read_text()))
    assert table["user"].tolist() == list(range(90)) and {"c_u", "group"} < set(table.columns)
    for name, values in metrics["metrics"].items():
        assert table[f"recall@5/{name}"].mean() == pytest.approx(values["recall@5"], abs=1e-12)
    assert sorted(path.name for path in out.iterdir()) == [
        "d.run",
        "per_user.parquet",
        "training_strategy.run",
        "u.run",
    ]
    assert command("recommend", f"--run_dir={folder / 'run'}", "--strategy=u", f"--output={lists}").returncode == 0
    run = pd.read_csv(out / "u.run", sep=" ", header=None, names=["user", "q0", "item", "rank", "score", "tag"])
    pd.testing.assert_frame_equal(run[["user", "rank", "item"]], pd.read_csv(lists)[["user", "rank", "item"]])
    refused = command("evaluate", f"--run_dir={folder / 'run'}", "--trec_runs")
    assert refused.returncode == 1 and "--trec_runs needs --output_dir" in refused.stderr


def test_a_modality_is_knocked_out_of_training_and_of_a_model_that_is_there(folder):
    """VBPR sees image and text; without both of them it ranks otherwise, and groups and c_u stay."""
    out, run = folder / "knocked.json", folder / "without"
    flags = ["--knock_out=image:constant", "--knock_out=text:constant"]
    done = command("evaluate", f"--run_dir={folder / 'run'}", f"--json={out}", *flags)
    assert done.returncode == 0 and "Knocked out" in done.stdout, done.stderr
    found, report = (json.loads(path.read_text()) for path in (out, folder / "run" / "report.json"))
    assert found["config"]["knock_out"] == {"image": "constant", "text": "constant"}
    assert found["metrics"]["d"] != report["test"]["d"]
    flags = ["--max_epochs=1", "--novanilla", "--knock_out=image:shuffle,text:noise"]
    done = command("train", f"--config={folder / 'run' / 'config.json'}", f"--run_dir={run}", *flags)
    assert done.returncode == 0, done.stderr
    trained = json.loads((run / "report.json").read_text())
    assert trained["config"]["knock_out"] == {"image": "shuffle", "text": "noise"}
    assert trained["groups"] == report["groups"]
    done = command("evaluate", f"--run_dir={run}", f"--json={out}")
    assert json.loads(out.read_text())["metrics"] == trained["test"], done.stderr


@pytest.mark.parametrize("value", ["image", "image:blur", ":noise", "image:noise,image:shuffle"])
def test_a_knock_out_that_says_nothing_is_refused(folder, value):
    done = command("train", f"--run_dir={folder / 'unused'}", f"--knock_out={value}")
    assert done.returncode == 1 and "--knock_out must be modality:way" in done.stderr


@pytest.mark.parametrize(
    ("suffix", "run", "flags"), [(".csv", "run", ["--strategy=u"]), (".parquet", "run/vanilla", [])]
)
def test_recommend_writes_lists_in_original_ids_without_what_users_have(folder, suffix, run, flags):
    out = folder / f"lists{suffix}"
    arguments = [f"--run_dir={folder / run}", *flags, "--k=5", "--users=3,1", f"--output={out}"]
    done = command("recommend", *arguments)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert list(table.columns) == ["user", "rank", "item", "score"]
    assert table["user"].tolist() == [3] * 5 + [1] * 5
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    assert (table.groupby("user")["score"].diff().dropna() <= 0).all()
    interactions = pd.read_csv(folder / "made" / "made.inter", sep="\t")
    train = interactions[interactions["x_label"] == 0]
    for user, group in table.groupby("user"):
        seen = {f"B{item:03d}" for item in train.loc[train["userID"] == user, "itemID"]}
        assert not seen & set(group["item"])


def test_statistics_count_what_is_in_the_files(folder):
    out = folder / "statistics.json"
    done = command("statistics", f"--data_dir={folder}", "--datasets=made", f"--json={out}")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())
    features = np.load(folder / "made" / "image_feat.npy").astype(np.float64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = unit @ unit.T
    expected = (cosine.sum() - np.trace(cosine)) / (60 * 59)
    assert row["image S-bar"] == pytest.approx(expected, abs=1e-5)
    assert row["interactions"] == len(pd.read_csv(folder / "made" / "made.inter", sep="\t"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run_dir={run}", "--no_such_flag=1"], "no_such_flag"),
        (["--run_dir={run}", "--data_dir=somewhere"], "go together"),
        (["--run_dir={run}", "--notraining_strategy", "--gamma=0.5"], "--gamma"),
        (["--run_dir={run}", "--notraining_strategy", "--vanilla"], "--vanilla"),
        (["--run_dir={run}", "--hparams=reg"], "name=value"),
        (["--run_dir={run}", "--modalities=sound"], "no modality sound"),
        (["--run_dir={run}", "--data_dir={folder}", "--dataset=absent"], "no such folder"),
        (["--run_dir={run}", "stray"], "stray"),
    ],
)
def test_train_refuses_what_cannot_be_meant_without_a_traceback(folder, arguments, message):
    run = folder / "refused"
    done = command("train", *(part.format(run=run, folder=folder) for part in arguments))
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not run.exists()


def test_recommend_refuses_unknown_users_and_formats(folder):
    run = f"--run_dir={folder / 'run'}"
    assert "no user '9999'" in command("recommend", run, "--users=9999", f"--output={folder / 'x.csv'}").stderr
    assert ".parquet" in command("recommend", run, f"--output={folder / 'x.txt'}").stderr
    assert not (folder / "x.csv").exists()


def test_benchmark_measures_what_the_contract_names(folder):
    out = folder / "bench.json"
    arguments = ["--backbone=lightgcn", f"--data_dir={folder}", "--dataset=made", "--repeats=1", f"--json={out}"]
    done = command("benchmark", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    for name in ("step_seconds", "epoch_train_seconds", "validation_seconds", "compile_seconds", "peak_host_bytes"):
        assert results[name] > 0


@pytest.mark.slow
def test_benchmark_writes_a_page_of_what_bounds_a_step(folder):
    page = folder / "page.md"
    data = [f"--data_dir={folder}", "--dataset=made", "--repeats=1", "--backbone=lightgcn"]
    done = command("benchmark", *data, f"--page={page}", "--nopage_tests")
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| lightgcn"))
    assert any(bound in row for bound in ("memory", "arithmetic", "launches"))
    assert "segment sums, unsorted" in text and "Tests: not run" in text
    assert "exclude each other" in command("benchmark", *data, "--profile", f"--page={page}").stderr
