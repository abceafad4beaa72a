"""Raw files of any content: a dataset that the readers take, or one line that says what is wrong."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolator_jax.data import read_dataset
from isolator_jax.data.mmrec import read_id_mapping
from isolator_jax.data.prepare import PrepareConfig, prepare_dataset
from isolator_jax.errors import DataError

FIELDS = st.one_of(
    st.sampled_from(
        ["a", "b", "c", "1", "2", "01", " 1", "", "nan", "NA", "1.5", "1e400", "-1", '"', '"x', 'x"y', "\r"]
    ),
    st.text(max_size=3),
)
HEADERS = st.sampled_from(
    ["user,item", "user,item,rating", "user\titem\ttime", "userID;itemID;x_label", "a,b", "\ufeffuser|item"]
)
LINES = st.lists(st.lists(FIELDS, min_size=1, max_size=4), min_size=1, max_size=12)
CHOICES = st.fixed_dictionaries(
    {
        "split": st.sampled_from(["random", "leave_one_out", "time", "user_time", "given"]),
        "min_rating": st.sampled_from([None, 1.0]),
        "k_core": st.sampled_from([0, 2]),
    }
)
JSON = st.sampled_from(
    ['{"user": 1, "item": "a"}', '{"user": "1", "item": [1]}', "{}", "[]", "NaN", '{"user": 1.5}', "\ud800"]
)


def prepared_or_refused(name, content, choices):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            target = prepare_dataset(PrepareConfig(interactions=path, name="set", **choices), folder)
        except DataError as error:
            assert str(error) and len(str(error)) < 1000
            assert not (Path(folder) / "set").exists()
            return
        dataset = read_dataset(folder, "set")
        for column, count in (("userID", dataset.num_users), ("itemID", dataset.num_items)):
            assert all(read_id_mapping(target, column, count))


@given(HEADERS, LINES, CHOICES, st.sampled_from(["\n", "\r\n"]))
def test_text(header, lines, choices, ending):
    mark = next(mark for mark in "\t,;|" if mark in header + ",")
    text = ending.join([header, *(mark.join(fields) for fields in lines)])
    prepared_or_refused("raw.csv", text.encode("utf-8", "surrogatepass"), choices)


@pytest.mark.parametrize("name", ["raw.csv", "raw.csv.gz", "raw.jsonl", "raw.parquet"])
@given(content=st.binary(max_size=60), choices=CHOICES)
def test_bytes(name, content, choices):
    prepared_or_refused(name, content, choices)


@given(st.lists(st.one_of(JSON, st.just('{"user": 1, "item": "a"}')), min_size=1, max_size=8), CHOICES)
def test_json_lines(lines, choices):
    prepared_or_refused("raw.jsonl", "\n".join(lines).encode("utf-8", "surrogatepass"), choices)
