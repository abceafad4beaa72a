"""Labels, widths, and foreign text in what people read."""

import html

import pandas as pd
import pytest

from isolator_jax.evaluation import AIMS
from isolator_jax.reporting import tables, text
from isolator_jax.strategies import LABELS


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("recall@5", "R@5"),
        ("ndcg@100", "N@100"),
        ("ucbias@20", "UCBias@20"),
        ("rho", "rho"),
        ("rho/image", "rho (image)"),
        ("ils@10/text", "ILS@10 (text)"),
        ("hit_rate@10", "HitRate@10"),
        ("something@3", "something@3"),
        ("at equal popularity", "at equal popularity"),
    ],
)
def test_metrics_have_one_label(metric, label):
    assert tables.metric_label(metric) == label


def lines_of(text):
    lines = [line for line in text.splitlines() if line]
    assert lines and max(map(len, lines)) <= 80
    return lines


def test_many_metrics_have_a_row_each():
    metrics = [f"{name}@{k}" for name in ("recall", "ndcg", "precision", "map") for k in (5, 10, 20)]
    values = {strategy: dict.fromkeys(metrics, 0.125) for strategy in LABELS}
    lines = lines_of(tables.metrics_table(values, metrics))
    assert [cell.strip() for cell in lines[0].split("|")[2:-1]] == list(LABELS.values())
    assert [line.split("|")[1].strip() for line in lines[2:]] == [tables.metric_label(metric) for metric in metrics]


def test_few_metrics_have_a_column_each():
    lines = lines_of(tables.metrics_table(dict.fromkeys(LABELS, {"recall@20": 0.5, "rho": float("nan")})))
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["", "R@20", "rho"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["Vanilla", "0.5000", "-"]


def test_what_fits_neither_way_is_cut_into_tables_with_the_same_keys():
    headers = ["backbone", "strategy", *(f"metric {number}" for number in range(9))]
    rows = [["VBPR", name, *["0.1234 ± 0.01"] * 9] for name in LABELS.values()]
    text = tables.markdown_table(headers, rows, keys=2)
    lines_of(text)
    heads = [block.splitlines()[0] for block in text.split("\n\n")]
    assert len(heads) > 1 and all("backbone" in head and "strategy" in head for head in heads)
    assert [head.count("metric") for head in heads] == [3, 3, 3]


FOREIGN = "\\immediate\\write18{rm} $x$ a_b\n\x1b[31m|<b>*"


@pytest.mark.parametrize("name", ["_a_", "__init__", "a_b", "a__b", "R&D", "a&lt;b", "*a*", "[x](y)"])
def test_names_are_read_back_from_markdown_as_they_are(name):
    rendered = pytest.importorskip("markdown").markdown(text.markdown(name))
    assert html.unescape(rendered.removeprefix("<p>").removesuffix("</p>")) == name


def test_foreign_text_is_text_everywhere():
    assert text.latex(FOREIGN) == (
        r"\textbackslash{}immediate\textbackslash{}write18\{rm\} \$x\$ a\_b "
        r"\textbackslash{}x1b[31m\textbar{}\textless{}b\textgreater{}*"
    )
    assert text.markdown(FOREIGN) == r"\\immediate\\write18{rm} $x$ a_b \\x1b\[31m\|\<b>\*"
    assert text.one_line(FOREIGN) == r"\immediate\write18{rm} $x$ a_b \x1b[31m|<b>*"
    table = tables.metrics_table({FOREIGN: {FOREIGN: 0.5}}, [FOREIGN])
    assert "\x1b" not in table and len(table.splitlines()) == 3


@pytest.mark.parametrize("value", ["=HYPERLINK(1)", "+1", "-1+1", "@x", "  =1"])
def test_formulas_are_text_in_csv(value):
    frame = text.without_formulas(pd.DataFrame({value: [value, "plain"], "number": [-1.5, 2.0]}))
    lines = frame.to_csv(index=False).splitlines()
    assert all(line.startswith("'") for line in lines[:2]) and lines[1].endswith(",-1.5")
    assert lines[2] == "plain,2.0"


def report(tied, dataset="made"):
    config = {
        "backbone": "vbpr", "dataset": dataset, "knock_out": {}, "training_strategy": True, "gamma": 0.1, "alpha": 2.0,
        "beta": 5.0, "iota": 0.1, "fusion": "mean", "seed": 0, "hparams": {"reg": 0.1},
    }  # fmt: skip
    return {
        "config": config,
        "dataset": {"users": 90, "items": 60, "train": 500, "validation": 60, "test": 60},
        "best_epoch": 1,
        "epochs": 2,
        "seconds_per_epoch": {"train": 1.0, "validation": None},
        "test": dict.fromkeys(("training_strategy", "d", "u"), dict.fromkeys(tables.MAIN_METRICS, 0.5)),
        "groups": {
            name: {"users": 18.0, "tied": count} for name, count in zip(("consistent", "diverse"), tied, strict=True)
        },
    }


def test_a_report_tells_the_users_tied_at_the_cuts_and_keeps_names_text():
    told = tables.report_markdown(report((0, 2418), "<b>|baby"))
    assert "group: 0 and 2,418." in told and "on \\<b>\\|baby" in told
    assert "tied" not in tables.report_markdown(report((0, 0)))


def test_a_search_fits_the_width_and_lists_what_was_chosen():
    chosen = [
        {
            "strategy": name,
            "hparams.learning_rate": 0.001,
            **dict.fromkeys(("gamma", "alpha", "beta", "iota"), 0.1),
            "validation recall@20": 0.2,
            "validation ucbias@20": -0.01,
            "mean": dict.fromkeys(tables.MAIN_METRICS, 0.1),
            "deviation": dict.fromkeys(tables.MAIN_METRICS, 0.01),
            "p": 0.03,
        }
        for name in LABELS
    ]
    trainings = dict.fromkeys(("of the naive product", "of this search", "failed"), 1)
    found = tables.search_markdown(
        {
            **report((0, 5)),
            "chosen": chosen,
            "trainings": trainings,
            "seeds": [0, 1],
            "searched": ["learning_rate"],
            "gammas": [0.1],
            "aim": "recall_no_more_bias",
            "none qualifies": ["u"],
        }
    )
    assert "No setting of U-ISOLATOR qualifies for the best R@20 where the size of UCBias@20 is at most" in found
    assert "validation R@20 0.2000, UCBias@20 -0.0100" in found
    assert set(tables.AIMS_IN_WORDS) == set(AIMS)
    lines_of("\n".join(line for line in found.splitlines() if line.startswith("|")))
    for label in LABELS.values():
        assert f"- {label}: learning_rate 0.001, gamma 0.1" in found
    assert "group: 0 and 5." in found
