"""Defaults are the published settings, where a paper has one; what it searches, each dataset needs anew."""

import pytest

from isolator_jax.backbones import BACKBONES

FUSION = dict(neighbours=10, norm_batch=2048, learning_rate=1e-3, learning_rate_decay=0.96, decay_epochs=50)
# By backbone: where its settings are published, and those of Baby where they differ by dataset.
PUBLISHED = {
    "grcn": ("Wei et al., MM 2020", dict(dim=64, rounds=3)),
    "slmrec": ("Tao et al., IEEE TMM 2023", dict(dim=64, layers=3, temperature=0.2, weight_decay=1e-4)),
    "mgcn": (
        "Yu et al., MM 2023",
        dict(dim=64, layers=2, temperature=0.2, reg=1e-4, trainable_features=True, **FUSION),
    ),
    "gume": (
        "Lin et al., CIKM 2024: Baby",
        dict(
            dim=64, layers=3, item_layers=2, reg1=1e-5, reg2=0.1, vt=0.1, bm=0.01, bm_temperature=0.4, um=0.01,
            um_temperature=0.1, perturbation=0.1, trainable_features=True, **FUSION,
        ),
    ),
    "freedom": (
        "Zhou and Shen, MM 2023",
        dict(dim=64, layers=2, item_layers=1, neighbours=10, image_weight=0.1, dropout=0.8, learning_rate=1e-3),
    ),
    "smore": (
        "Ong and Khong, WSDM 2025",
        dict(
            dim=64, item_layers=1, temperature=0.2, cl=0.01, learning_rate=1e-3, learning_rate_decay=0.96,
            decay_epochs=50,
        ),
    ),
    "lgmrec": (
        "Guo et al., AAAI 2024: Baby",
        dict(
            dim=64, layers=2, content_layers=2, hyperedges=4, hyper_layers=1, hyper_temperature=0.2, keep_rate=0.5,
            global_weight=0.3, cl=1e-4, temperature=0.2, reg=1e-6, learning_rate=1e-3,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_the_published_settings(name):
    source, published = PUBLISHED[name]
    defaults = BACKBONES[name].hyperparameters()
    assert {field: getattr(defaults, field) for field in published} == published, source
