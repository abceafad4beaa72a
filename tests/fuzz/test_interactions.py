"""Interaction files of every malformed kind: read right, or refused with the file's name."""

import io
import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax.data import read_dataset
from isolator_jax.data.interactions import read_interactions
from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:.*dropped .* duplicate")

GOOD = b"userID\titemID\tx_label\n0\t0\t0\n0\t1\t1\n1\t2\t2\n1\t0\t0\n0\t2\t2\n"
USERS, ITEMS = 4, 6

IDS = st.integers(0, 3).map(str)
ODD_CELLS = st.one_of(
    st.sampled_from(
        ["", " ", "nan", "NaN", "NA", "null", "None", "inf", "-0", "-1", "+1", "1.0", "1e0", "0x1", "1_0", "00", " 1 "]
        + [
            "\u0661",
            "\u00b2",
            "\ufeff0",
            "\u00a01",
            "1\x00",
            "\x001",
            '"1"',
            '"',
            "'1'",
            "1\x0b",
            "1\x1c2",
            "1\u2028",
            "True",
        ]
        + [
            str(2**31 - 2),
            str(2**31),
            str(2**63),
            "9" * 30,
            "9" * 5000,
            "0" * 25 + "1",
            "a" * 100_000,
            "1,2",
            "1;2",
            "\\N",
        ]
    ),
    st.text(max_size=6),
)
CELLS = st.one_of(IDS, IDS, IDS, ODD_CELLS)
NAMES = st.sampled_from(
    ["userID", "itemID", "x_label", "user", "item", "rating", "", "userID.1", " userID", '"userID"']
)


@st.composite
def tables(draw):
    """A text table: usual headers and cells with odd ones among them, in any layout."""
    header = draw(st.one_of(st.just(["userID", "itemID", "x_label"]), st.lists(NAMES, max_size=5)))
    width = len(header)
    odd = draw(st.booleans())
    cells = CELLS if odd else IDS
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=8))
    if draw(st.integers(0, 3)) == 0 and rows:
        place = draw(st.integers(0, len(rows) - 1))
        rows[place] = draw(st.lists(cells, max_size=width + 2))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    delimiter = draw(st.sampled_from(["\t", "\t", "\t", ",", ";", " "]))
    text = end.join(delimiter.join(row) for row in [header, *rows]) + draw(st.sampled_from(["", end, end * 2]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return text.encode(encoding, errors="replace")


@st.composite
def mutations(draw, good):
    """A good file with a few bytes changed, cut out or put in, or cut short."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 4)))
        content[start:stop] = draw(
            st.one_of(
                st.binary(max_size=4), st.sampled_from([b"\t", b"\n", b"\r", b"\x00", b'"', b",", b"-", b"9" * 20])
            )
        )
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 5)) == 0 else content)


FILES = st.one_of(tables(), mutations(GOOD), st.binary(max_size=60))


def rows_of(content, delimiter="\t"):
    """The table as plain Python reads it: needed columns as integers. Fails where a cell is no id."""
    text = content.decode("utf-8-sig")
    lines = re.split("\r\n|\n|\r", text)
    header = lines[0].split(delimiter)
    columns = [name for name in ("userID", "itemID", "x_label") if name in header]
    assert all(header.count(name) == 1 for name in columns)
    rows = set()
    for line in lines[1 : -1 if lines[-1] == "" else None]:
        cells = line.split(delimiter)
        assert len(cells) <= len(header)
        values = [cells[header.index(name)].strip() for name in columns]
        assert all(re.fullmatch("[0-9]+", value) for value in values), values
        rows.add(tuple(map(int, values)))
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "set"
    folder.mkdir()
    return folder


def refused_by_name(path, error):
    assert str(path) in str(error)
    assert "\n" not in str(error).strip()
    return True


@given(content=FILES)
def test_an_inter_file_is_read_as_it_stands_or_refused(folder, content):
    path = folder / "set.inter"
    path.write_bytes(content)
    try:
        dataset = read_dataset(folder.parent, "set")
    except DataError as error:
        assert refused_by_name(path, error)
        return
    expected = rows_of(content)
    found = {
        (user, item, label)
        for label, split in enumerate(("train", "validation", "test"))
        for user, item in zip(*(x.tolist() for x in vars(dataset.split(split)).values()), strict=True)
    }
    assert found == expected
    assert dataset.num_users == 1 + max(user for user, _, _ in expected)
    assert dataset.num_items == 1 + max(item for _, item, _ in expected)


@given(
    pairs=st.sets(st.tuples(st.integers(0, 30), st.integers(0, 30))),
    order=st.permutations(["userID", "itemID", "x_label", "rating"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
    data=st.data(),
)
def test_a_good_file_in_any_layout_is_read_exactly(folder, pairs, order, end, mark, data):
    pairs = sorted(pairs)
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(pairs), max_size=len(pairs)))
    # User 31 makes every split one that can be measured.
    pairs, labels = [*pairs, (31, 0), (31, 1), (31, 2)], [*labels, 0, 1, 2]
    columns = {
        "userID": [user for user, _ in pairs],
        "itemID": [item for _, item in pairs],
        "x_label": labels,
        "rating": data.draw(st.lists(st.sampled_from(["1", "", "4.5", "x"]), min_size=len(pairs), max_size=len(pairs))),
    }
    lines = [
        "\t".join(order),
        *("\t".join(map(str, row)) for row in zip(*(columns[name] for name in order), strict=True)),
    ]
    (folder / "set.inter").write_bytes((end.join(lines) + data.draw(st.sampled_from(["", end]))).encode(mark))
    dataset = read_dataset(folder.parent, "set")
    for label, split in enumerate(("train", "validation", "test")):
        expected = [pair for pair, own in zip(pairs, labels, strict=True) if own == label]
        interactions = dataset.split(split)
        assert list(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True)) == expected


@given(content=st.one_of(tables(), mutations(GOOD.replace(b"\t", b",")), st.binary(max_size=60)))
def test_a_csv_file_is_read_as_it_stands_or_refused(folder, content):
    path = folder / "pairs.csv"
    path.write_bytes(content)
    try:
        pairs = read_interactions(path, USERS, ITEMS)
    except DataError as error:
        assert refused_by_name(path, error)
        return
    assert (pairs >= 0).all(axis=None) and (pairs["userID"] < USERS).all() and (pairs["itemID"] < ITEMS).all()
    if b'"' not in content:
        renamed = re.sub(
            rb"^(\xef\xbb\xbf)?(.*?)(?=\r|\n|$)", lambda line: rename(line[0]), content, count=1, flags=re.S
        )
        assert set(map(tuple, pairs.to_numpy().tolist())) == rows_of(renamed, ",")


def rename(header):
    names = header.split(b",")
    for old, new in ((b"user", b"userID"), (b"item", b"itemID")):
        names = [new if name == old and new not in names else name for name in names]
    return b",".join(names)


COLUMN_VALUES = st.one_of(
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
    st.lists(st.floats(), min_size=3, max_size=3),
    st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=3, max_size=3),
    st.lists(CELLS, min_size=3, max_size=3),
    st.lists(st.binary(max_size=3), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(st.lists(st.integers(0, 3), max_size=2), min_size=3, max_size=3),
    st.lists(st.datetimes(), min_size=3, max_size=3),
    st.lists(st.decimals(0, 3, places=0), min_size=3, max_size=3),
)


@given(names=st.lists(NAMES, min_size=1, max_size=4), data=st.data())
def test_a_parquet_file_is_read_as_it_stands_or_refused(folder, names, data):
    path = folder / "pairs.parquet"
    values = [data.draw(COLUMN_VALUES) for _ in names]
    try:
        arrays = [pa.array(column) for column in values]
    except (pa.ArrowInvalid, OverflowError):
        return
    if data.draw(st.integers(0, 4)) == 0:
        arrays = [array.dictionary_encode() if pa.types.is_string(array.type) else array for array in arrays]
    pq.write_table(pa.Table.from_arrays(arrays, names=names), path)
    try:
        pairs = read_interactions(path, USERS, ITEMS)
    except DataError as error:
        assert refused_by_name(path, error)
        return
    chosen = {}
    for name, column in zip(names, values, strict=True):
        chosen.setdefault({"user": "userID", "item": "itemID"}.get(name, name), []).append((name, column))
    columns = [dict(chosen[name]).get(name, chosen[name][0][1]) for name in pairs.columns]
    expected = {tuple(int(str(value).strip()) for value in row) for row in zip(*columns, strict=True)}
    assert set(map(tuple, pairs.to_numpy().tolist())) == expected


def bytes_of(save, *arguments):
    file = io.BytesIO()
    save(file, *arguments)
    return file.getvalue()


PARQUET = bytes_of(lambda file: pd.DataFrame({"user": [0, 1], "item": [2, 3]}).to_parquet(file))
SPARSE = bytes_of(scipy.sparse.save_npz, scipy.sparse.csr_array(np.eye(USERS, ITEMS)), False)


@given(content=st.one_of(mutations(PARQUET), st.binary(max_size=40)))
def test_a_damaged_parquet_file_is_refused_or_has_ids_in_range(folder, content):
    path = folder / "damaged.parquet"
    path.write_bytes(content)
    try:
        pairs = read_interactions(path, USERS, ITEMS)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert pairs["userID"].between(0, USERS - 1).all() and pairs["itemID"].between(0, ITEMS - 1).all()


@st.composite
def sparse_files(draw):
    """Arrays named as a sparse matrix's are, of any types and lengths."""
    numbers = st.integers(-2, 7)
    arrays = {}
    for name in draw(
        st.sets(st.sampled_from(["data", "indices", "indptr", "row", "col", "offsets", "shape", "format"]))
    ):
        kind = draw(st.sampled_from([np.int64, np.int32, np.float64, np.float32, bool, "S3", complex]))
        values = draw(st.lists(numbers, max_size=8))
        arrays[name] = np.array(values).astype(kind)
    if draw(st.booleans()):
        arrays["shape"] = np.array([USERS, ITEMS])
    if draw(st.booleans()):
        arrays["format"] = np.array(draw(st.sampled_from([b"csr", b"csc", b"coo", b"dia", b"bsr", b"lil", b"x"])))
    return bytes_of(lambda file: np.savez(file, **arrays))


@given(content=st.one_of(mutations(SPARSE), sparse_files(), st.binary(max_size=40)))
@pytest.mark.filterwarnings("ignore")
def test_a_sparse_matrix_is_refused_or_has_ids_in_range(folder, content):
    path = folder / "matrix.npz"
    path.write_bytes(content)
    try:
        pairs = read_interactions(path, USERS, ITEMS)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert pairs["userID"].between(0, USERS - 1).all() and pairs["itemID"].between(0, ITEMS - 1).all()


MAPPING = b"asin\titemID\nB0\t0\nB1\t1\nB2\t2\n"


@st.composite
def mappings(draw):
    names = draw(st.one_of(st.just(["asin", "itemID"]), st.lists(st.sampled_from(["asin", "itemID", ""]), max_size=3)))
    ids = draw(st.permutations(["0", "1", "2"]))
    original = st.one_of(st.text(st.sampled_from('ab"\t,\n\x00 é'), max_size=4), st.sampled_from(["NA", "nan", "1"]))
    rows = [[draw(original), value] for value in ids]
    if draw(st.booleans()):
        rows[draw(st.integers(0, 2))] = draw(st.lists(st.one_of(original, IDS), max_size=3))
    delimiter, end = draw(st.sampled_from(["\t", ","])), draw(st.sampled_from(["\n", "\r\n"]))
    return end.join(delimiter.join(row) for row in [names, *rows]).encode()


@given(content=st.one_of(mappings(), mutations(MAPPING), st.binary(max_size=30)))
def test_an_id_mapping_is_read_as_it_stands_or_refused(folder, content):
    path = folder / "i_id_mapping.csv"
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mapping = read_id_mapping(folder, "itemID", 3)
    except DataError as error:
        assert refused_by_name(path, error)
        return
    assert mapping.shape == (3,) and all(isinstance(original, str) for original in mapping)
    assert len(set(mapping)) == 3
    if b'"' not in content:
        delimiter = "\t" if b"\t" in re.split(b"\r|\n", content)[0] else ","
        header, *lines = (line.split(delimiter) for line in re.split("\r\n|\n|\r", content.decode("utf-8-sig")) if line)
        place = header.index("itemID")
        assert {int(line[place].strip()): line[1 - place] for line in lines} == dict(enumerate(mapping))
