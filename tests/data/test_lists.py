"""Lists of other systems: formats, ids, order, and what is refused with its line."""

import numpy as np
import pandas as pd
import pytest

from isolator_jax.data.lists import NO_ITEM, IdIndex, read_lists, write_trec_run
from isolator_jax.errors import DataError

USER_IDS, ITEM_IDS = np.array(["ann", "bob", "eve"], object), np.array(["i9", "i8", "i7", "i6"], object)
USERS, ITEMS = IdIndex.of("userID", 3, USER_IDS), IdIndex.of("itemID", 4, ITEM_IDS)
NUMBERED = IdIndex.of("itemID", 4, None)
# ann: items 2, 0, 3; eve: item 1.
LISTS = pd.DataFrame(
    [("eve", "i8", 1, 0.5), ("ann", "i6", 3, 0.1), ("ann", "i7", 1, 0.9), ("ann", "i9", 2, 0.2)],
    columns=["user", "item", "rank", "score"],
)
EXPECTED = [[2, 0, 3], [1, NO_ITEM, NO_ITEM]]


def dense(table):
    numbers = {str(x): place for ids in (USER_IDS, ITEM_IDS) for place, x in enumerate(ids)}
    return table.assign(user=table["user"].map(numbers), item=table["item"].map(numbers))


def write_trec(path, table=LISTS):
    path.write_text("".join(f"{r.user} Q0 {r.item} {r.rank} {r.score} mine\n" for r in table.itertuples(index=False)))


FORMATS = {
    "ranks.csv": lambda path: LISTS.drop(columns="score").to_csv(path, index=False),
    "scores.tsv": lambda path: LISTS.drop(columns="rank").to_csv(path, index=False, sep="\t"),
    # The rank is the order where both are there.
    "both.parquet": lambda path: LISTS.assign(score=0.0).to_parquet(path),
    "zero.csv.gz": lambda path: LISTS.assign(rank=LISTS["rank"] - 1).to_csv(path, index=False),
    "names.csv": lambda path: LISTS.set_axis(["user_id:token", "item_id", "position", "score"], axis=1).to_csv(path),
    "dense.csv": lambda path: dense(LISTS).to_csv(path, index=False),
    "dense.parquet": lambda path: dense(LISTS).drop(columns="rank").to_parquet(path),
    "mine.run": write_trec,
    "mine.txt": write_trec,
}


@pytest.mark.parametrize("name", FORMATS)
def test_lists_of_any_format(tmp_path, name):
    FORMATS[name](tmp_path / name)
    read = read_lists(tmp_path / name, USERS, ITEMS, k=3)
    assert read.users.tolist() == [0, 2]
    assert read.lists.tolist() == EXPECTED
    assert read.longest == 3
    assert read.ids == (("dense", "dense") if name.startswith("dense") else ("original", "original"))
    assert read_lists(tmp_path / name, USERS, ITEMS, k=1).lists.tolist() == [[2], [1]]


def test_equal_scores_stand_in_the_order_of_the_items(tmp_path):
    (tmp_path / "x.csv").write_text("user,item,score\nann,i6,1\nann,i9,1\nann,i7,1\n")
    assert read_lists(tmp_path / "x.csv", USERS, ITEMS, k=4).lists.tolist() == [[0, 2, 3, NO_ITEM]]


def test_ids_that_fit_both_ways_are_original_unless_told(tmp_path):
    both = IdIndex.of("itemID", 3, np.array(["2", "1", "7"], object))
    (tmp_path / "x.csv").write_text("user,item,rank\nann,2,1\nann,1,2\n")
    assert read_lists(tmp_path / "x.csv", USERS, both, k=2).lists.tolist() == [[0, 1]]
    (tmp_path / "x.csv").write_text("user,item,rank\n0,2,1\n0,1,2\n")
    assert read_lists(tmp_path / "x.csv", USERS, both, k=2, kind="dense").lists.tolist() == [[2, 1]]


def test_ids_of_users_and_items_are_of_one_kind(tmp_path):
    """Original ids from 1 on, and dense lists without item 0: the users say which."""
    users, items = (IdIndex.of(name, 3, np.array(["1", "2", "3"], object)) for name in ("userID", "itemID"))
    (tmp_path / "x.csv").write_text("user,item,rank\n0,2,1\n0,1,2\n2,1,1\n")
    read = read_lists(tmp_path / "x.csv", users, items, k=2)
    assert read.ids == ("dense", "dense") and read.lists.tolist() == [[2, 1], [1, NO_ITEM]]
    (tmp_path / "x.csv").write_text("user,item,rank\n1,2,1\n1,1,2\n2,1,1\n")
    with pytest.raises(DataError, match="say which with --ids=original or --ids=dense"):
        read_lists(tmp_path / "x.csv", users, items, k=2)
    assert read_lists(tmp_path / "x.csv", users, items, k=2, kind="original").lists.tolist() == [[1, 0], [0, NO_ITEM]]


def test_a_run_is_read_as_trec_eval_reads_it(tmp_path):
    """By score, whatever the ranks say, the fields apart by any blanks, the second of any text."""
    lines = ["ann 0  i9 0 0.2 x", "ann\tQ0 i7  0\t0.9 x", "", "  eve iter i8 0 0.5 x", "ann Q0 i6 0 1e-1 x"]
    (tmp_path / "x.run").write_text("\n".join(lines))
    read = read_lists(tmp_path / "x.run", USERS, ITEMS, k=3)
    assert (read.users.tolist(), read.lists.tolist()) == ([0, 2], EXPECTED)


def test_a_trec_run_is_read_back(tmp_path):
    users, lists = np.array([0, 2]), np.array(EXPECTED)
    write_trec_run(tmp_path / "x.run", users, lists, USER_IDS, ITEM_IDS, "mine")
    assert (tmp_path / "x.run").read_text().splitlines()[0] == "ann Q0 i7 1 3 mine"
    read = read_lists(tmp_path / "x.run", USERS, ITEMS, k=3)
    assert (read.users.tolist(), read.lists.tolist()) == ([0, 2], EXPECTED)
    with pytest.raises(DataError, match="the id 'a b' has blanks"):
        write_trec_run(tmp_path / "y.run", users, lists, np.array(["a b", "", ""], object), ITEM_IDS, "mine")


@pytest.mark.parametrize(
    ("text", "items", "message"),
    [
        (
            "user,strategy,rank,item\nann,u,1,i9\n",
            ITEMS,
            "has a column strategy, as lists of several do",
        ),
        ("user,item\nann,i9\n", ITEMS, "columns user, item, and rank or score; it has user, item"),
        ("user,item,rank\nann,i9,1\nzoe,i8,1\n", ITEMS, r"line 3: 'zoe' is no userID of the dataset \(original ids"),
        ("user,item,rank\nann,i9,1\nann,i1,2\n", ITEMS, "line 3: 'i1' is no itemID"),
        (
            "user,item,rank\nann,0,1\nann,4,2\n",
            NUMBERED,
            r"line 3: '4' is no itemID of the dataset \(dense ids: 0 .. 3",
        ),
        ("user,item,rank\nann,i9,1\n\nann,i9,2\n", ITEMS, "line 4: the item is twice"),
        ("user,item,rank\nann,i9,1\nann,i8,1\n", ITEMS, "line 3: the rank 1 is twice"),
        ("user,item,score\nann,i9,nan\n", ITEMS, "line 2: score 'nan' is no finite number"),
        ("user,item,score\nann,,2\n", ITEMS, "line 2: item is empty"),
        ("user,item,score\n", ITEMS, "no lists"),
        ("ann Q0 i9 1 0.5 x\nann Q0 i8 2\n", ITEMS, "line 2: 4 fields, and a line of a run has 6"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path, text, items, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_lists(tmp_path / "x.csv", USERS, items, k=3)
