"""From a raw file to audited lists, all in original ids, by the commands alone."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import command

from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset


def run(name, *arguments):
    done = command(name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Raw interactions with names, ratings and times, lines in no order, and features in another order of items."""
    folder = tmp_path_factory.mktemp("raw")
    data = make_dataset(SyntheticConfig(users=80, items=60, clusters=4, styles=4, modalities={"image": 8}))[0]
    rng = np.random.default_rng(0)
    pairs = [
        (u, i)
        for split in (data.train, data.validation, data.test)
        for u, i in zip(split.users, split.items, strict=True)
    ]
    users, items = np.array(pairs).T
    table = pd.DataFrame(
        {
            "reviewerID": [f"user-{u:02d}" for u in users],
            "asin": [f"B{i:03d}" for i in items],
            "overall": rng.integers(3, 6, users.size),
            "unixReviewTime": rng.integers(10**9, 2 * 10**9, users.size),
        }
    )
    table.sample(frac=1, random_state=0).to_csv(folder / "reviews.csv.gz", index=False)
    order = rng.permutation(data.num_items)
    np.save(folder / "image.npy", data.features["image"][order])
    (folder / "ids.txt").write_text("\n".join(f"B{i:03d}" for i in order))
    return folder


def write_popularity_lists(folder):
    """A baseline as anyone would make it of the prepared folder: the most popular items, in original ids."""
    table = pd.read_csv(folder / "mine" / "mine.inter", sep="\t").query("x_label == 0")
    users, items = (
        pd.read_csv(folder / "mine" / f"{side[0]}_id_mapping.csv", sep="\t", index_col=f"{side}ID")[f"{side}_id"]
        for side in ("user", "item")
    )
    popularity = table["itemID"].value_counts().reindex(items.index, fill_value=0)
    order = popularity.sort_values(ascending=False, kind="stable").index
    rows = [
        (users[user], items[item], rank)
        for user, own in table.groupby("userID")["itemID"]
        for rank, item in enumerate(order[~order.isin(own)][:20], 1)
    ]
    pd.DataFrame(rows, columns=["user", "item", "rank"]).to_csv(folder / "popular.csv", index=False)


@pytest.mark.slow
def test_raw_data_is_prepared_trained_on_and_its_lists_audited(raw):
    files = [f"--interactions={raw / 'reviews.csv.gz'}", f"--features=image={raw / 'image.npy'}"]
    choices = ["--min_rating=4", "--k_core=2", "--split=leave_one_out", f"--feature_ids=image={raw / 'ids.txt'}"]
    out = run("prepare", *files, *choices, f"--output_dir={raw}", "--name=mine")
    assert "rating at least 4" in out and "2-core" in out and f"Written: {raw / 'mine'}" in out
    run(
        "train", f"--data_dir={raw}", "--dataset=mine", f"--run_dir={raw / 'run'}", "--max_epochs=2", "--novanilla",
        "--hparams=learning_rate=0.01",
    )  # fmt: skip
    run("evaluate", f"--run_dir={raw / 'run'}", f"--json={raw / 'evaluated.json'}")
    for strategy in ("d", "u"):
        run("recommend", f"--run_dir={raw / 'run'}", f"--strategy={strategy}", f"--output={raw / strategy}.csv")
    write_popularity_lists(raw)
    where = [f"--data_dir={raw}", "--dataset=mine", f"--output_dir={raw / 'audit'}"]
    files = ",".join(f"{name}={raw / name}.csv" for name in ("d", "u", "popular"))
    page = run("audit", f"--lists={files}", *where, "--trec_runs")
    audited = json.loads((raw / "audit" / "audit.json").read_text())
    evaluated = json.loads((raw / "evaluated.json").read_text())["metrics"]
    for strategy in ("d", "u"):
        for metric, value in evaluated[strategy].items():
            assert audited["systems"][strategy][metric] == pytest.approx(value, abs=1e-9, nan_ok=True), metric
    assert set(audited["references"]) == {"popularity", "content"}
    assert audited["systems"]["popular"]["recall@20"] == audited["references"]["popularity"]["recall@20"]
    assert page.count("original ids") >= 3 and (raw / "audit" / "audit.md").read_text() in page

    per_user = pd.read_parquet(raw / "audit" / "per_user.parquet")
    assert per_user["user"].str.startswith("user-").all()
    assert per_user["recall@20/d"].mean() == pytest.approx(audited["systems"]["d"]["recall@20"], abs=1e-12)

    # The run it wrote is audited alike.
    run("audit", f"--lists=again={raw / 'audit' / 'd.run'}", *where[:2], f"--output_dir={raw / 'again'}")
    again = json.loads((raw / "again" / "audit.json").read_text())["systems"]["again"]
    assert again == audited["systems"]["d"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset without id mappings, and the lists of one user too few, one of them of its training items."""
    folder = tmp_path_factory.mktemp("made")
    config = SyntheticConfig(users=30, items=24, clusters=3, styles=3, modalities={"image": 4})
    dataset, truth = make_dataset(config)
    write_dataset(folder, "made", dataset, truth, config)
    rows = [(user, item, item) for user in range(1, 30) for item in range(3) if user != 7]
    rows += [(7, item, item) for item in dataset.train.items[dataset.train.users == 7]]
    pd.DataFrame(rows, columns=["user", "item", "score"]).to_csv(folder / "lists.tsv", sep="\t", index=False)
    return folder, int((dataset.train.users == 7).sum())


def audit(folder, lists, *flags):
    return command("audit", f"--lists={lists}", f"--data_dir={folder}", "--dataset=made", *flags)


def test_what_lowers_a_systems_numbers_is_said(made):
    folder, training_items = made
    # UCBias and rho are of 20 places, whatever --k asks for.
    done = audit(folder, f"popularity={folder / 'lists.tsv'}", f"--output_dir={folder / 'audit'}", "--k=2,3")
    assert done.returncode == 0, done.stderr
    assert (
        "lists of 29 users, dense ids; 1 users with training items have no list and count as empty ones" in done.stdout
    )
    assert "so metrics beyond that lack hits" in done.stdout and "shorter than" not in done.stdout
    assert list(json.loads((folder / "audit" / "audit.json").read_text())["systems"]) == ["popularity"]
    seen = int(done.stdout.split(" listed items are training items")[0].split()[-1])
    assert seen >= training_items


def test_lists_shorter_than_others_are_said(made):
    folder, _ = made
    rows = [(user, item, item) for user in range(30) for item in range(20 if user == 3 else 5)]
    pd.DataFrame(rows, columns=["user", "item", "score"]).to_csv(folder / "short.csv", index=False)
    done = audit(folder, f"short={folder / 'short.csv'}", f"--output_dir={folder / 'short'}")
    assert "29 lists are shorter than 20, and lack hits beyond their end" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ("lists.csv", "--lists must be name=value"),
        ("a/b=lists.csv", "systems need names of letters"),
        ("a=absent.csv", "absent.csv: no such file"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_line(made, lists, message):
    done = audit(made[0], lists, f"--output_dir={made[0] / 'refused'}")
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (made[0] / "refused").exists()


def test_a_file_of_lists_is_not_replaced_by_what_was_read_of_it(made):
    folder, _ = made
    lists = folder / "mine.run"
    lists.write_text("1 Q0 2 1 0.5 theirs\n")
    done = audit(folder, f"mine={lists}", f"--output_dir={folder}", "--trec_runs")
    assert done.returncode == 1 and f"{lists} is read, and would be replaced" in done.stderr
    assert lists.read_text() == "1 Q0 2 1 0.5 theirs\n"
