"""What the study keeps of a model's test: the same tables as from the model, and no more than bits of its lists."""

import dataclasses
import importlib
import re
import sys

import numpy as np
import pandas as pd
import pytest
from pages import ROOT

from isolator_jax.backbones import Encoded
from isolator_jax.reporting import claims, paper
from isolator_jax.reporting.model import ModelResults
from isolator_jax.runs import evaluate_problem, make_problem
from isolator_jax.runs.config import RunConfig
from isolator_jax.strategies import MAIN, STRATEGIES


@pytest.fixture
def docs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


def results_of(problem, backbone, seeds):
    """Of random embeddings, one for each seed."""
    graph_based, uses_content = {"mfbpr": (False, False), "vbpr": (False, True)}[backbone]
    strategies = {
        name: entry.of({"gamma": 1.0, "alpha": 2.0, "beta": 5.0, "iota": 1.0}) for name, entry in STRATEGIES.items()
    }
    tested = []
    for seed in seeds:
        rng, sizes = np.random.default_rng(seed), (problem.dataset.num_users, problem.dataset.num_items)
        users, items = (rng.normal(size=(n, 4)).astype(np.float32) for n in sizes)
        tested.append(evaluate_problem(problem, Encoded(users, items), "test", strategies))
    return ModelResults(
        dataset="made",
        backbone=backbone,
        label=backbone.upper(),
        graph_based=graph_based,
        uses_content=uses_content,
        modalities=tuple(problem.dataset.features),
        config={"seeds": " ".join(map(str, seeds)), "gamma": 1.0},
        evaluations={name: [of_seed[name] for of_seed in tested] for name in STRATEGIES},
        consistency=problem.content.consistency,
        lengths=np.asarray(problem.train.histories.lengths),
        equal_popularity={name: [0.1 + 0.2 * seed for seed in seeds] for name in STRATEGIES},
    )


def test_what_a_study_keeps_of_a_model_makes_the_same_tables(small_dataset, tmp_path, docs):
    import tested

    problem = make_problem(RunConfig("vbpr"), small_dataset)
    models = [results_of(problem, "mfbpr", (0, 1)), results_of(problem, "vbpr", (2, 3))]
    for model in models:
        tested.write(tmp_path / f"{model.backbone}.npz", model, problem)
    kept = [tested.read(tmp_path / f"{model.backbone}.npz", problem) for model in models]
    for model, read in zip(models, kept, strict=True):
        for name, of_seeds in model.evaluations.items():
            for evaluation, again in zip(of_seeds, read.evaluations[name], strict=True):
                assert again.metrics == evaluation.metrics
                for metric, values in evaluation.per_user.items():
                    np.testing.assert_array_equal(again.per_user[metric], values)
        same = ("label", "config", "modalities", "equal_popularity")
        assert all(getattr(read, name) == getattr(model, name) for name in same)
    pd.testing.assert_frame_equal(claims.claims(kept), claims.claims(models))
    for make in (lambda m: paper.means(m, MAIN, paper.ACCURACY), lambda m: paper.confounding(m, [], MAIN)):
        pd.testing.assert_frame_equal(make(kept), make(models))
    other = dataclasses.replace(small_dataset, test=small_dataset.validation, validation=small_dataset.test)
    with pytest.raises(ValueError, match=r"vbpr\.npz was tested on other data"):
        tested.read(tmp_path / "vbpr.npz", make_problem(RunConfig("vbpr"), other))


def test_a_backbone_added_later_stands_in_its_place_and_replaces_its_own_rows_alone(tmp_path, docs):
    import study_tables

    path = tmp_path / "training.csv"
    for label, value in [("VBPR", "1"), ("MFBPR", "2"), ("VBPR", "03")]:
        study_tables.add_rows(path, pd.DataFrame([{"backbone": label, "epochs": value, "seconds": ""}]))
    assert path.read_text() == "backbone,epochs,seconds\nMFBPR,2,\nVBPR,03,\n"


def test_table_3_is_a_row_for_each_modality_and_one_for_all(small_dataset, tmp_path, docs):
    import study_tables

    problem = make_problem(RunConfig("vbpr"), small_dataset)
    alone = [
        dataclasses.replace(results_of(problem, "vbpr", (seed, seed + 1)), modalities=(name,))
        for seed, name in enumerate(problem.dataset.features)
    ]
    paper.means([*alone, results_of(problem, "vbpr", (5, 6))], MAIN, ("recall@20", "ucbias@20")).to_csv(
        tmp_path / "table3.csv", index=False
    )
    rows = study_tables.by_modality(tmp_path).to_dict("records")
    assert [row["modalities"] for row in rows] == [*problem.dataset.features, ", ".join(problem.dataset.features)]
    for row, model in zip(rows, alone, strict=False):
        recalls = [evaluation.metrics["recall@20"] for evaluation in model.evaluations["d"]]
        assert row["R@20 D-ISOLATOR"] == f"{np.mean(recalls):.4f}"
        assert row["R@20 D-ISOLATOR sd"] == f"{np.std(recalls, ddof=1):.4f}"
    assert len({row["R@20 D-ISOLATOR"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("study", ["--data_dir=d", "--dataset=made", "--table3=gume"], "name that by --tuned"),
        ("study", ["--data_dir=d", "--dataset=made", "--tuned=vbpr:reg=1"], "--tuned names no gamma for vbpr"),
        ("over_datasets", ["fixed", "2", "20"], "a setting is alpha, beta and iota"),
    ],
)
def test_a_study_says_what_is_wrong_before_it_writes_anything(
    tmp_path, monkeypatch, capsys, docs, script, arguments, said
):
    module = importlib.import_module(script)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    there = set((ROOT / "docs/results").rglob("*"))
    with pytest.raises(SystemExit):
        module.main()
    assert re.search(said, capsys.readouterr().err)
    assert set((ROOT / "docs/results").rglob("*")) == there
    assert not list(tmp_path.iterdir())
