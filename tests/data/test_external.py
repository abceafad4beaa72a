"""Data of models trained elsewhere: every format says the same, and what does not fit is refused."""

import io
import pickle
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from isolator_jax.data import arrays
from isolator_jax.data.arrays import read_embeddings, read_scores
from isolator_jax.data.external import read_external
from isolator_jax.errors import DataError

PAIRS = [(0, 1), (0, 2), (2, 0), (1, 3)]
USERS, ITEMS = 3, 4


def write_pairs(path, pairs, names=("userID", "itemID")):
    table = pd.DataFrame(pairs, columns=list(names))
    match path.suffix:
        case ".inter":
            table.to_csv(path, sep="\t", index=False)
        case ".csv":
            table.to_csv(path, index=False)
        case ".parquet":
            table.to_parquet(path, index=False)
        case ".npz":
            users, items = table.to_numpy().T
            matrix = scipy.sparse.coo_array((np.full(users.size, 0.5), (users, items)), shape=(USERS, ITEMS))
            scipy.sparse.save_npz(path, matrix.tocsr())
    return path


@pytest.fixture
def features(tmp_path):
    paths = [tmp_path / "image_feat.npy", tmp_path / "text.npy"]
    for path in paths:
        np.save(path, np.ones((ITEMS, 2), np.float32))
    return paths


def read(features, users=USERS, items=ITEMS, **splits):
    return read_external(features, splits, users, items)


def pairs_of(split):
    return list(zip(split.users.tolist(), split.items.tolist(), strict=True))


@pytest.mark.parametrize("names", [("userID", "itemID"), ("user", "item")])
@pytest.mark.parametrize("suffix", [".inter", ".csv", ".parquet", ".npz"])
def test_every_format_gives_the_same_pairs(tmp_path, features, suffix, names):
    train = write_pairs(tmp_path / f"train{suffix}", PAIRS, names)
    test = write_pairs(tmp_path / f"test{suffix}", [(0, 0)], names)
    dataset = read(features, train=train, test=test)
    assert pairs_of(dataset.train) == sorted(PAIRS)
    assert pairs_of(dataset.test) == [(0, 0)] and len(dataset.validation) == 0
    assert list(dataset.features) == ["image", "text"]
    assert (dataset.num_users, dataset.num_items) == (USERS, ITEMS)


ORIGINAL = {"userID": np.array(["ann", "7", "0"], object), "itemID": np.array(["c", "b", "1", "0"], object)}


@pytest.mark.parametrize("suffix", [".inter", ".csv", ".parquet"])
def test_original_ids_are_those_of_columns_user_and_item(tmp_path, features, suffix):
    named = [(ORIGINAL["userID"][user], ORIGINAL["itemID"][item]) for user, item in PAIRS]
    for number, (pairs, names) in enumerate([(named, ("user", "item")), (PAIRS, ("userID", "itemID"))]):
        train = write_pairs(tmp_path / f"{number}{suffix}", pairs, names)
        dataset = read_external(features, {"train": train}, USERS, ITEMS, ORIGINAL)
        assert pairs_of(dataset.train) == sorted(PAIRS)
    # Of users alone there is a mapping: items are rows.
    half = write_pairs(tmp_path / f"half{suffix}", [("ann", "3")], ("user", "item"))
    users = {"userID": ORIGINAL["userID"]}
    assert pairs_of(read_external(features, {"train": half}, USERS, ITEMS, users).train) == [(0, 3)]
    blanks = write_pairs(tmp_path / f"blanks{suffix}", [(" ann ", "3")], ("user", "item"))
    assert pairs_of(read_external(features, {"train": blanks}, USERS, ITEMS, users).train) == [(0, 3)]
    unknown = write_pairs(tmp_path / f"unknown{suffix}", [("ann", "c"), ("bob", "c")], ("user", "item"))
    where = "row 1" if suffix == ".parquet" else "line 3"
    with pytest.raises(DataError, match=f"{where}: user 'bob' is not in the id mapping .* column userID"):
        read_external(features, {"train": unknown}, USERS, ITEMS, ORIGINAL)
    with pytest.raises(DataError, match=r"user 0 \('ann' of the mapping\) and item 3 are in both"):
        read_external(features, {"train": half, "test": half}, USERS, ITEMS, users)


@pytest.mark.parametrize("suffix", [".inter", ".csv", ".parquet"])
def test_a_table_with_labels_gives_all_splits(tmp_path, features, suffix):
    labelled = [(*pair, label) for pair, label in zip(PAIRS, (0, 1, 2, 0), strict=True)]
    path = write_pairs(tmp_path / f"all{suffix}", labelled, ("userID", "itemID", "x_label"))
    dataset = read(features, train=path)
    assert [pairs_of(dataset.split(name)) for name in ("train", "validation", "test")] == [
        [(0, 1), (1, 3)], [(0, 2)], [(2, 0)],
    ]  # fmt: skip
    other = write_pairs(tmp_path / "test.csv", [(0, 0)])
    with pytest.raises(DataError, match="x_label"):
        read(features, train=path, test=other)


def test_zeros_of_a_sparse_matrix_are_no_pairs(tmp_path, features):
    matrix = scipy.sparse.csr_array(np.eye(USERS, ITEMS))
    matrix.data[1] = 0
    scipy.sparse.save_npz(tmp_path / "train.npz", matrix)
    assert pairs_of(read(features, train=tmp_path / "train.npz").train) == [(0, 0), (2, 2)]


def test_repeated_pairs_count_once_with_a_warning(tmp_path, features):
    path = write_pairs(tmp_path / "train.csv", [*PAIRS, PAIRS[1]])
    with pytest.warns(UserWarning, match="dropped 1 duplicate lines, the first on line 6"):
        assert len(read(features, train=path).train) == len(PAIRS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item\n0,1\n0,x\n", "line 3: item 'x'"),
        ("user,item\n0,1\n-1,1\n", "line 3: user '-1'"),
        ("user,thing\n0,1\n", "no column itemID"),
        ("user,item\n0,1,2\n", "line 2: more fields"),
        ("user,item\n0,1\n0,1,2\n", "line 3"),
        ("", "empty"),
        # Names as they stand in the file, blanks and all; lines, not records.
        ("user, item\n0,1\n", "found: 'user', ' item'"),
        ('user,item,review\n0,1,"two\nlines"\n0,2,"\n\n"\n0,x,\n', "line 7: item 'x'"),
        ("user,item\n", "no training interactions"),
        ("user,item\n3,0\n", "user 3, but the model has 3 users"),
        ("user,item\n0,4\n", "item 4, but the model has 4 items"),
    ],
)
def test_malformed_tables_are_refused_with_the_place(tmp_path, features, text, message):
    path = tmp_path / "train.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read(features, train=path)
    assert "train.csv" in str(error.value)


@pytest.mark.parametrize("values", [[0.0, 1.5], ["0", "B00X"], [0, -2], [0, None]])
def test_parquet_ids_that_are_no_integers_are_refused_with_the_row(tmp_path, features, values):
    path = tmp_path / "train.parquet"
    pd.DataFrame({"user": [0, 0], "item": pd.Series(values)}).to_parquet(path)
    with pytest.raises(DataError, match=r"train\.parquet, row [01]: item "):
        read(features, train=path)


@pytest.mark.parametrize("names", [("user", "item"), ("userID", "itemID")])
def test_parquet_ids_that_are_whole_numbers_stored_as_floats_are_those_numbers(tmp_path, features, names):
    path = tmp_path / "train.parquet"
    pd.DataFrame(
        [(7.0, 1.0), (0.0, 0.0)] if names[0] == "user" else [(1.0, 2.0), (2.0, 3.0)], columns=names
    ).to_parquet(path)
    assert pairs_of(read_external(features, {"train": path}, USERS, ITEMS, ORIGINAL).train) == [(1, 2), (2, 3)]


def out_of_range():
    matrix = scipy.sparse.csr_array(np.eye(USERS, ITEMS))
    matrix.indices[1] = 1000
    return matrix


def test_files_that_are_not_what_their_name_says_are_refused(tmp_path, features):
    path = tmp_path / "train.npz"
    broken = io.BytesIO()
    np.savez(broken, data=np.array([print], object))
    contents = [b"", b"PK", pickle.dumps([1]), broken.getvalue()]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train\.npz: not a readable sparse matrix"):
            read(features, train=path)
    scipy.sparse.save_npz(path, out_of_range())
    with pytest.raises(DataError, match=r"train\.npz"):
        read(features, train=path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"train\.parquet: not a readable parquet file"):
        read(features, train=tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no such file"):
        read(features, train=tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"\.inter, \.csv, \.parquet, \.npz"):
        read(features, train=tmp_path / "train.txt")


def test_splits_and_features_that_do_not_fit_each_other_are_refused(tmp_path, features):
    train = write_pairs(tmp_path / "train.csv", PAIRS)
    with pytest.raises(DataError, match=r"train\.csv and .*test\.npz: user 0 and item 2"):
        read(features, train=train, test=write_pairs(tmp_path / "test.npz", [(0, 0), (0, 2)]))
    few = write_pairs(tmp_path / "few.csv", [(0, 1)])
    with pytest.raises(DataError, match=r"test\.csv: no user in it has training"):
        read(features, train=few, test=write_pairs(tmp_path / "test.csv", [(1, 1)]))
    with pytest.raises(DataError, match=r"train\.npz: .*shape"):
        read(features, users=5, train=write_pairs(tmp_path / "train.npz", PAIRS))
    np.save(features[1], np.ones((ITEMS + 1, 2)))
    with pytest.raises(DataError, match=r"text\.npy: 5 rows, but the model has 4 items"):
        read(features, train=train)
    with pytest.raises(DataError, match="named after"):
        read([features[0], features[0]], train=train)


@pytest.mark.parametrize("reader", [read_scores, lambda path: read_embeddings(path, path)[0]])
def test_matrices_are_refused_where_they_are_not_finite_floats(tmp_path, reader):
    path = tmp_path / "x.npy"
    good = np.arange(12, dtype=np.float64).reshape(3, 4)
    np.save(path, good)
    np.testing.assert_array_equal(reader(path), good)
    for value in (np.nan, np.inf, -1e39, 1e39):
        bad = good.copy()
        bad[2, 1] = value
        np.save(path, bad)
        with pytest.raises(DataError, match=r"x\.npy, row 2, column 1"):
            reader(path)
    for wrong in (good[0], good.astype(np.int64), np.array([[print]], object)):
        np.save(path, wrong)
        with pytest.raises(DataError, match=r"x\.npy"):
            reader(path)


def test_embeddings_without_finite_inner_products_are_refused(tmp_path):
    for name, array in {"a": np.ones((3, 4)), "b": np.ones((2, 5)), "c": np.full((2, 4), 1e30)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(DataError, match=r"a\.npy has 4 columns and .*b\.npy has 5"):
        read_embeddings(tmp_path / "a.npy", tmp_path / "b.npy")
    with pytest.raises(DataError, match="overflow float32"):
        read_embeddings(tmp_path / "c.npy", tmp_path / "c.npy")


def test_scores_stay_on_the_disk(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 4)))
    assert isinstance(read_scores(tmp_path / "x.npy"), np.memmap)


def rated(path, ratings, column="rating"):
    table = pd.DataFrame([(*pair, rating) for pair, rating in zip(PAIRS, ratings, strict=True)])
    table.columns = ["user", "item", column]
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("ratings", "column", "warned"),
    [
        ([5, 0, 3, 0], "rating", "rating is 0, less or missing on 2 of 4"),
        ([1.0, np.nan, -1.0, 2.0], "Score", "Score is 0, less or missing on 2 of 4"),
        ([5, 4, 3, 1], "rating", None),
        (["good", "bad", "", "bad"], "label", None),
        ([0, 0, 0, 0], "timestamp", None),
    ],
)
def test_ratings_that_say_no_interaction_are_warned_of(tmp_path, features, suffix, ratings, column, warned):
    path = rated(tmp_path / f"train{suffix}", ratings, column)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert pairs_of(read(features, train=path).train) == sorted(PAIRS)
    assert [warned in str(warning.message) for warning in caught] == ([] if warned is None else [True])


def test_entries_of_a_matrix_that_say_no_interaction_are_refused_or_warned_of(tmp_path, features):
    matrix = scipy.sparse.csr_array(np.eye(USERS, ITEMS))
    for value, outcome in (
        (np.nan, pytest.raises(DataError, match="user 1 and item 1 is nan")),
        (-1.0, pytest.warns(UserWarning, match="1 entries are below zero")),
    ):
        matrix.data[1] = value
        scipy.sparse.save_npz(tmp_path / "train.npz", matrix)
        with outcome:
            read(features, train=tmp_path / "train.npz")


def test_held_out_users_without_training_items_are_counted(tmp_path, features):
    train, test = (
        write_pairs(tmp_path / "train.csv", [(0, 1)]),
        write_pairs(tmp_path / "test.csv", [(0, 0), *PAIRS[2:]]),
    )
    with pytest.warns(UserWarning, match=r"test\.csv: 2 of 3 test users have no training .* their 2 test interactions"):
        dataset = read(features, train=train, test=test)
    assert dataset.without_training("test") == {"users": 2, "of": 3, "interactions": 2}
    assert dataset.without_training("validation") == {"users": 0, "of": 0, "interactions": 0}


def test_columns_that_pandas_kept_as_the_index_are_columns(tmp_path, features):
    table = pd.DataFrame(PAIRS, columns=["user", "item"])
    for index in ("item", ["user", "item"]):
        table.set_index(index).to_parquet(tmp_path / "train.parquet")
        assert pairs_of(read(features, train=tmp_path / "train.parquet").train) == sorted(PAIRS)
    table.rename(columns={"user": "who"}).set_index("who").to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no column userID.*found: 'item', 'who'"):
        read(features, train=tmp_path / "train.parquet")


def bomb(path):
    """A small file that says it holds many pairs."""
    if path.suffix == ".parquet":
        zeros = pa.array(np.zeros(400_000, np.int64))
        pq.write_table(pa.table({"user": zeros, "item": zeros}), path, compression="zstd")
    else:
        np.savez_compressed(path, format=np.array(b"coo"), shape=np.array([USERS, ITEMS]), data=np.zeros(10**6))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_what_unpacks_to_more_than_memory_is_refused_before_it_is_unpacked(tmp_path, features, suffix, monkeypatch):
    path = bomb(tmp_path / f"train{suffix}")
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(arrays, "host_bytes", lambda: 20_000_000)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("read"))
    monkeypatch.setattr(scipy.sparse, "load_npz", lambda *_: pytest.fail("read"))
    with pytest.raises(DataError, match=r"train\.\w+: unpacks to [0-9,]+ bytes"):
        read(features, train=path)


def test_a_matrix_larger_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.ones((100, 10), np.float32))
    monkeypatch.setattr(arrays, "host_bytes", lambda: 10_000)
    for reader in (lambda path: arrays.read_features(path, 1), lambda path: read_embeddings(path, path)):
        with pytest.raises(DataError, match=r"x\.npy: unpacks to 4,000 bytes"):
            reader(tmp_path / "x.npy")


def test_features_that_vanish_in_float32_are_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([[1.0, 0.0], [0.0, 0.0], [1e-40, 0.0], [1e-60, -1e-50]]))
    with pytest.raises(DataError, match="x.npy, row 2: .* scale the features up"):
        arrays.read_features(path, 4)
