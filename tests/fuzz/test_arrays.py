"""Feature, embedding and score files of every malformed kind: read right, or refused with the file's name."""

import io
import os
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_interactions import bytes_of, mutations

from isolator_jax.data.arrays import read_embeddings, read_features, read_scores
from isolator_jax.errors import DataError
from isolator_jax.neighbours import Neighbours
from isolator_jax.runs.cache import read_lists

ITEMS = 4
FLOATS = [np.float16, np.float32, np.float64]


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


GOOD = saved(np.arange(12, dtype=np.float32).reshape(ITEMS, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays")


@st.composite
def arrays(draw):
    """Arrays of every kind numpy can save, most of them no feature matrix."""
    dtype = draw(
        st.one_of(
            hnp.floating_dtypes(sizes=(16, 32, 64)),
            st.one_of(
                hnp.integer_dtypes(), hnp.complex_number_dtypes(), hnp.boolean_dtypes(), hnp.unicode_string_dtypes()
            ),
            hnp.array_dtypes(max_size=2),
            hnp.datetime64_dtypes(),
            st.just(np.dtype(np.longdouble)),
        )
    )
    shape = draw(st.one_of(st.tuples(st.integers(0, 6), st.integers(0, 4)), hnp.array_shapes(min_dims=0, max_dims=3)))
    array = np.zeros(shape, dtype)
    if dtype.kind == "f":
        values = st.one_of(st.floats(-3, 3), st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e300, 1e39, -0.0]))
        with np.errstate(over="ignore"):
            cells = draw(st.lists(values, min_size=array.size, max_size=array.size))
            array = np.array(cells).astype(dtype).reshape(shape)
    return np.asfortranarray(array) if draw(st.booleans()) else array


def is_finite_matrix(array):
    with np.errstate(over="ignore"):
        return (
            array.ndim == 2
            and array.shape[1] > 0
            and array.dtype.newbyteorder("=") in FLOATS
            and bool(np.isfinite(array.astype(np.float32)).all())
        )


def loses_a_row(array):
    largest = np.abs(array.astype(np.float64)).max(axis=1)
    return bool(((largest > 0) & (largest < np.finfo(np.float32).tiny)).any())


@given(array=arrays())
def test_features_are_accepted_exactly_if_they_are_finite_float_matrices_with_enough_rows(folder, array):
    path = folder / "image_feat.npy"
    np.save(path, array)
    wanted = is_finite_matrix(array) and array.shape[0] >= ITEMS and not loses_a_row(array)
    try:
        features = read_features(path, ITEMS)
    except DataError as error:
        assert not wanted
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert wanted
        np.testing.assert_array_equal(features, array)


@given(array=arrays())
def test_scores_are_accepted_exactly_if_they_are_finite_float_matrices(folder, array):
    path = folder / "scores.npy"
    np.save(path, array)
    try:
        scores = read_scores(path)
    except DataError as error:
        assert not is_finite_matrix(array)
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert is_finite_matrix(array)
        np.testing.assert_array_equal(scores, array)


@given(users=arrays(), items=arrays())
def test_embeddings_are_accepted_exactly_if_inner_products_exist(folder, users, items):
    paths = folder / "users.npy", folder / "items.npy"
    for path, array in zip(paths, (users, items), strict=True):
        np.save(path, array)
    fits = is_finite_matrix(users) and is_finite_matrix(items) and users.shape[1] == items.shape[1]
    try:
        read = read_embeddings(*paths)
    except DataError as error:
        assert not fits
        assert any(str(path) in str(error) for path in paths) and "\n" not in str(error)
    else:
        assert fits
        for found, given_array in zip(read, (users, items), strict=True):
            np.testing.assert_array_equal(found, given_array.astype(np.float32))


@given(content=st.one_of(mutations(GOOD), st.binary(max_size=100), st.binary(max_size=30).map(lambda x: GOOD[:10] + x)))
def test_a_damaged_file_is_refused_or_a_finite_matrix(folder, content):
    path = folder / "damaged_feat.npy"
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's about headers of Python 2
            features = read_features(path, ITEMS)
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert is_finite_matrix(features) and features.shape[0] >= ITEMS


@pytest.mark.parametrize("kind", ["folder", "pipe", "absent", "npz"])
def test_what_is_no_array_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "image_feat.npy"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # reading it would wait for ever
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, a=np.ones((4, 3)))
    with pytest.raises(DataError, match="image_feat.npy"):
        read_features(path, ITEMS)


CACHED = Neighbours(np.zeros((6, 2), np.int32), np.ones((6, 2), np.float32))


@given(content=st.one_of(mutations(bytes_of(lambda file: np.savez(file, **CACHED._asdict()))), st.binary(max_size=60)))
def test_a_damaged_neighbour_cache_is_made_again(folder, content):
    path = folder / "neighbours.npz"
    path.write_bytes(content)
    lists = read_lists(path, CACHED.items.shape)
    if lists is not None:
        assert lists.items.shape == lists.cosines.shape == (6, 2)
        assert lists.items.dtype == np.int32 and ((lists.items >= 0) & (lists.items < 6)).all()
