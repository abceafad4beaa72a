"""The maker: what it plants is what the metrics recover."""

import dataclasses
import json

import numpy as np
import pytest

from isolator_jax.content import make_content
from isolator_jax.data import SyntheticConfig, make_dataset, read_dataset, write_dataset
from isolator_jax.errors import DataError

CONFIG = SyntheticConfig(users=300, items=200, clusters=8, styles=8, seed=5)


def test_equal_configurations_give_equal_data_and_seeds_differ():
    first, again = make_dataset(CONFIG), make_dataset(CONFIG)
    assert first[0].fingerprint() == again[0].fingerprint()
    for a, b in zip(first[1], again[1], strict=True):
        np.testing.assert_array_equal(a, b)
    other, _ = make_dataset(dataclasses.replace(CONFIG, seed=6))
    assert other.fingerprint() != first[0].fingerprint()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_consistent_users_is_as_asked(share):
    _, truth = make_dataset(dataclasses.replace(CONFIG, consistent_share=share))
    assert truth.user_consistent.sum() == round(share * CONFIG.users)


def test_content_consistency_tells_planted_consistent_users_from_diverse_ones():
    dataset, truth = make_dataset(CONFIG)
    c = make_content(dataset.features, dataset.train.histories(dataset.num_users)).consistency
    consistent, diverse = c[truth.user_consistent], c[~truth.user_consistent]
    auc = np.mean(consistent[:, None] > diverse[None, :])
    assert auc > 0.95
    everyone_diverse, _ = make_dataset(dataclasses.replace(CONFIG, consistent_share=0.0))
    c = make_content(everyone_diverse.features, everyone_diverse.train.histories(CONFIG.users)).consistency
    assert np.mean(consistent) > np.mean(c) + 0.1


def test_popularity_is_skewed_as_asked():
    flat, skewed = (
        np.sort(np.bincount(make_dataset(dataclasses.replace(CONFIG, popularity_exponent=e))[0].train.items))
        for e in (0.0, 1.2)
    )
    top_share = lambda counts: counts[-20:].sum() / counts.sum()
    assert top_share(skewed) > 2 * top_share(flat)


def test_splits_share_no_pair_and_every_user_has_all_three():
    dataset, _ = make_dataset(CONFIG)
    splits = (dataset.train, dataset.validation, dataset.test)
    cells = np.concatenate([split.users.astype(np.int64) * CONFIG.items + split.items for split in splits])
    assert np.unique(cells).size == cells.size
    for split, least in zip(splits, (3, 1, 1), strict=True):
        assert np.bincount(split.users, minlength=CONFIG.users).min() >= least
        assert 0 <= split.items.min() and split.items.max() < CONFIG.items
    held_out = len(dataset.validation) + len(dataset.test)
    assert 0.1 < held_out / cells.size < 0.3
    assert abs(cells.size / CONFIG.users - CONFIG.mean_interactions) < 1


def test_consistent_users_follow_clusters_and_diverse_ones_styles_as_loyally_as_asked():
    config = dataclasses.replace(CONFIG, items=1000, loyalty=0.7, popularity_exponent=0.0)
    dataset, truth = make_dataset(config)
    users, items = dataset.train.users, dataset.train.items
    for group, trait, other in (
        (truth.user_consistent, truth.item_cluster, truth.item_style),
        (~truth.user_consistent, truth.item_style, truth.item_cluster),
    ):
        chosen = group[users]
        liked = trait[items[chosen]] == truth.user_preference[users[chosen]]
        # By chance one of eight others follows too.
        assert np.mean(liked) == pytest.approx(0.7 + 0.3 / 8, abs=0.05)
        assert np.mean(other[items[chosen]] == truth.user_preference[users[chosen]]) < 0.2


def test_features_show_clusters_and_not_styles():
    dataset, truth = make_dataset(CONFIG)
    for features in dataset.features.values():
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        similarity = unit @ unit.T
        different = ~np.eye(CONFIG.items, dtype=bool)
        same_cluster = (truth.item_cluster[:, None] == truth.item_cluster) & different
        same_style = (truth.item_style[:, None] == truth.item_style) & different
        assert similarity[same_cluster].mean() > 0.4
        assert abs(similarity[same_style].mean() - similarity[different].mean()) < 0.05


@pytest.mark.parametrize(
    "extreme",
    [
        {"users": 1, "items": 10, "clusters": 1, "styles": 1},
        {"clusters": 1000, "styles": 1000},
        {"loyalty": 1.0, "popularity_exponent": 5.0},
        {"mean_interactions": 500.0},
    ],
)
def test_extreme_configurations_give_valid_data(extreme):
    config = dataclasses.replace(CONFIG, **extreme)
    dataset, _ = make_dataset(config)
    assert min(len(dataset.split(name)) for name in ("train", "validation", "test")) >= config.users
    lengths = np.bincount(dataset.train.users)
    assert lengths.max() <= config.items // 2
    assert all(np.isfinite(x).all() for x in dataset.features.values())


@pytest.mark.parametrize("modalities", [{}, {"sound": 3}, {"a": 2, "b": 4, "c": 6}])
def test_a_written_dataset_reads_back_identical_with_its_truth_beside_it(tmp_path, modalities):
    config = dataclasses.replace(CONFIG, modalities=modalities)
    dataset, truth = make_dataset(config)
    folder = write_dataset(tmp_path, "made", dataset, truth, config)
    assert read_dataset(tmp_path, "made", list(modalities)).fingerprint() == dataset.fingerprint()
    with np.load(folder / "ground_truth.npz", allow_pickle=False) as saved:
        for name, value in truth._asdict().items():
            np.testing.assert_array_equal(saved[name], value)
    assert json.loads((folder / "ground_truth.json").read_text())["seed"] == config.seed
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_an_existing_folder_is_not_touched(tmp_path):
    dataset, truth = make_dataset(CONFIG)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "precious").write_text("data")
    with pytest.raises(FileExistsError, match="another name"):
        write_dataset(tmp_path, "made", dataset, truth, CONFIG)
    assert (tmp_path / "made" / "precious").read_text() == "data"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\nb", "a\0b"])
def test_a_name_of_no_folder_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="is no name of a folder"):
        write_dataset(tmp_path, name, *make_dataset(CONFIG), CONFIG)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0},
        {"items": 3},
        {"clusters": 0},
        {"styles": -1},
        {"consistent_share": 1.5},
        {"consistent_share": float("nan")},
        {"loyalty": -0.1},
        {"mean_interactions": 2},
        {"modalities": {"image": 4, "text": 0}},
    ],
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match="at least|must lie"):
        SyntheticConfig(**wrong)
