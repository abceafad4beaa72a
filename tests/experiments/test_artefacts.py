"""The files that reproduce writes, from made-up models."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from experiments.common.artefacts import ARTEFACTS, Made, make, write_statistics
from isolator_jax.reporting import paper
from isolator_jax.strategies import LABELS
from tests.reporting.made import same

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
NAME = r"=cmd|\immediate\write18{x}$_a_b"


def with_accuracy(result):
    per_user = dict.fromkeys(paper.ACCURACY, result.per_user["recall@20"])
    means = {name: values.mean() for name, values in per_user.items()}
    return result._replace(per_user=per_user, metrics={**result.metrics, **means})


def made(backbone, **options):
    """A model under all strategies, whose dataset and hyper-parameters have a hostile name."""
    model = same(backbone, RNG.random(400), **options)
    evaluations = {name: [with_accuracy(result) for result in of_seeds] for name, of_seeds in model.evaluations.items()}
    u = {"alpha": 2.0, "beta": 5.0, "iota": 0.1}
    without = {"alpha w/o TS": 4.0, "beta w/o TS": 20.0, "iota w/o TS": 0.01}
    config = {**model.config, **u, **without, "hyper-parameters": NAME}
    return dataclasses.replace(
        model, dataset=NAME, config=config, evaluations=evaluations, equal_popularity=dict.fromkeys(LABELS, (0.1, 0.3))
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artefacts")
    models = [made(backbone) for backbone in ("mfbpr", "lightgcn", "vbpr", "mgcn")]
    modalities = [made("vbpr", modalities=names) for names in (("image",), (NAME,), ("image", NAME))]
    references = [dataclasses.replace(made("mfbpr"), label="popularity alone")]
    write_statistics([{"dataset": NAME, "users": 3}], folder / "table1")
    for name in ARTEFACTS[1:]:
        make(name, Made(models, modalities, references), folder / name)
    return folder


def test_every_artefact_is_written(folder):
    files = {path.name for path in folder.iterdir()}
    suffixes = {name: ("png", "pdf", "csv") if name.startswith("fig") else ("md", "tex", "csv") for name in ARTEFACTS}
    assert files == {f"{name}.{suffix}" for name, of_name in suffixes.items() for suffix in of_name}


def test_both_variants_of_u_are_named_with_their_own_setting(folder):
    for name in ("table2", "claims", "confounding"):
        text = " ".join((folder / f"{name}.md").read_text().split())
        assert "alpha 2, beta 5, iota 0.1; U w/o TS alpha 4, beta 20, iota 0.01;" in text, name


def test_foreign_names_are_text_in_every_file(folder):
    for path in folder.glob("*.tex"):
        lines = path.read_text().splitlines()
        assert not any(r"\write" in line or "a_b" in line for line in lines if not line.startswith("%")), path
    assert r"\textbackslash{}immediate" in (folder / "table1.tex").read_text()
    for path in folder.glob("*.csv"):
        frame = pd.read_csv(path)
        texts = [value for column in frame for value in (column, *frame[column]) if isinstance(value, str)]
        assert not any(text.startswith(("=", "+", "-", "@")) for text in texts), path
    assert "'=cmd" in (folder / "table1.csv").read_text()


def test_claims_are_counted_above_and_listed_below(folder):
    text = (folder / "claims.md").read_text()
    counts, listed, *notes = text.split("\n\n")
    assert len(counts.splitlines()) < len(listed.splitlines()) and "beyond noise" in notes[0].lower()
    frame = pd.read_csv(folder / "claims.csv")
    assert "5.2, Table 3" in set(frame["section"]) and frame["p over users"].notna().sum() > 50
    assert set(frame["case"]) >= {"VBPR over MFBPR", "all 4", "image"}


def test_table_3_has_a_block_for_each_modality_and_signs_its_bias_by_size(folder):
    frame = pd.read_csv(folder / "table3.csv")
    assert set(frame["metric"]) == {"recall@20", "ndcg@20", "ucbias@20"} and frame["modalities"].nunique() == 3
    assert frame.loc[frame["metric"] == "ucbias@20", "p over users"].notna().sum() == 6
    assert "| R@20 " in (folder / "table3.md").read_text()


def test_confounding_shows_the_references_first_and_the_mean_over_seeds(folder):
    frame = pd.read_csv(folder / "confounding.csv")
    assert frame["label"].tolist()[:2] == ["popularity alone", "MFBPR"] and len(frame) == 1 + 4 * 3
    np.testing.assert_allclose(frame["at equal popularity"], 0.2)
    assert ((frame["low"] < frame["ucbias@20"]) & (frame["ucbias@20"] < frame["high"])).all()
