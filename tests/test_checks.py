"""Entry checks: the conversion rule, and messages that name the argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from isolator_jax import checks


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3, 4]],
        np.array([[1, 2], [3, 4]], np.uint8),
        np.array([[1, 2], [3, 4]], np.float64),
        np.array([[1, 2], [3, 4]], np.float16),
        jnp.array([[1, 2], [3, 4]], jnp.bfloat16),
        jnp.array([[1, 2], [3, 4]], jnp.int8),
        pd.DataFrame({"a": [1, 3], "b": [2.0, 4.0]}),
        pd.DataFrame({"a": pd.array([1, 3], dtype="Int64"), "b": pd.array([2, 4], dtype="Int64")}),
        [jnp.array([1, 2]), jnp.array([3, 4])],
    ],
)
def test_whatever_is_like_an_array_of_numbers_is_converted(value):
    floats = checks.array("x", value, shape=("U", 2), finite=True)
    assert floats.dtype == jnp.float32
    np.testing.assert_array_equal(floats, [[1, 2], [3, 4]])
    ids = checks.array("x", value, shape=("U", "I"), dtype="int", below=5)
    assert ids.dtype == jnp.int32
    np.testing.assert_array_equal(ids, [[1, 2], [3, 4]])
    assert type(checks.host_array("x", value, shape=(2, ...))) is np.ndarray


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (["9", "10"], TypeError, "x must hold numbers, got text"),
        (np.array(["9", 1], object), TypeError, "x must hold numbers, got text"),
        ([1j], TypeError, "x must hold numbers, got values of type complex128"),
        ([True], TypeError, "x must hold integers, got booleans"),
        ([[1], [2, 3]], TypeError, "rows of different lengths"),
        (np.ma.masked_equal([1, 2], 1), TypeError, "masked"),
        ([1.5], ValueError, "whole numbers that float64 holds exactly, got 1.5"),
        ([np.nan], ValueError, "whole numbers that float64 holds exactly, got nan"),
        (np.array([2.0**24 + 2], np.float32), ValueError, "whole numbers that float32 holds exactly"),
        ([2**32 + 5], ValueError, "at least 0 and below 7, got 4294967301"),
        (np.array([2**63], np.uint64), ValueError, "below 7, got 9223372036854775808"),
        ([3, -1], ValueError, "at least 0 and below 7, got -1"),
        (jnp.array([3, 7]), ValueError, "below 7, got 7"),
        ([[1]], ValueError, r"x must have shape \[B\], got \[1, 1\]"),
        (None, TypeError, "x must hold numbers"),
    ],
)
def test_ids_are_refused_by_name(value, error, words):
    with pytest.raises(error, match=words) as caught:
        checks.array("x", value, shape=("B",), dtype="int", below=7)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrap", [np.asarray, jnp.asarray])
def test_numbers_that_are_not_finite_are_refused_with_their_place(wrap):
    value = wrap(np.array([[1, np.inf], [np.nan, 2]], np.float32))
    with pytest.raises(ValueError, match=r"x must be finite in float32, got inf at \[0, 1\]"):
        checks.array("x", value, shape=("U", "I"), finite=True)
    with pytest.raises(ValueError, match=r"got inf at \[0\]"):
        checks.array("x", np.array([1e300]), shape=("U",), finite=True)


def test_sizes_that_are_known_are_named():
    with pytest.raises(ValueError, match=r"S must have shape \[I, W\] with I = 4, got \[3, 5\]"):
        checks.array("S", np.ones((3, 5)), shape=("I", "W"), sizes={"I": 4})
    with pytest.raises(ValueError, match=r"a and b must have the same shape, got a \[2\], b \[3\]"):
        checks.equal_shapes(a=np.ones(2), b=np.ones(3))


def test_shapes_and_types_are_checked_under_jit_and_values_are_not():
    ids = jax.jit(lambda x: checks.array("x", x, shape=("B",), dtype="int", below=2))
    np.testing.assert_array_equal(ids(np.array([7, -1])), [7, -1])
    with pytest.raises(ValueError, match="must have shape"):
        ids(np.array([[0]]))
    with pytest.raises(TypeError, match="must hold integers, got float32"):
        ids(np.array([0.0], np.float32))
    with pytest.raises(TypeError, match="works on the host"):
        jax.jit(lambda x: checks.host_array("x", x, shape=("B",)))(np.ones(2))
    traced_list = jax.jit(lambda a, b: checks.array("x", [a, b], shape=(2,), finite=True))
    np.testing.assert_array_equal(traced_list(1.0, np.nan), [1, np.nan])


def test_scalars_and_counts():
    assert checks.scalar("gamma", np.float64(0.5), least=0).dtype == jnp.float32
    for value, words in ((-1, "at least 0, got -1"), (np.nan, "at least 0, got nan"), (np.inf, "at least 0, got inf")):
        with pytest.raises(ValueError, match=f"gamma must be {words}"):
            checks.scalar("gamma", value, least=0)
    with pytest.raises(ValueError, match="alpha must be above 0, got 0"):
        checks.scalar("alpha", 0, above=0)
    with pytest.raises(ValueError, match=r"gamma must have shape \[\], got \[1\]"):
        checks.scalar("gamma", [1.0])
    assert checks.count("k", np.int64(3)) == 3
    for value in (1.0, True, "3", None, [1]):
        with pytest.raises(TypeError, match="k must be an integer"):
            checks.count("k", value)
    with pytest.raises(ValueError, match="k must be at least 1"):
        checks.count("k", 0, least=1)
    with pytest.raises(ValueError, match="fusion 'sum' is not one of mean, per_modality"):
        checks.option("fusion", "sum", ("mean", "per_modality"))
    with pytest.raises(TypeError, match="h must be of type dict or list, got int"):
        checks.instance("h", 3, (dict, list))


def test_what_is_not_finite_is_found_block_by_block_at_its_place(monkeypatch):
    monkeypatch.setattr(checks, "_CELLS", 4)
    values = np.zeros((5, 2))
    assert checks.host_numbers("x", values, shape=("I", "F"), finite=True).dtype == np.float64
    values[3, 1] = 1e300
    with pytest.raises(ValueError, match=r"x must be finite in float32, got inf at \[3, 1\]"):
        checks.host_numbers("x", values, shape=("I", "F"), finite=True)
