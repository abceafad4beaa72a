"""Modality knock-out: what is left of the features."""

import numpy as np
import pytest

from isolator_jax.data.knock_out import KNOCK_OUTS, knock_out

FEATURES = {
    "image": np.random.default_rng(0).normal([3.0, -1.0, 0.0], [0.5, 2.0, 1.0], (4000, 3)).astype(np.float32),
    "text": np.random.default_rng(1).normal(size=(4000, 2)),
}


def of_image(way, seed=0, features=FEATURES):
    return knock_out(features, {"image": way}, seed)["image"]


def test_a_permutation_keeps_the_rows_a_constant_has_one_and_noise_has_the_moments():
    image = FEATURES["image"]
    shuffled = of_image("shuffle")
    assert not np.array_equal(shuffled, image)
    np.testing.assert_array_equal(np.unique(shuffled, axis=0), np.unique(image, axis=0))
    constant = of_image("constant")
    np.testing.assert_array_equal(constant, np.broadcast_to(constant[0], image.shape))
    np.testing.assert_allclose(constant[0], image.mean(axis=0), atol=1e-6)
    noise = of_image("noise")
    np.testing.assert_allclose(noise.mean(axis=0), image.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(noise.std(axis=0), image.std(axis=0), rtol=0.05)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.1
    assert abs(np.corrcoef(noise[:, 0], image[:, 0])[0, 1]) < 0.1


@pytest.mark.parametrize("way", KNOCK_OUTS)
def test_what_is_drawn_is_of_the_seed_and_of_the_modality_alone(way):
    found = knock_out(FEATURES, {"image": way}, 0)
    assert list(found) == ["image", "text"] and found["text"] is FEATURES["text"]
    both = knock_out(dict(reversed(FEATURES.items())), {"text": "noise", "image": way}, 0)
    np.testing.assert_array_equal(both["image"], found["image"])
    assert np.array_equal(of_image(way, seed=1), found["image"]) == (way == "constant")
    same = {"image": FEATURES["image"], "other": FEATURES["image"]}
    alike = knock_out(same, dict.fromkeys(same, way), 0)
    assert np.array_equal(*alike.values()) == (way == "constant")


@pytest.mark.parametrize(
    ("how", "message"),
    [({"sound": "noise"}, "modality 'sound'; there are image, text"), ({"image": "blur"}, "shuffle, constant, noise")],
)
def test_what_there_is_not_is_refused(how, message):
    with pytest.raises(ValueError, match=message):
        knock_out(FEATURES, how, 0)
