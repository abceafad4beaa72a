"""What the figures draw is what they were given."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from isolator_jax.evaluation import consistency_groups
from isolator_jax.reporting import figures
from isolator_jax.reporting.figures import LOOKS, Curve, Interval
from isolator_jax.reporting.paper_figures import recall_against_rho
from isolator_jax.strategies import LABELS

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


def test_labels_of_close_points_stay_legible():
    rows = [("mfbpr", 0.10, 0.187), ("lightgcn", 0.115, 0.2206), ("grcn", 0.1415, 0.2153), ("mgcn", 0.146, 0.2244)]
    rows += [("gume", 0.1513, 0.2219), ("slmrec", 0.12, 0.2298), ("vbpr", 0.196, 0.172)]
    frame = pd.DataFrame(rows, columns=["backbone", "rho", "recall@20"]).assign(similarity="average")
    (axes,) = recall_against_rho(frame).axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 7
    assert not [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
