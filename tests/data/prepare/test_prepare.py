"""From raw files to a dataset that the reader takes: formats, steps, features, messages, and bytes."""

import gzip
import json
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isolator_jax.data import read_dataset
from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.data.prepare import PrepareConfig, prepare_dataset
from isolator_jax.errors import ConfigError, DataError
from isolator_jax.runs import make_problem
from isolator_jax.runs.config import RunConfig

# user, item, rating, time, split: ids in no order; ann saw tea twice, the second time later.
RAW = pd.DataFrame(
    [
        ("bob", "tea", 5.0, 40, "train"),
        ("ann", "milk", 4.0, 20, "valid"),
        ("ann", "tea", 3.0, 10, "train"),
        ("ann", "rum", 5.0, 30, "test"),
        ("bob", "rum", 4.5, 50, "valid"),
        ("bob", "milk", 5.0, 60, "test"),
        ("ann", "tea", 4.0, 70, "train"),
        ("eve", "tea", 1.0, 80, "train"),
    ],
    columns=["user", "item", "rating", "time", "split"],
)
USERS, ITEMS = ["ann", "bob", "eve"], ["milk", "rum", "tea"]


def write_lines(path, columns=None, table=RAW):
    records = table.rename(columns=columns or {}).to_dict("records")
    text = "".join(json.dumps(record) + "\n" for record in records)
    (gzip.open if path.suffix == ".gz" else open)(path, "wt").write(text)


FORMATS = {
    "raw.csv": lambda path: RAW.to_csv(path, index=False),
    "raw.csv.gz": lambda path: RAW.to_csv(path, index=False),
    "late.csv": lambda path: path.write_text("\n  \n" + RAW.to_csv(index=False)),
    "semicolons.txt": lambda path: RAW.to_csv(path, index=False, sep=";", lineterminator="\r\n"),
    "bom.tsv": lambda path: RAW.to_csv(path, index=False, sep="\t", encoding="utf-8-sig"),
    "inter.csv": lambda path: (
        RAW.set_axis(["userID", "itemID", "rating", "timestamp", "x_label"], axis=1)
        .replace({"x_label": {"train": 0, "valid": 1, "test": 2}})
        .to_csv(path, index=False, sep="\t")
    ),
    "recbole.inter": lambda path: RAW.set_axis(
        ["user_id:token", "item_id:token", "rating:float", "timestamp:float", "split:token"], axis=1
    ).to_csv(path, index=False, sep="\t"),
    "raw.parquet": lambda path: RAW.astype({"user": "category", "time": "datetime64[s]"}).to_parquet(path),
    "amazon.jsonl": lambda path: write_lines(
        path, {"user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime"}
    ),
    "raw.json.gz": write_lines,
    "quoted.csv": lambda path: RAW.assign(note='said "so",\nand left').to_csv(path, index=False),
}


def prepared(folder, path, **choices):
    lines = []
    config = PrepareConfig(interactions=path, **{"name": "set", "split": "given", **choices})
    target = prepare_dataset(config, folder / "out", lines.append)
    return target, lines


def triples(target):
    """The dataset's interactions in original ids."""
    dataset = read_dataset(target.parent, target.name)
    users = read_id_mapping(target, "userID", dataset.num_users)
    items = read_id_mapping(target, "itemID", dataset.num_items)
    splits = [dataset.train, dataset.validation, dataset.test]
    return {
        (str(users[u]), str(items[i]), label)
        for label, split in enumerate(splits)
        for u, i in zip(split.users, split.items, strict=True)
    }


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_interactions_in_any_format_give_the_same_dataset(tmp_path, name):
    FORMATS[name](tmp_path / name)
    target, lines = prepared(tmp_path, tmp_path / name, min_rating=2)
    assert triples(target) == {
        *[("ann", "tea", 0), ("ann", "milk", 1), ("ann", "rum", 2)],
        *[("bob", "tea", 0), ("bob", "rum", 1), ("bob", "milk", 2)],
    }
    record = json.loads((target / "prepare.json").read_text())
    assert [tuple(step.values()) for step in record["steps"]] == [
        ("read", 8, 3, 3),
        ("rating at least 2", 7, 2, 3),
        ("duplicates dropped", 6, 2, 3),
    ]
    assert "(dropped 1 interactions, 1 users, 0 items)" in lines[1]
    assert set(record["outputs"]) == {"set.inter", "u_id_mapping.csv", "i_id_mapping.csv"}


def test_without_a_header_columns_are_named_and_strange_ids_survive(tmp_path):
    ids = ['a "b" c', "x,y", "NA", "0012", "ü"]
    table = pd.DataFrame([(user, item) for user in ids for item in ids])
    table.to_csv(tmp_path / "plain.csv", index=False, header=False)
    target, _ = prepared(tmp_path, tmp_path / "plain.csv", columns=("item", "user"), split="random")
    assert {pair[:2] for pair in triples(target)} == {(user, item) for user in ids for item in ids}


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"split": "leave_one_out"}, {("ann", "milk"): 1, ("ann", "rum"): 2, ("bob", "rum"): 1, ("bob", "milk"): 2}),
        (
            {"split": "leave_one_out", "duplicates": "last"},
            {("ann", "rum"): 1, ("ann", "tea"): 2, ("bob", "rum"): 1, ("bob", "milk"): 2},
        ),
        ({"split": "user_time"}, {("ann", "milk"): 1, ("ann", "rum"): 2, ("bob", "rum"): 1, ("bob", "milk"): 2}),
        ({"split": "time", "ratios": (4, 1, 1)}, {("bob", "rum"): 1, ("bob", "milk"): 2}),
    ],
)
@pytest.mark.parametrize("name", ["raw.csv", "raw.parquet", "dates.csv"])
def test_splits_by_time(tmp_path, name, choices, expected):
    writers = FORMATS | {
        "dates.csv": lambda path: RAW.assign(time=pd.to_datetime(RAW["time"], unit="h")).to_csv(path, index=False)
    }
    writers[name](tmp_path / name)
    target, _ = prepared(tmp_path, tmp_path / name, k_core=2, **choices)
    assert {pair[:2]: pair[2] for pair in triples(target) if pair[2]} == expected


UNREADABLE = {
    "nested.jsonl": (b'{"user": {"id": 7, "session": 0}, "item": "a"}\n', r'line 1: user \{"id": 7, .* is no id'),
    "list.jsonl": (b'{"user": "u", "item": "a"}\n{"user": "u", "item": ["a"]}\n', r'line 2: item \["a"\] is no id'),
    "decimal.jsonl": (b'{"user": 0.5, "item": "a"}\n', "line 1: user 0.5 is no id"),
    "truth.jsonl": (b'{"user": true, "item": "a"}\n', "line 1: user true is no id"),
    "latin.jsonl": ('{"user": "Renée", "item": "a"}\n'.encode("latin-1"), "line 1: not UTF-8 text"),
    "half.jsonl": (b'{"user": "\\ud83d", "item": "a"}\n', "line 1: half a character"),
    "latin.csv": ("user;item;Qualité\nu;a;1\n".encode("latin-1"), "line 1: not UTF-8 text"),
    "utf16.csv": ("user,item\nu,a\n".encode("utf-16-le"), "line 1: not UTF-8 text"),
    "packed.csv": (gzip.compress(b"user,item\nu,a\n"), "line 1: not UTF-8 text; .* by gzip alone"),
    "ratings.dat": (b"1::26::5::978300760\n", "line 1: fields stand apart by '::'; replace it by a tab"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_text_that_cannot_be_read_is_refused_with_its_line(tmp_path, name):
    content, message = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}, {message}"):
        prepared(tmp_path / "out", tmp_path / name, split="random")


def test_ids_of_rows_that_are_bytes_and_no_text_are_refused(tmp_path):
    RAW.to_csv(tmp_path / "raw.csv", index=False)
    np.save(tmp_path / "image.npy", np.ones((1, 2)))
    np.save(tmp_path / "ids.npy", np.array([b"caf\xe9"]))
    files = {"features": {"image": tmp_path / "image.npy"}, "feature_ids": {"image": tmp_path / "ids.npy"}}
    with pytest.raises(DataError, match=r"ids\.npy: bytes that are not UTF-8 text"):
        prepared(tmp_path / "out", tmp_path / "raw.csv", **files)


def test_what_columns_stand_apart_by_is_what_gives_as_many_as_are_named(tmp_path):
    text = RAW.to_csv(index=False, sep=";", decimal=",", header=["user", "item", "rating, of five", "time", "split"])
    (tmp_path / "named.csv").write_text(text)
    (tmp_path / "plain.csv").write_text(text.partition("\n")[2])
    columns = ("user", "item", "rating, of five", "time", "split")
    named, _ = prepared(tmp_path / "named", tmp_path / "named.csv")
    plain, _ = prepared(tmp_path / "plain", tmp_path / "plain.csv", columns=columns)
    assert triples(named) == triples(plain)
    with pytest.raises(DataError, match=r"named\.csv, line 1: it names the columns itself; leave --columns out"):
        prepared(tmp_path / "again", tmp_path / "named.csv", columns=columns)
    with pytest.raises(DataError, match="line 1: 5 fields that stand apart by ';', but --columns names 3"):
        prepared(tmp_path / "again", tmp_path / "plain.csv", columns=("user", "item", "time"))


@pytest.mark.parametrize("split", ["leave_one_out", "user_time"])
def test_which_of_a_users_interactions_of_one_time_are_held_out_is_drawn(tmp_path, split):
    rows = [(f"u{user}", f"i{item}", 1 + (item > 1)) for user in range(40) for item in range(6)]
    table = pd.DataFrame(rows, columns=["user", "item", "time"])
    table.to_csv(tmp_path / "raw.csv", index=False)
    table[::-1].to_csv(tmp_path / "reversed.csv", index=False)
    target, lines = prepared(tmp_path / "a", tmp_path / "raw.csv", split=split)
    assert any("of one time in two splits, drawn by the seed: 40" in line for line in lines)
    held_out = {label: {item for _, item, found in triples(target) if found == label} for label in (1, 2)}
    assert held_out == {label: {"i2", "i3", "i4", "i5"} for label in (1, 2)}
    again, _ = prepared(tmp_path / "b", tmp_path / "reversed.csv", split=split)
    other, _ = prepared(tmp_path / "c", tmp_path / "raw.csv", split=split, seed=1)
    assert triples(again) == triples(target) != triples(other)


def test_a_split_given_in_three_files(tmp_path):
    names = {"train": 0, "valid": 1, "test": 2}
    for split in names:
        RAW[RAW["split"] == split].drop(columns="split").to_csv(tmp_path / f"{split}.csv", index=False)
    target, _ = prepared(
        tmp_path, tmp_path / "train.csv", validation=tmp_path / "valid.csv", test=tmp_path / "test.csv"
    )
    rows = RAW[["user", "item", "split"]].replace({"split": names})
    assert triples(target) == set(rows.itertuples(index=False, name=None))


def test_a_given_split_without_validation_can_be_audited_and_not_trained_on(tmp_path):
    parts = RAW.assign(split=RAW["split"].replace("valid", "train"))
    parts.to_csv(tmp_path / "all.csv", index=False)
    for split in ("train", "test"):
        parts[parts["split"] == split].drop(columns="split").to_csv(tmp_path / f"{split}.csv", index=False)
    of_column, _ = prepared(tmp_path / "column", tmp_path / "all.csv")
    of_files, _ = prepared(tmp_path / "files", tmp_path / "train.csv", test=tmp_path / "test.csv")
    assert triples(of_files) == triples(of_column) and {label for *_, label in triples(of_files)} == {0, 2}
    dataset = read_dataset(of_files.parent, "set")
    assert len(dataset.validation) == 0 < len(dataset.test)
    with pytest.raises(DataError, match="dataset set has no validation interactions"):
        make_problem(RunConfig(backbone="mfbpr", training_strategy=False), dataset)


def test_leaving_one_out_without_times_says_that_it_draws(tmp_path):
    RAW.rename(columns={"time": "created"}).to_csv(tmp_path / "raw.csv", index=False)
    with pytest.warns(UserWarning, match="no column of times found among .*created.*: name the column with --time"):
        prepared(tmp_path, tmp_path / "raw.csv", split="leave_one_out")


def folder_bytes(target):
    return {path.name: path.read_bytes() for path in target.iterdir()}


def test_equal_input_gives_equal_bytes_and_lines_in_another_order_an_equal_dataset(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"user": rng.integers(0, 40, 900), "item": rng.integers(0, 30, 900)}).drop_duplicates()
    table.to_csv(tmp_path / "raw.csv", index=False)
    table.sample(frac=1, random_state=1).to_csv(tmp_path / "shuffled.csv", index=False)
    choices = {"split": "random", "k_core": 3}
    first, second, other, shuffled = (
        prepared(tmp_path / str(number), tmp_path / name, **choices, seed=seed)[0]
        for number, (name, seed) in enumerate([("raw.csv", 0), ("raw.csv", 0), ("raw.csv", 1), ("shuffled.csv", 0)])
    )
    assert folder_bytes(first) == folder_bytes(second)
    assert (first / "set.inter").read_bytes() != (other / "set.inter").read_bytes()
    inter, mapping = (first / name for name in ("set.inter", "u_id_mapping.csv"))
    assert (shuffled / "set.inter").read_bytes() == inter.read_bytes()
    # Whole numbers keep their order as numbers.
    assert mapping.read_text().splitlines()[1:] == [f"{user}\t{user}" for user in range(40)]


def test_an_existing_folder_is_never_touched_and_a_failure_leaves_nothing(tmp_path):
    RAW.to_csv(tmp_path / "raw.csv", index=False)
    target, _ = prepared(tmp_path, tmp_path / "raw.csv")
    before = folder_bytes(target)
    with pytest.raises(FileExistsError, match="choose another name"):
        prepared(tmp_path, tmp_path / "raw.csv", k_core=2)
    assert folder_bytes(target) == before
    (tmp_path / "ids.txt").write_text("\n".join(ITEMS))
    files = {"features": {"bad": tmp_path / "bad.npy"}, "feature_ids": {"bad": tmp_path / "ids.txt"}}
    for value, why in (
        (np.nan, "NaN"),
        (1e300, "NaN or infinite"),
        (1e-42, "so small that float32 takes them for zero"),
    ):
        np.save(tmp_path / "bad.npy", np.full((3, 2), value))
        with pytest.raises(DataError, match=rf"bad\.npy, row 0: the features of item 'milk' are {why}"):
            prepared(tmp_path, tmp_path / "raw.csv", name="other", **files)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["set"]


# Features of tea, ale, milk and an item nobody has, in that order; rum has none.
FEATURES = {"tea": [1.0, 2.0], "ale": [2.0, 3.5], "milk": [3.0, 5.0], "gin": [9.0, 9.0]}
FEATURE_FILES = {
    "npy": lambda folder: (
        np.save(folder / "x.npy", np.array(list(FEATURES.values()))),
        (folder / "x.ids.txt").write_text("\n".join(FEATURES) + "\n"),
    ),
    "npy ids": lambda folder: (
        np.save(folder / "x.npy", np.array(list(FEATURES.values()))),
        np.save(folder / "x.ids.npy", np.array(list(FEATURES))),
    ),
    "csv": lambda folder: (
        pd.DataFrame(FEATURES.values(), FEATURES, ["a", "b"]).rename_axis("item_id").to_csv(folder / "x.csv")
    ),
    "parquet": lambda folder: pd.DataFrame({"asin": FEATURES.keys(), "vector": FEATURES.values()}).to_parquet(
        folder / "x.parquet"
    ),
    "fixed lists": lambda folder: pq.write_table(
        pa.table({"item": list(FEATURES), "x": pa.array(FEATURES.values(), pa.list_(pa.float32(), 2))}),
        folder / "x.parquet",
    ),
    "json lists": lambda folder: (folder / "x.jsonl").write_text(
        "".join(json.dumps({"item": item, "vector": vector}) + "\n" for item, vector in FEATURES.items())
    ),
    "recbole": lambda folder: (folder / "x.item").write_text(
        "item_id:token\timg:float_seq\n" + "".join(f"{item}\t{a} {b}\n" for item, (a, b) in FEATURES.items())
    ),
}


@pytest.mark.parametrize("kind", FEATURE_FILES)
@pytest.mark.parametrize(("missing", "rum"), [("zeros", [0, 0]), ("mean", [2, 3.5]), ("drop", None)])
def test_features_in_any_order_and_items_without_them(tmp_path, kind, missing, rum):
    ale = pd.DataFrame({"user": USERS, "item": "ale"})
    pd.concat([RAW, ale]).to_csv(tmp_path / "raw.csv", index=False)
    FEATURE_FILES[kind](tmp_path)
    (file,) = [path for path in tmp_path.glob("x.*") if "ids" not in path.name]
    ids = dict.fromkeys(["image"][: "npy" in kind], next(tmp_path.glob("x.ids.*"), None))
    target, lines = prepared(
        tmp_path, tmp_path / "raw.csv", split="random", features={"image": file}, feature_ids=ids,
        missing_features=missing,
    )  # fmt: skip
    image = read_dataset(target.parent, "set").features["image"]
    expected = [[2, 3.5], [3, 5], *([rum] if rum else []), [1, 2]]
    np.testing.assert_array_equal(image, expected)
    count = 0 if missing == "drop" else 1
    assert f"image: 2 dim, {count} items without, 1 rows unused" in lines
    assert any("items without features dropped" in line for line in lines) == (missing == "drop")


def test_items_that_nobody_interacted_with_are_kept_in_the_order_of_all(tmp_path):
    ale = pd.DataFrame({"user": USERS, "item": "ale"})
    pd.concat([RAW, ale]).to_csv(tmp_path / "raw.csv", index=False)
    FEATURE_FILES["csv"](tmp_path)
    choices = {"features": {"image": tmp_path / "x.csv"}, "missing_features": "zeros", "split": "random"}
    without, _ = prepared(tmp_path / "a", tmp_path / "raw.csv", **choices)
    target, lines = prepared(tmp_path / "b", tmp_path / "raw.csv", **choices, all_items=True)
    assert "items without interactions kept: 1" in lines
    dataset = read_dataset(target.parent, "set")
    np.testing.assert_array_equal(dataset.features["image"], [[2, 3.5], [9, 9], [3, 5], [0, 0], [1, 2]])
    assert read_id_mapping(target, "itemID", 5).tolist() == ["ale", "gin", "milk", "rum", "tea"]
    assert triples(target) == triples(without)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_the_index_that_pandas_writes_is_no_feature_and_tables_of_items_have_names_of_their_own(tmp_path, name):
    RAW.rename(columns={"item": "sku"}).to_csv(tmp_path / "raw.csv", index=False)
    table = pd.DataFrame({"item_id": list(FEATURES), "a": 1.0, "b": [x[1] for x in FEATURES.values()]}, range(5, 9))
    table.to_csv(tmp_path / name) if name == "x.csv" else table.iloc[[2, 0, 1, 3]].to_parquet(tmp_path / name)
    choices = {"features": {"image": tmp_path / name}, "missing_features": "zeros"}
    with pytest.warns(UserWarning, match=r"x.* is left out, which pandas writes for the index"):
        _, lines = prepared(tmp_path, tmp_path / "raw.csv", item_column="sku", **choices)
    assert any(line.startswith("image: 2 dim") for line in lines)


BAD_ROWS = [
    ("user,item\nann,tea\nann\n", {}, r"bad.csv, line 3: 1 fields, and there must be 2"),
    ('user,item\n\n"a\nb",tea\nann,tea,rum\n', {}, r"line 5: 3 fields"),
    ("user,item\nann,tea\n ,rum\n", {}, r"line 3: user is empty"),
    ('user,item,note\nann,tea,a 5"" cup\nann,rum,"open\nbob,tea,\n', {}, r"line 3: a quote is opened .* \(unexpected"),
    ('user,item,note\nann,tea,so "so"\nann,rum,"Heroes\nbob,tea,"Low" rider\n', {}, r"line 3: a quote is opened and"),
    (b"user,item\nann,t\xff\n", {}, r"line 2: not UTF-8"),
    ("user,item,rating\nann,tea,5\n\nann,rum,good\n", {"min_rating": 1}, r"line 4: rating 'good' is no finite number"),
    ("user,item,rating\nann,tea,\n", {"min_rating": 1}, r"line 2: rating .* is no finite number"),
    ("user,item,time\nann,tea,2020-01-01\nann,rum,soon\n", {"split": "time"}, r"line 3: time 'soon' is no time"),
    ("user,item,split\nann,tea,train\nann,rum,later\n", {"split": "given"}, r"line 3: split 'later' names no split"),
    ("user,item,split\nann,tea,train\nann,tea,test\n", {"split": "given"}, r"'ann' and item 'tea' are in two splits"),
    ("user,item\nann,tea\n", {"split": "time"}, r"no column of times found among user, item; name it with --time"),
    ("A1,B1\nA1,B2\n", {}, r"no column of users found among A1, B1; name it with --user_column, or give a file"),
    ("user,item,item\nann,tea,rum\n", {}, r"names 'item' twice"),
    ("user,item\n", {}, r"no interactions"),
    ("", {}, r"the file is empty"),
    ("user,item\nann,tea\nbob,rum\n", {}, r"the validation split is empty"),
    ("user,item\nann,tea\nbob,rum\n", {"k_core": 2}, r"no interaction is left after the step '2-core'"),
    ("user,item\nann,tea\n", {"user_column": "who"}, r"no column 'who'; it has user, item"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "choices", "message"), BAD_ROWS)
def test_what_cannot_be_read_is_named_by_line(tmp_path, text, choices, message):
    (tmp_path / "bad.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, tmp_path / "bad.csv", **{"split": "random", **choices})
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", b'{"user": 1, "item": 2}\n\n{"user": 1, \n', "line 3: not JSON"),
        ("bad.jsonl", b'{"user": 1, "item": 2}\n[1]\n', "line 2: .* is no object"),
        ("bad.csv.gz", b"nothing compressed", "bad.csv.gz"),
        ("bad.parquet", b"PAR1 no", "not a readable parquet file"),
        ("cut.csv.gz", gzip.compress(b"user,item\n" + b"ann,tea\n" * 9, mtime=0)[:-9], "cut.csv.gz"),
    ],
)
def test_broken_files_of_other_formats(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, tmp_path / name, split="random")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"name": "a/b"}, "no name of a folder"),
        ({"k_core": -1}, "k_core must lie"),
        ({"ratios": (8, 0, 1)}, "ratios must be three"),
        ({"seed": -1}, "seed must lie"),
        ({"min_rating": float("nan")}, "min_rating must be a finite"),
        ({"split": "half"}, "split must be one of random"),
        ({"validation": "v.csv"}, "give both"),
        ({"feature_ids": {"image": "x"}}, "feature_ids names image"),
        ({"text": "t.csv"}, "go together"),
        ({"all_items": True}, "give features or text"),
        ({"features": {"text": "t.npy"}, "text": "t.csv", "text_columns": ("a",)}, "each once"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choices, message):
    with pytest.raises(ConfigError, match=message):
        PrepareConfig(**{"interactions": "raw.csv", "name": "set", **choices})


BAD_FEATURES = [
    ("x.npy", np.zeros((2, 2)), "tea\nmilk\nrum\n", "3 ids, but .* has 2 rows"),
    ("x.npy", np.zeros((2, 2)), "tea\ntea\n", "row 1: item 'tea' is there twice"),
    ("x.npy", np.zeros((2, 2)), None, "needs the file of its rows' item ids, --feature_ids=image=FILE"),
    ("x.csv", "item,a\ntea,1\nrum,much\n", None, "line 3: a 'much' is no finite number"),
    ("x.csv", "item,a\ntea,1\nrum,2\n", None, "1 of 3 items have none, 'milk' the first; say with --missing_features"),
    ("x.csv", "item,a\nT,1\n", None, "none of the 3 items"),
    ("x.csv", "item\ntea\n", None, "no columns beside item"),
    ("x.csv", "item,a\ntea,1 2\nrum,3 4\nmilk,5 6 7\n", None, "line 4: a has 3 numbers, and other items have 2"),
    ("x.jsonl", '{"item": "tea", "a": [1, 2]}\n{"item": "rum", "a": []}\n', None, "line 2: a has"),
    ("x.pkl", "", None, "no table; save CSV"),
    ("x.npy", np.zeros((2, 2)), np.array(["tea", "rum"], object), "save it as text"),
]


@pytest.mark.parametrize(("name", "content", "ids", "message"), BAD_FEATURES)
def test_features_that_do_not_fit_are_refused(tmp_path, name, content, ids, message):
    RAW.to_csv(tmp_path / "raw.csv", index=False)
    np.save(tmp_path / name, content) if name == "x.npy" else (tmp_path / name).write_text(content)
    feature_ids = {}
    if isinstance(ids, np.ndarray):
        np.save(tmp_path / "ids.npy", ids)
        feature_ids = {"image": tmp_path / "ids.npy"}
    elif ids is not None:
        (tmp_path / "ids.txt").write_text(ids)
        feature_ids = {"image": tmp_path / "ids.txt"}
    with pytest.raises((ConfigError, DataError), match=message):
        prepared(tmp_path, tmp_path / "raw.csv", features={"image": tmp_path / name}, feature_ids=feature_ids)


def write_items(folder):
    words = {"milk": "cold white drink", "rum": "", "tea": "hot brown drink", "gin": "unseen spirit"}
    table = pd.DataFrame({"item": words.keys(), "title": words.keys(), "about": words.values()})
    table.to_csv(folder / "items.csv", index=False)
    return {"text": folder / "items.csv", "text_columns": ("about",)}


def test_text_becomes_a_modality_and_items_without_words_have_no_content(tmp_path):
    pytest.importorskip("sklearn")
    RAW.to_csv(tmp_path / "raw.csv", index=False)
    choices = write_items(tmp_path) | {"missing_features": "zeros", "text_dim": 2}
    target, _ = prepared(tmp_path, tmp_path / "raw.csv", **choices)
    text = read_dataset(target.parent, "set").features["text"]
    assert text.shape == (3, 2) and not text[1].any()
    unit = text / np.linalg.norm(text, axis=1, keepdims=True).clip(1e-9)
    assert 0.05 < unit[0] @ unit[2] < 0.9  # they share one word of three
    again, _ = prepared(tmp_path / "again", tmp_path / "raw.csv", **choices)
    assert folder_bytes(again) == folder_bytes(target)


def test_lists_of_words_are_text_and_other_columns_are_refused_by_name(tmp_path):
    pytest.importorskip("sklearn")
    RAW.to_csv(tmp_path / "raw.csv", index=False)
    about = [["good", "tea"], None, ["good", None, "rum"]]
    table = pd.DataFrame({"item": ["tea", "milk", "rum"], "about": about, "size": [{"a": 1}] * 3})
    table.to_parquet(tmp_path / "x.parquet")
    choices = {"text": tmp_path / "x.parquet", "missing_features": "zeros", "text_dim": 2}
    target, _ = prepared(tmp_path, tmp_path / "raw.csv", text_columns=("about",), **choices)
    assert read_dataset(target.parent, "set").features["text"].any(axis=1).tolist() == [False, True, True]
    with pytest.raises(DataError, match="x.parquet: column size is of type struct"):
        prepared(tmp_path / "again", tmp_path / "raw.csv", text_columns=("size",), **choices)


def test_text_without_scikit_learn_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"isolator-jax\[text\]"):
        prepared(tmp_path, tmp_path / "raw.csv", **write_items(tmp_path))
