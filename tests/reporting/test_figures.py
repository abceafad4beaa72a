"""What the figures draw is what they were given."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from isolator_jax.evaluation import consistency_groups
from isolator_jax.reporting import figures, paper_figures
from isolator_jax.reporting.figures import LOOKS
from isolator_jax.reporting.views import Curve, Interval
from isolator_jax.strategies import LABELS, MAIN

NAN = float("nan")


def labelled(axes):
    """Lines and points of a legend's label, as `[N, 2]`."""
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    points = [(dots.get_label(), dots.get_offsets()) for dots in axes.collections]
    return lines | {label: np.concatenate([xy for name, xy in points if name == label]) for label, _ in points}


def test_strategies_are_told_apart_without_colour():
    assert list(LOOKS) == list(LABELS)
    for signs in zip(*LOOKS.values(), strict=True):
        assert len(set(signs)) == len(LOOKS)


def test_curves_are_drawn_whole_with_the_best_epoch_marked_on_both():
    epochs = np.arange(1, 6)
    loss, validation = 1 / epochs, np.array([0.1, 0.3, 0.5, 0.4, 0.2])
    loss_axes, validation_axes = figures.training_curves([Curve("plain BPR", epochs, loss, validation, 3)]).axes
    for axes, values in ((loss_axes, loss), (validation_axes, validation)):
        drawn = labelled(axes)
        np.testing.assert_array_equal(drawn["plain BPR"], np.stack([epochs, values], axis=1))
        np.testing.assert_array_equal(drawn["best epoch, 3"], [[3, values[2]]])


def test_points_lie_at_rho_and_recall_and_runs_are_named_where_there_are_several():
    runs = {"one": {"vanilla": (0.2, 0.05), "d": (0.1, 0.06)}, "two": {"vanilla": (0.3, 0.07)}}
    (axes,) = figures.accuracy_against_rho(runs).axes
    drawn = labelled(axes)
    np.testing.assert_array_equal(drawn["Vanilla"], [[0.2, 0.05], [0.3, 0.07]])
    np.testing.assert_array_equal(drawn["D-ISOLATOR"], [[0.1, 0.06]])
    assert [text.get_text() for text in axes.texts] == ["one", "two"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Vanilla", "D-ISOLATOR"]
    assert not figures.accuracy_against_rho({"one": runs["one"]}).axes[0].texts


def test_bars_have_the_values_and_intervals_given():
    runs = {
        "one": {"vanilla": Interval(0.2, 0.1, 0.35), "u": Interval(-0.1, -0.2, 0.05)},
        "two": {"u": Interval(0.3, NAN, NAN)},
    }
    (axes,) = figures.ucbias_bars(runs).axes
    (heights,) = ([bar.get_height() for bar in bars] for bars in axes.containers if bars.get_label() == "U-ISOLATOR")
    assert heights == [-0.1, 0.3]
    ends = [segment[:, 1] for lines in axes.collections for segment in lines.get_segments() if len(segment)]
    np.testing.assert_allclose(sorted(end for pair in ends[:2] for end in pair), [-0.2, 0.05, 0.1, 0.35])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "two"]


def test_the_histogram_counts_every_user_with_a_consistency_in_its_group():
    consistency = np.random.default_rng(0).random(500)
    consistency[:50] = NAN
    groups = consistency_groups(consistency)
    (axes,) = figures.consistency_histogram(consistency, groups, bins=17).axes
    counts = [sum(bar.get_height() for bar in bars) for bars in axes.containers]
    assert counts == [90, 270, 90]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"Content-Diverse, 90 users", "between, 270 users", "Content-Consistent, 90 users"} <= set(names)
    rightmost = max(bar.get_x() + bar.get_width() for bar in axes.containers[0] if bar.get_height())
    assert rightmost < min(bar.get_x() + bar.get_width() for bar in axes.containers[2] if bar.get_height())


def test_every_setting_is_drawn_once_under_its_iota():
    recall, ucbias = np.random.default_rng(0).random((2, 5, 5, 4))
    iotas = (0.001, 0.01, 0.1, 1)
    front = np.array([[0.1, 0.2], [0.5, 0.6]])
    (axes,) = figures.trade_off(recall, ucbias, iotas, {"d": (0.5, 0.6)}, front).axes
    drawn = labelled(axes)
    for place, iota in enumerate(iotas):
        expected = np.stack([ucbias[..., place].ravel(), recall[..., place].ravel()], axis=1)
        np.testing.assert_array_equal(drawn[f"U, ι = {iota:g}"], expected)
    np.testing.assert_array_equal(drawn["D-ISOLATOR"], [[0.6, 0.5]])
    np.testing.assert_array_equal(drawn["Pareto front"], front[:, ::-1])


@pytest.fixture
def figure() -> Figure:
    return figures.accuracy_against_rho({"one": {"vanilla": (0.2, 0.05)}})


def test_the_svg_is_one_described_element_whose_ids_are_its_own(figure):
    svg = figures.to_svg(figure, "first", 'Recall < 1 & "so on"')
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'Recall < 1 & "so on"'
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert ids and all(name.startswith("first-") for name in ids)
    references = {name for pair in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg) for name in pair if name}
    assert references and references <= set(ids)
    assert svg == figures.to_svg(figure, "first", 'Recall < 1 & "so on"')


def test_drawing_leaves_matplotlibs_settings_alone(figure):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.to_svg(figures.accuracy_against_rho({"one": {"vanilla": (0.2, 0.05)}}), "first", "")
    assert dict(matplotlib.rcParams) == before


BACKBONES = ["MFBPR", "LightGCN", "VBPR", *(f"Graph{number}" for number in range(7))]


def rows_of(backbones, **values):
    """Rows of one number a backbone: each value a function of its place."""
    kinds = {"MFBPR": (False, False), "LightGCN": (True, False), "VBPR": (False, True)}
    return pd.DataFrame(
        {
            "backbone": name.lower(),
            "label": name,
            "graph based": kinds.get(name, (True, True))[0],
            "uses content": kinds.get(name, (True, True))[1],
            **{key: value(place) if callable(value) else value for key, value in values.items()},
        }
        for place, name in enumerate(backbones)
    )


def overlapping(boxes):
    return [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


def test_labels_of_close_points_stay_legible():
    rho = [0.10, 0.115, 0.196, 0.1415, 0.146, 0.1513, 0.12]
    recall = [0.187, 0.2206, 0.172, 0.2153, 0.2244, 0.2219, 0.2298]
    frame = rows_of(BACKBONES[:7], rho=rho.__getitem__, similarity="rho", **{"recall@20": recall.__getitem__})
    (axes,) = paper_figures.recall_against_rho(frame).axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 7 and not overlapping(boxes)


@pytest.mark.parametrize(("least", "width"), [(0.1, 0.3), (0.9985, 0.001), (0.99999, 0.000005)])
def test_tick_labels_of_four_panels_do_not_touch(least, width):
    similarities = ["rho/image", "rho/text", "rho/audio", "rho"]
    frame = pd.concat(
        rows_of(BACKBONES, rho=lambda p: least + width * p / 9, similarity=name, **{"recall@20": lambda p: p / 10})
        for name in similarities
    )
    figure = paper_figures.recall_against_rho(frame)
    figure.draw_without_rendering()
    labels = []
    for axes in figure.axes:
        low, high = axes.get_xlim()
        labels += [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert len(labels) >= 8
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    # Text aslant by 20 degrees and parallel: as far apart as it is high, or as it is wide.
    height = labels[0].get_fontsize() * figure.dpi / 72
    for box, following in itertools.pairwise(boxes):
        apart = (following.x0 + following.x1 - box.x0 - box.x1) / 2
        assert apart * np.sin(np.radians(20)) > height or not box.overlaps(following)
    assert [axes.get_xlabel() for axes in figure.axes] == ["rho (image)", "rho (text)", "rho (audio)", "rho, averaged"]


def bias_frame(backbones, **values):
    interval = {
        "ucbias": lambda p: 0.01 * p - 0.02,
        "low": lambda p: 0.01 * p - 0.05,
        "high": lambda p: 0.01 * p + 0.01,
    }
    return rows_of(backbones, **interval, **{"tied consistent": 0, "tied diverse": 2418}, **values)


def activity_frame(backbones):
    draws = {"draws low": lambda place: 0.01 * place - 0.04, "draws high": lambda place: 0.01 * place}
    window = {"median": 26, "fewest": 24, "most": 28, "size": 66, "consistent users": 132, "diverse users": 1118}
    return bias_frame(backbones, **draws, **window)


def drawn(name, backbones):
    if name == "fig2":
        return paper_figures.bias_by_share(pd.concat(bias_frame(backbones, percent=p) for p in (5, 10, 15, 20, 25)))
    if name == "fig3":
        return paper_figures.bias_at_equal_activity(activity_frame(backbones))
    bias = pd.concat(bias_frame(backbones, strategy=strategy, mean=0.1, deviation=0.01) for strategy in LABELS)
    if name == "fig5":
        return paper_figures.bias_of_strategies(bias[bias["strategy"].isin(MAIN)])
    return paper_figures.ablation(bias, bias, list(LABELS))


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("name", ["fig2", "fig3", "fig5", "fig6"])
def test_nothing_is_cut_off_with_one_model_or_ten_and_ties_are_told(name, count):
    figure = drawn(name, BACKBONES[:count])
    figure.draw_without_rendering()
    axes = figure.axes[-1]
    for thing in (figure.legends[0], axes.xaxis.label, *axes.get_xticklabels()):
        box = thing.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height
    assert "0 and 2,418" in axes.get_xlabel().replace("\n", " ")


LONG = [
    "runs/instruments/vbpr/seed-0",
    "runs/instruments/lightgcn/seed-0",
    *(f"runs/instruments/{'m' * 70}{place}/seed-{place}" for place in range(4)),
]


@pytest.mark.parametrize("count", [1, 3, 6])
def test_long_names_of_runs_are_drawn_within_the_figure_and_apart(count):
    bars = figures.ucbias_bars({name: {"d": Interval(0.1, 0.0, 0.2)} for name in LONG[:count]})
    points = figures.accuracy_against_rho({name: {"d": (0.1 * i, 0.05)} for i, name in enumerate(LONG[:count])})
    for figure, labels in ((bars, bars.axes[0].get_xticklabels()), (points, points.axes[0].texts)):
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in labels]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in boxes)
        assert figure.axes[0].get_window_extent().width > figure.bbox.width / 3
        if figure is bars and not labels[0].get_rotation():
            assert not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))


def test_shortened_names_still_differ():
    names = [f"amazon-baby-{backbone}-gamma-0.1-seed-0" for backbone in ("vbpr", "mgcn")]
    assert figures.drawn_names(names) == names and figures.drawn_names([*names[:1], "x"])[0] != names[0]


def test_one_seed_has_no_deviation_to_draw():
    bias = pd.concat(bias_frame(BACKBONES[:2], strategy=strategy, mean=0.1, deviation=np.nan) for strategy in LABELS)
    recall, of_bias = paper_figures.ablation(bias, bias, list(LABELS)).axes
    drawn_ends = [
        [len(segment) for lines in axes.collections for segment in lines.get_segments()] for axes in (recall, of_bias)
    ]
    assert not any(drawn_ends[0]) and all(drawn_ends[1])
    assert "deviation" not in recall.get_ylabel() and "95 %" in of_bias.get_ylabel()


def test_equal_activity_says_its_window_its_users_and_what_the_bars_are():
    figure = paper_figures.bias_at_equal_activity(activity_frame(BACKBONES[:3]))
    axes = figure.axes[0]
    label = axes.get_xlabel().replace("\n", " ")
    assert "24 to 28 (around the median, 26) training interactions" in label
    assert "132 content-consistent, 1,118 content-diverse" in label and "draws of 66 each" in label
    shown = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert "95 % of draws without replacement (no confidence interval)" in shown
    spread = [line.get_ydata() for line in axes.lines if line.get_linewidth() == 9]
    np.testing.assert_allclose(spread, [[-0.04, 0], [-0.03, 0.01], [-0.02, 0.02]])


@pytest.mark.parametrize("name", ["a$_$b", "$", "$$", r"\$x$", "a$b\nc"])
def test_dollars_in_names_are_no_mathematics(name):
    points = {name: {"vanilla": (0.2, 0.05)}, "other": {"vanilla": (0.3, 0.06)}}
    shown = " ".join(name.split())
    scatter = figures.accuracy_against_rho(points)
    bars = figures.ucbias_bars({name: {"d": Interval(0.1, 0.0, 0.2)}})
    for text in (scatter.axes[0].texts[0], bars.axes[0].get_xticklabels()[0]):
        assert text.get_text().replace(r"\$", "$") == shown
        letters = text.figure.text(0, 0, shown, fontproperties=text.get_fontproperties(), parse_math=False)
        assert text.get_window_extent().size == pytest.approx(letters.get_window_extent().size)
    frame = rows_of(["VBPR"], rho=0.1, similarity=f"rho/{name}", **{"recall@20": 0.1})
    paper_figures.recall_against_rho(frame.assign(label=name)).draw_without_rendering()
