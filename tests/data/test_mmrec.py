"""The reader: what it accepts, and how it refuses what is malformed."""

import io
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isolator_jax.data import read_dataset
from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.errors import DataError

HEADER = "userID\titemID\tx_label\n"
GOOD = HEADER + "0\t0\t0\n0\t1\t1\n1\t2\t2\n1\t0\t0\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def write(folder, content=GOOD, **features):
    (folder / "set.inter").write_bytes(content if isinstance(content, bytes) else content.encode())
    for modality, feature in features.items():
        np.save(folder / f"{modality}_feat.npy", feature)


def read(folder, modalities=None):
    return read_dataset(folder.parent, "set", modalities)


def pairs(split):
    return list(zip(split.users.tolist(), split.items.tolist(), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.rstrip("\n"),
        "x_label\trating\titemID\tuserID\n0\t4.5\t0\t0\n1\t\t1\t0\n2\t1\t2\t1\n0\tbad\t0\t1\n",
        GOOD.replace("x_label", 'x_label\t"note').replace("\n", '\t"\n').replace('note\t"\n', "note\n"),
        HEADER + " 0\t0 \t0\n00\t1\t1\n1\t2\t02\n1\t0\t0\n",
        HEADER + "".join(f"{line}\n" for line in reversed(GOOD.splitlines()[1:])),
    ],
)
def test_a_good_file_is_read_however_it_is_laid_out(folder, text):
    write(folder, text)
    dataset = read(folder)
    assert dataset.counts() == {"users": 2, "items": 3, "train": 2, "validation": 1, "test": 1}
    assert pairs(dataset.train) == [(0, 0), (1, 0)]
    assert pairs(dataset.validation) == [(0, 1)]
    assert pairs(dataset.test) == [(1, 2)]
    assert dataset.features == {}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_features_of_any_float_type_are_memory_mapped_in_the_order_asked_for(folder, dtype):
    write(folder, text=np.ones((4, 5), dtype), image=np.zeros((4, 2), dtype), audio=np.zeros((4, 3), dtype))
    assert list(read(folder).features) == ["audio", "image", "text"]
    dataset = read(folder, ["text", "image"])
    assert list(dataset.features) == ["text", "image"]
    assert all(isinstance(x, np.memmap) for x in dataset.features.values())
    assert dataset.num_items == 4  # item 3 has features and no interactions
    assert read(folder, []).num_items == 4 and read(folder, []).features == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (HEADER, "train split is empty"),
        ("userID\titemID\n0\t0\n", "line 1: no column x_label"),
        ("user,item,label\n0,0,0\n", "line 1: no column userID, itemID, x_label"),
        (GOOD + "1.5\t0\t0\n", "line 6: userID '1.5'"),
        (GOOD + "1\tB00X\t0\n", "line 6: itemID 'B00X'"),
        (GOOD + "-1\t0\t0\n", "line 6: userID '-1'"),
        (GOOD + "1\t1\t3\n", "line 6: x_label 3"),
        (GOOD + "1\t\t0\n", "line 6: itemID ''"),
        (GOOD + "1\tnan\t0\n", "line 6: itemID 'nan'"),
        (GOOD + "1\t99999999999\t0\n", "line 6: itemID 99999999999 is too large"),
        (GOOD + "1\t" + "9" * 40 + "\t0\n", "line 6: itemID 9+ is too large"),
        (GOOD + "1\t1\n", "line 6: x_label ''"),
        (GOOD + "1\t1\t0\t7\n", "line 6"),
        (HEADER + "9\t0\t0\t0\n9\t0\t1\t1\n9\t1\t2\t2\n", "line 2: more fields"),
        (GOOD + "\n1\t1\t0\n", "line 6: userID ''"),
        (GOOD + "\n", "line 6: userID ''"),
        ("\n" + GOOD, "line 1: no column userID"),
        ("".join(f'"{name}"\t' for name in HEADER.split()) + "\n0\t0\t0\n", "line 1: no column userID"),
        (GOOD.replace("userID", '"userID'), "line 1: no column userID"),
        (GOOD.replace("1\t2", '"1"\t2'), "line 4: userID '\"1\"'"),
        (GOOD + "1.0\t1\t0\n", "line 6: userID '1.0'"),
        (GOOD + "1e0\t1\t0\n", "line 6: userID '1e0'"),
        (GOOD + "+1\t1\t0\n", "line 6: userID '\\+1'"),
        (GOOD + "\u0661\t1\t0\n", "line 6: userID '\u0661'"),
        (GOOD + "1\0\t1\t0\n", "line 6: userID"),
        (GOOD + "1\t1\t-1\n", "line 6: x_label '-1'"),
        (GOOD + "1\t1\t0.0\n", "line 6: x_label '0.0'"),
        (GOOD + f"{2**31 - 1}\t1\t0\n", "line 6: userID 2147483647 is too large"),
        ("\n", "empty"),
        ("\ufeff", "empty"),
        (GOOD + "1\t2\t0\n", "line 6: user 1 and item 2 are in two splits"),
        (HEADER + "0\t0\t0\n0\t1\t1\n", "test split is empty"),
        (HEADER + "0\t0\t1\n0\t1\t2\n", "train split is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", "set.inter"),
        (GOOD.encode("utf-16"), "set.inter"),
    ],
)
def test_malformed_interactions_are_refused_with_the_place(folder, text, message):
    write(folder, text)
    with pytest.raises(DataError, match=message) as error:
        read(folder)
    assert str(folder / "set.inter") in str(error.value)


def test_ids_of_users_that_nobody_has_are_told(folder):
    write(folder, GOOD + "5\t0\t0\n")
    with pytest.warns(UserWarning, match=r"\d of the 6 users up to the largest id have no interaction"):
        assert read(folder).num_users == 6


def test_duplicate_lines_are_dropped_with_a_counted_warning(folder):
    write(folder, GOOD + "0\t0\t0\n0\t0\t0\n1\t2\t2\n")
    with pytest.warns(UserWarning, match="dropped 3 duplicate lines, the first on line 6") as caught:
        dataset = read(folder)
    assert len(caught) == 1
    assert dataset.counts() == {"users": 2, "items": 3, "train": 2, "validation": 1, "test": 1}
    assert pairs(dataset.train) == [(0, 0), (1, 0)] and pairs(dataset.test) == [(1, 2)]


def test_a_file_without_duplicates_gives_no_warning(folder):
    write(folder, image=np.ones((3, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(folder)


def with_value(row, value, dtype=np.float32):
    features = np.zeros((4, 3), dtype)
    features[row, 1] = value
    return features


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 3)), "2 rows.*item 2.*at least 3 rows"),
        (with_value(1, np.nan), "row 1: NaN or infinite"),
        (with_value(3, -np.inf), "row 3: NaN or infinite"),
        (with_value(2, 1e300, np.float64), "row 2: NaN or infinite in float32"),
        (np.zeros(12), "shape"),
        (np.zeros((4, 0)), "shape"),
        (np.zeros((4, 3), np.int64), "int64"),
        (np.zeros((4, 3), np.complex64), "complex64"),
    ],
)
def test_malformed_features_are_refused_with_the_place(folder, features, message):
    write(folder, image=features)
    with pytest.raises(DataError, match=message) as error:
        read(folder)
    assert str(folder / "image_feat.npy") in str(error.value)


class Trap:
    """Unpickling it opens, and so creates, a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("as_array", [True, False])
def test_a_pickled_feature_file_is_refused_and_not_executed(folder, tmp_path, as_array):
    trap = Trap(tmp_path / "executed")
    write(folder)
    path = folder / "image_feat.npy"
    if as_array:
        np.save(path, np.array([[trap]], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(trap))
    with pytest.raises(DataError, match=r"image_feat\.npy"):
        read(folder)
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap)).close()
    assert trap.path.exists()  # the trap works


def npy_with_header(header):
    header = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48)


def in_zip(features):
    buffer = io.BytesIO()
    np.savez(buffer, features)
    return buffer.getvalue()


NPY = npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3)}")


def test_the_hand_made_feature_file_is_a_good_one(folder):
    write(folder)
    (folder / "image_feat.npy").write_bytes(NPY)
    np.testing.assert_array_equal(read(folder).features["image"], np.zeros((4, 3)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not numpy",
        NPY[:20],
        NPY[:-1],
        in_zip(np.zeros((4, 3))),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 3)}"),
        npy_with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**18}, 3)}}"),
        npy_with_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30}, 3)}}"),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}"),
        npy_with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 3)}"),
        npy_with_header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (4, 3)}"),
        npy_with_header("(((("),
        npy_with_header("__import__('os')"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning:numpy")
def test_broken_feature_files_are_refused(folder, content):
    write(folder)
    (folder / "image_feat.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"image_feat\.npy: "):
        read(folder)


@given(st.lists(st.tuples(st.integers(0, len(NPY) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_no_change_of_a_feature_file_makes_the_reader_fail_otherwise(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("fuzz") / "set"
    folder.mkdir()
    write(folder)
    content = bytearray(NPY)
    for place, byte in changes:
        content[place] = byte
    (folder / "image_feat.npy").write_bytes(content)
    try:
        features = read(folder).features["image"]
        assert features.ndim == 2 and np.isfinite(features).all()
    except DataError as error:
        assert "image_feat.npy" in str(error)


def test_missing_files_modalities_and_disagreeing_rows_are_refused(folder):
    with pytest.raises(DataError, match="no such folder"):
        read_dataset(folder, "absent")
    with pytest.raises(DataError, match=r"set\.inter: no such file"):
        read(folder)
    write(folder, image=np.zeros((4, 2)), text=np.zeros((5, 2)))
    with pytest.raises(DataError, match="image 4, text 5"):
        read(folder)
    with pytest.raises(DataError, match="modalities there: image, text"):
        read(folder, ["sound"])
    with pytest.raises(DataError, match="twice"):
        read(folder, ["image", "image"])
    assert list(read(folder, ["image"]).features) == ["image"]  # those left out are not looked at
    with pytest.raises(DataError, match="image 4, text 5"):
        read(folder, [])  # without features too the catalogue is theirs


FIELD = st.sampled_from(["0", "1", "2", "3", "-1", "x", "", " ", '"', "1.5", "9" * 25, "\u0664", "\ufeff", "\0"])
TABLE = st.lists(st.lists(FIELD, max_size=5).map("\t".join), max_size=6).map(lambda rows: "\n".join(rows).encode())
FUZZ = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=100).map(lambda tail: HEADER.encode() + tail),
    TABLE.map(lambda table: HEADER.encode() + table),
    TABLE.map(lambda table: HEADER.rstrip().encode() + b"\t" + table),
    TABLE.map(lambda table: table + b"\n" + GOOD.encode()),
)


@settings(max_examples=150)
@given(FUZZ)
@pytest.mark.filterwarnings("ignore:.*duplicate lines")
def test_no_bytes_make_the_reader_fail_otherwise(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz") / "set"
    folder.mkdir()
    write(folder, content)
    try:
        counts = read(folder).counts()
        assert min(counts.values()) >= 1
    except DataError as error:
        assert "set.inter" in str(error)


def test_id_mappings_give_original_ids_or_none(folder):
    assert read_id_mapping(folder, "itemID", 2) is None
    (folder / "i_id_mapping.csv").write_text("asin\titemID\nB9\t1\nA1\t0\n")
    assert read_id_mapping(folder, "itemID", 2).tolist() == ["A1", "B9"]
    (folder / "u_id_mapping.csv").write_text("userID,name\n0,zoe\n1,abe\n")
    assert read_id_mapping(folder, "userID", 2).tolist() == ["zoe", "abe"]
    (folder / "u_id_mapping.csv").write_text("userID,name\n0, zoe\n1,abe \n")  # as lists name them, read without blanks
    assert read_id_mapping(folder, "userID", 2).tolist() == ["zoe", "abe"]
    with pytest.raises(DataError, match=r"0 \.\. 2 once"):
        read_id_mapping(folder, "userID", 3)
    (folder / "u_id_mapping.csv").write_text("a,b\n0,zoe\n")
    with pytest.raises(DataError, match="line 1"):
        read_id_mapping(folder, "userID", 1)


@pytest.mark.parametrize(
    ("name", "counts", "features"),
    [
        ("instruments", (17112, 6250, 136226), {"image": 940, "text": 892}),
        ("tiktok", (9308, 6710, 68722), {"audio": 128, "image": 128}),
        ("baby", (19445, 7050, 160792), {}),
        ("sports", (35598, 18357, 296337), {}),
    ],
)
def test_real_datasets_have_their_published_counts(data_dir, name, counts, features):
    dataset = read_dataset(data_dir, name)
    found = dataset.counts()
    total = found["train"] + found["validation"] + found["test"]
    assert (found["users"], found["items"], total) == counts
    shapes = {modality: x.shape for modality, x in dataset.features.items()}
    assert shapes == {modality: (counts[1], width) for modality, width in features.items()}
    assert all(x.dtype == np.float16 for x in dataset.features.values())


def test_the_dataset_of_edge_cases_has_them(data_dir):
    dataset = read_dataset(data_dir, "tiktok", [])
    lengths = np.bincount(dataset.train.users, minlength=dataset.num_users)
    assert (lengths == 0).sum() == 10
    assert (lengths == 1).sum() == 3507
