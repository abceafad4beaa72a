"""Tables in memory become the dataset that `prepare` makes of files; what is malformed is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isolator_jax.data import read_dataset
from isolator_jax.data.frames import ids_of
from isolator_jax.data.identified import held_out_of, identify, keep_identified, known, read_kinds, write_identified
from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.data.prepare import PrepareConfig, prepare_dataset

RNG = np.random.default_rng(0)
USERS = np.repeat(np.arange(12), 5)
ITEMS = np.concatenate([RNG.permutation(9)[:5] for _ in range(12)])
ITEMS[:9] = [0, 1, 2, 3, 4, 5, 6, 7, 8]  # each item is there
IMAGES, TEXTS = RNG.normal(size=(9, 3)).astype(np.float32), RNG.normal(size=(9, 2)).astype(np.float32)
NAMES = np.array([f"tea-{item}" for item in range(9)])
SPLITS = ("train", "validation", "test")


def made(interactions=(USERS, ITEMS), features=None, **options):
    features = {"image": IMAGES, "text": TEXTS} if features is None else features
    return identify("own", interactions, features, **{"seed": 3, **options})


def test_a_table_in_memory_is_split_and_numbered_as_prepare_does_it_with_a_file(tmp_path):
    table = pd.DataFrame({"user_id": [f"u{user}" for user in USERS], "asin": NAMES[ITEMS], "stars": 5})
    table = table.sample(frac=1, random_state=0)
    table.to_csv(tmp_path / "raw.csv", index=False)
    images = pd.DataFrame(IMAGES, index=NAMES).sample(frac=1, random_state=1)
    images.rename_axis("item").reset_index().to_csv(tmp_path / "image.csv", index=False)
    config = PrepareConfig(tmp_path / "raw.csv", "own", seed=3, features={"image": tmp_path / "image.csv"})
    prepared = read_dataset(prepare_dataset(config, tmp_path / "data").parent, "own")
    identified = made(table, {"image": images})
    assert identified.dataset.fingerprint() == prepared.fingerprint()
    assert identified.item_ids.tolist() == sorted(NAMES) and identified.user_ids[2] == "u10"


FORMS = {
    "array": (np.stack([USERS, ITEMS], axis=1), {}),
    "list": (list(zip(USERS.tolist(), ITEMS.tolist(), strict=True)), {}),
    "floats": ((USERS.astype(float), ITEMS), {}),
    "table": (pd.DataFrame({"itemID": ITEMS, "userID": USERS}), {}),
    "nullable": (pd.DataFrame({"item": ITEMS, "user": USERS}, dtype="Int64"), {}),
    "item_ids": ((USERS, ITEMS), {"item_ids": np.arange(9)}),
    "indexed": ((USERS, ITEMS), {"features": {"image": pd.DataFrame(IMAGES)[::-1], "text": TEXTS}}),
    "counted": (
        (USERS, ITEMS),
        {
            "features": {"image": pd.DataFrame(IMAGES[::-1].copy()), "text": TEXTS[::-1]},
            "item_ids": np.arange(9)[::-1],
        },
    ),
    "vectors": (
        (USERS, ITEMS),
        {"features": {"image": pd.Series(list(IMAGES)[::-1], np.arange(9)[::-1]), "text": TEXTS}},
    ),
    "column": (
        (USERS, ITEMS),
        {"features": {"image": pd.DataFrame(IMAGES).assign(item=range(9))[::-1], "text": TEXTS.astype(np.float64)}},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_data_in_every_form_is_one_dataset_and_dense_ids_stay(form):
    value, options = FORMS[form]
    identified = made(value, **options)
    assert identified.dataset.fingerprint() == made().dataset.fingerprint()
    np.testing.assert_array_equal(identified.user_ids, np.arange(12))
    np.testing.assert_array_equal(identified.item_ids, np.arange(9))
    assert identified.item_ids.dtype == np.int64


def test_given_splits_are_taken_as_they_are_and_the_others_held_out():
    pairs = np.unique(np.stack([USERS, ITEMS], axis=1), axis=0)
    test = pairs[::5]
    rest = np.array([pair for pair in pairs.tolist() if pair not in test.tolist()])
    both = made(np.delete(rest, np.s_[::4], axis=0), validation=rest[::4], test=test).dataset
    assert both.counts() == {"users": 12, "items": 9, "train": 36, "validation": 12, "test": 12}
    half = made(rest, test=test).dataset
    assert (
        len(half.test) == len(test) and len(half.validation) > 0 and len(half.train) + len(half.validation) == len(rest)
    )


def test_a_tenth_is_held_out_for_test_beside_given_validation_pairs():
    users, items = np.repeat(np.arange(12), 19), np.tile(np.arange(19), 12)
    dataset = identify("own", (users, items), {}, validation=(np.arange(12), np.full(12, 19)), seed=0).dataset
    assert dataset.counts() == {"users": 12, "items": 20, "train": 12 * 18, "validation": 12, "test": 12}


def test_items_with_features_alone_are_in_the_catalogue_and_those_of_some_modalities_are_not():
    more = {"image": np.vstack([IMAGES, IMAGES[:2]]), "text": np.vstack([TEXTS, TEXTS[:1]])}
    assert made(features=more).dataset.num_items == 10
    assert made(features={}).dataset.num_items == 9


def test_what_is_written_is_what_was_made(tmp_path):
    strange = np.array(["a\tb", 'say "x"', "NA", "é", "=1", "007", "7", "a\rb,c", "None"])
    identified = made((USERS, strange[ITEMS]), {"text": pd.DataFrame(TEXTS, index=strange)})
    write_identified(tmp_path / "own", identified)
    assert read_dataset(tmp_path, "own").fingerprint() == identified.dataset.fingerprint()
    assert read_id_mapping(tmp_path / "own", "itemID", 9).tolist() == sorted(strange)


def test_what_is_kept_is_written_where_it_is_another_and_left_where_it_is_the_same(tmp_path):
    target, before = tmp_path / "own", []
    for ids in (NAMES, NAMES, NAMES[::-1]):
        keep_identified(target, made((USERS, ids[ITEMS]), {"text": pd.DataFrame(TEXTS, index=ids)}))
        before.append((target.stat().st_ino, read_dataset(tmp_path, "own").fingerprint()))
        assert read_id_mapping(target, "itemID", 9).tolist() == sorted(ids) and list(tmp_path.iterdir()) == [target]
    assert before[0] == before[1] and len({inode for inode, _ in before}) == len({found for _, found in before}) == 2


def test_interrupted_between_its_renames_what_was_kept_stays(tmp_path, monkeypatch):
    target, rename = tmp_path / "own", Path.rename
    keep_identified(target, made())
    before = read_dataset(tmp_path, "own").fingerprint()

    def interrupted(path, to):
        if path.name == to.name == "own":  # the second: the new folder into place
            raise KeyboardInterrupt
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep_identified(target, made(features={"text": TEXTS}))
    assert read_dataset(tmp_path, "own").fingerprint() == before and list(tmp_path.iterdir()) == [target]


def test_ids_of_the_catalogue_that_are_no_whole_numbers_stay_text():
    names = [*map(str, range(9)), "05"]
    table = pd.DataFrame(np.vstack([IMAGES, IMAGES[:1]]), index=names)
    identified = made(features={"image": table})
    assert sorted(identified.item_ids.tolist()) == sorted(names)
    with pytest.warns(UserWarning, match="'Unnamed: 0' is left out"):
        indexed = made(features={"image": table[:9].assign(item=names[:9]).rename(columns={0: "Unnamed: 0"})})
    assert indexed.dataset.features["image"].shape[1] == IMAGES.shape[1] - 1


@pytest.mark.parametrize(("shift", "kind"), [(-3, "int64"), (2**63 - 4, "uint64"), (2**64, "object")])
def test_whole_numbers_of_any_size_stay_apart_and_in_order(tmp_path, shift, kind):
    users = [int(user) + shift for user in USERS]
    users = list(map(str, users)) if kind == "object" else users
    identified = made((users, ITEMS))
    assert identified.user_ids.dtype.name == kind
    assert list(map(int, identified.user_ids)) == [user + shift for user in range(12)]
    write_identified(tmp_path / "own", identified)
    assert read_kinds(tmp_path / "own")["userID"] == kind
    last = users[-1:]
    assert known("users", ids_of("users", last), "userID", identified.user_ids).tolist() == [11]


def test_what_is_there_twice_counts_once_and_is_said():
    with pytest.warns(UserWarning, match="interactions: dropped 60 pairs"):
        twice = made((np.tile(USERS, 2), np.tile(ITEMS, 2)))
    assert twice.dataset.fingerprint() == made().dataset.fingerprint()


def test_the_rows_of_one_split_are_taken_and_ratings_of_zero_are_said():
    table = pd.DataFrame({"user": USERS, "item": ITEMS, "rating": np.arange(60) % 4, "x_label": 0})
    with pytest.warns(UserWarning, match="interactions: rating is 0, less or missing on 15 of 60 rows"):
        assert made(table).dataset.fingerprint() == made().dataset.fingerprint()
    twice = pd.concat([table.drop(columns="x_label"), pd.Series(np.ones(60), name="rating")], axis=1)
    with pytest.warns(UserWarning, match="interactions: rating is 0, less or missing on 15 of 60 rows"):
        made(twice)


SEEN = (USERS[:1], ITEMS[:1])
BAD = {
    "no column of users found among a, b": {"interactions": pd.DataFrame({"a": USERS, "b": ITEMS})},
    "its column x_label names several splits; give each by itself": {
        "interactions": pd.DataFrame({"user": USERS, "item": ITEMS, "x_label": np.arange(60) % 3})
    },
    "names 'user' twice": {"interactions": pd.DataFrame([[0, 1, 2]], columns=["user", "user", "item"])},
    r"interactions must be a DataFrame .* shape \[60\]": {"interactions": USERS},
    "60 users and 59 items": {"interactions": (USERS, ITEMS[1:])},
    "interactions: has no pairs": {"interactions": ([], [])},
    r"interactions, users, row 1: .*1.5 is no id": {"interactions": ([1, 1.5], [0, 1])},
    "interactions, users, row 1: the id is missing": {"interactions": (["ann", None], [0, 1])},
    "interactions, items, row 1: the id is missing": {"interactions": ([0, 1], ["x", np.nan])},
    "Python int too large": {"interactions": ([10**25], [0])},
    "interactions, items, row 0: the id is missing": {"interactions": (["ann", "bob"], [" ", "x"])},
    "interactions, users: ids 'ann' differ by blanks around": {"interactions": (["ann", "bob", "ann "], [0, 1, 2])},
    "interactions, users: ids must be one column": {"interactions": (pd.Series([1, "ann"], dtype=object), [0, 1])},
    "ids are text or whole numbers": {"interactions": ([True, False], [0, 1])},
    r"row 2: item '2' has no row in features\['image'\], and 6 others": {"features": {"image": IMAGES[:2]}},
    "shape .9, 3. for 8 item_ids": {"item_ids": NAMES[:8]},
    "item_ids: no features have rows that take it": {
        "features": {"image": pd.DataFrame(IMAGES).sample(frac=1, random_state=0)}, "item_ids": np.arange(9)
    },
    "item 'tea-0' is there twice": {"item_ids": np.append(NAMES[:8], "tea-0")},
    r"features\['image'\] must hold numbers, got text": {"features": {"image": pd.DataFrame({"words": NAMES})}},
    r"features\['image'\] must be finite": {"features": {"image": np.where(IMAGES > 1, np.nan, IMAGES)}},
    r"features\['image'\] must be scaled up: row 0": {"features": {"image": np.float64(IMAGES) * 1e-50}},
    r"features\['image'\] must have shape": {"features": {"image": IMAGES[:, 0]}},
    "a modality needs a name": {"features": {"../x": IMAGES}},
    "features must be of type Mapping": {"features": [IMAGES]},
    "more than one of interactions and test": {"test": SEEN},
    "validation: no user has validation items": {"interactions": (np.arange(9), np.arange(9))},
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_tables_are_refused_in_one_line_that_names_them(message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        made(**BAD[message])
    assert "\n" not in str(error.value)


def test_held_out_pairs_of_others_and_of_training_are_refused():
    identified = made()
    train, test = identified.dataset.train, identified.dataset.test
    same = held_out_of("test", (test.users, test.items), identified)
    np.testing.assert_array_equal(same.items, test.items)
    for pairs, message in (
        ((["77", "78"], [0, 0]), "test, users: 2 unknown, '77' the first; the model knows 12"),
        (([0], [99]), "test, items: 1 unknown"),
        ((train.users, train.items), "interactions and test"),
    ):
        with pytest.raises(ValueError, match=message):
            held_out_of("test", pairs, identified)
