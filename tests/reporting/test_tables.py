"""Labels, widths, and foreign text in what people read."""

import pandas as pd
import pytest

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
