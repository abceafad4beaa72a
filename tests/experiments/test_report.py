"""The report command: one page with everything of its runs, and clear refusals."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import command

from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset
from isolator_jax.runs import evaluate_problem, load_dataset, load_run, make_problem, strategies_of, train_run
from isolator_jax.runs.config import RunConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Reads a page strictly: every element must be closed in order.

    Attributes:
      tables: caption to rows of cell texts, headers included; of equal captions the last.
      lists: caption and rows of all tables of the section "example".
      sections: ids of the sections.
      figures: attributes of the svg elements.
      ids: all of them.
    """

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.lists, self.sections = [], {}, [], []
        self.figures, self.ids, self.tags = [], [], set()
        self.caption = self.rows = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "section":
            self.sections.append(attributes["id"])
        if tag == "svg":
            self.figures.append(attributes)
        if tag == "table":
            self.rows, self.caption = [], ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption.strip()] = self.rows
            if self.sections[-1] == "example":
                self.lists.append((self.caption.strip(), self.rows))

    def handle_data(self, data):
        if "caption" in self.open:
            self.caption += data
        elif {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def report(*arguments):
    return command("report", *arguments)


def train(config, run_dir):
    train_run(config, make_problem(config, load_dataset(config)), run_dir, checkpoint_every=lambda record: False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A made dataset with item ids of its own, a run on it with its plain twin, and a run without features."""
    folder = tmp_path_factory.mktemp("report")
    made = SyntheticConfig(users=90, items=60, clusters=4, styles=4, modalities={"image": 8, "text": 6})
    for name in ("made", "bare"):
        write_dataset(folder, name, *make_dataset(made), made)
    for path in (folder / "bare").glob("*_feat.npy"):
        path.unlink()
    mapping = pd.DataFrame({"asin": [f"<B{item:03d}>" for item in range(60)], "itemID": range(60)})
    mapping.to_csv(folder / "made" / "i_id_mapping.csv", sep="\t", index=False)
    options = {"data_dir": str(folder), "max_epochs": 4, "hparams": {"learning_rate": 0.01}}
    train(RunConfig("vbpr", dataset="made", **options), folder / "run")
    train(RunConfig("vbpr", dataset="made", training_strategy=False, **options), folder / "run" / "vanilla")
    train(RunConfig("mfbpr", dataset="bare", training_strategy=False, **options), folder / "bare-run")
    return folder


@pytest.fixture(scope="module")
def user(folder):
    """A user with a test item in the list of D."""
    config, problem, encoded, _ = load_run(folder / "run")
    result = evaluate_problem(problem, encoded, "test", strategies_of(config, True))["d"]
    return int(result.users[np.nanargmax(result.per_user["recall@20"])])


@pytest.fixture(scope="module")
def page(folder, user):
    """The page of both runs for that user, and its text."""
    done = report(folder / "run", folder / "bare-run", f"--output={folder / 'page.html'}", f"--user={user}")
    assert done.returncode == 0, done.stderr
    text = (folder / "page.html").read_text(encoding="utf-8")
    return Page(text), text


def test_the_page_is_whole_in_itself_and_has_every_section(page):
    page, text = page
    assert page.sections == [
        "configuration",
        "training",
        "results",
        "similarity",
        "bias",
        "consistency",
        "trade-off",
        "example",
    ]
    addresses = set(re.findall(r"https?:[^\s\"'<>)]*", text))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    # Two trainings and the four figures that need content, of one run.
    assert len(page.figures) == 6
    assert all(figure["role"] == "img" and len(figure["aria-label"]) > 40 for figure in page.figures)
    assert len(set(page.ids)) == len(page.ids)
    for reference in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text):
        assert set(reference) & set(page.ids)


def best_epoch(run):
    return json.loads((run / "report.json").read_text())["best_epoch"]


def test_the_tables_show_the_numbers_of_the_reports(page, folder):
    page, _ = page
    for run in ("run", "bare-run"):
        own = json.loads((folder / run / "report.json").read_text())
        for split in ("test", "validation"):
            rows = {row[0]: row[1:] for row in page.tables[f"{run}, {split}"]}
            columns = {"R@10": "recall@10", "R@20": "recall@20", "N@10": "ndcg@10", "N@20": "ndcg@20"}
            expected = {"Vanilla": own[split].get("vanilla")}
            if run == "run":
                plain = json.loads((folder / "run" / "vanilla" / "report.json").read_text())
                columns |= {"UCBias@20": "ucbias@20", "rho": "rho"}
                columns |= {f"rho ({modality})": f"rho/{modality}" for modality in ("image", "text")}
                expected = {
                    "Vanilla": plain[split]["vanilla"],
                    "U w/o TS": plain[split]["u"],
                    "Vanilla w/ TS": own[split]["training_strategy"],
                    "D-ISOLATOR": own[split]["d"],
                    "U-ISOLATOR": own[split]["u"],
                }
            assert rows.pop("strategy") == list(columns)
            assert rows == {
                name: [f"{values[column]:.4f}" for column in columns.values()] for name, values in expected.items()
            }
    configuration = {row[0]: row[1:] for row in page.tables["Configuration of each run"]}
    assert configuration["best epoch, ISOLATOR"][0] == f"{best_epoch(folder / 'run')} of 4"
    assert configuration["best epoch, plain BPR"][0] == f"{best_epoch(folder / 'run' / 'vanilla')} of 4"
    assert configuration["users"] == ["90", "90"]
    assert configuration["hyper-parameter learning_rate"] == ["0.01", "0.01"]


def test_bias_intervals_enclose_what_the_report_measured(page, folder):
    page, _ = page
    own = json.loads((folder / "run" / "report.json").read_text())["test"]
    rows = {strategy: numbers for _, strategy, *numbers in page.tables["UCBias@20, test, made"][1:]}
    assert set(rows) == {"Vanilla", "U w/o TS", "Vanilla w/ TS", "D-ISOLATOR", "U-ISOLATOR"}
    for name, strategy in {"D-ISOLATOR": "d", "U-ISOLATOR": "u"}.items():
        value, low, high = map(float, rows[name])
        assert rows[name][0] == f"{own[strategy]['ucbias@20']:.4f}"
        assert low < value < high


def test_the_front_begins_at_the_best_recall_and_falls_in_both(page):
    page, _ = page
    (rows,) = (rows for caption, rows in page.tables.items() if caption.startswith("Pareto front of run"))
    points = [tuple(map(float, row[-2:])) for row in rows[1:]]
    assert points
    for (recall, bias), (next_recall, next_bias) in zip(points, points[1:], strict=False):
        assert recall > next_recall and bias >= next_bias  # as printed: the bias may differ by less
    validation = page.tables["run, validation"]
    best = max(float(row[2]) for row in validation[1:] if row[0] in ("Vanilla", "D-ISOLATOR", "U-ISOLATOR"))
    assert points[0][0] >= best


def test_the_lists_are_those_of_the_user_with_test_items_marked(page, folder, user):
    page, text = page
    assert f"User {user}, run" in text and f"User {user}, bare-run" in text
    interactions = pd.read_csv(folder / "made" / "made.inter", sep="\t")
    own = interactions[interactions["userID"] == user]
    named = own["itemID"].map("<B{:03d}>".format)
    test_items, train_items = set(named[own["x_label"] == 2]), set(named[own["x_label"] == 0])
    history, lists, bare_history, bare_lists = page.lists
    assert history[0] == "Training history, by falling s_ui"
    assert {row[0] for row in history[1][1:]} == train_items
    header, _, *rows, found = lists[1]
    assert header == ["rank", "Vanilla", "D-ISOLATOR", "U-ISOLATOR"]
    for column in (1, 3, 5):
        cells = [row[column] for row in rows]
        items = [cell.split()[0] for cell in cells]
        assert len(set(items)) == 20 and not set(items) & train_items
        marked = {cell.split()[0] for cell in cells if "✓" in cell}
        assert marked == test_items & set(items)
        assert found[column] == f"{len(marked)} of {len(test_items)}"
        assert marked or column != 3  # the user was chosen for a test item in D's list
    # Without features there is no s_ui, and without a mapping the ids are the dataset's.
    assert bare_lists[1][0] == ["rank", "Vanilla"]
    assert {row[0] for row in bare_history[1][1:]} == set(own.loc[own["x_label"] == 0, "itemID"].astype(str))


def test_similarities_to_the_history_are_of_the_true_features_where_a_run_has_others(page, folder, user):
    page, _ = page
    check_similarities(page, folder, user)
    options = {"data_dir": str(folder), "max_epochs": 1, "knock_out": {"image": "shuffle", "text": "shuffle"}}
    train(RunConfig("mfbpr", dataset="made", **options), folder / "shuffled")
    done = report(folder / "shuffled", f"--output={folder / 'shuffled.html'}", f"--user={user}")
    assert done.returncode == 0, done.stderr
    check_similarities(Page((folder / "shuffled.html").read_text(encoding="utf-8")), folder, user)


def check_similarities(page, folder, user):
    interactions = pd.read_csv(folder / "made" / "made.inter", sep="\t")
    own = interactions[(interactions["userID"] == user) & (interactions["x_label"] == 0)]["itemID"]
    cosines = []
    for modality in ("image", "text"):
        features = np.load(folder / "made" / f"{modality}_feat.npy").astype(np.float64)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        cosines.append(unit @ unit.T)
    s = np.mean(cosines, axis=0)[own].mean(axis=0)
    for _, rows in page.lists[:2]:
        for row in rows[1:]:
            for item, similarity in zip(row, row[1:], strict=False):
                if item.startswith("<B"):
                    assert float(similarity) == pytest.approx(s[int(item[2:5])], abs=6e-4)


def test_the_user_shown_by_default_has_test_items_and_a_history_of_median_length(folder):
    done = report(folder / "bare-run", f"--output={folder / 'default.html'}")
    assert done.returncode == 0, done.stderr
    (user,) = re.findall(r"<h3>User (\d+), bare-run", (folder / "default.html").read_text(encoding="utf-8"))
    interactions = pd.read_csv(folder / "bare" / "bare.inter", sep="\t")
    train, test = (interactions.loc[interactions["x_label"] == label, "userID"] for label in (0, 2))
    assert int(user) in set(test)
    lengths = train[train.isin(test)].value_counts()
    distances = (lengths - lengths.median()).abs()
    assert distances[int(user)] == distances.min()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN_DIR"),
        (["{folder}/half"], "half/vanilla: the run is not finished"),
        (["{folder}/other"], "other/vanilla: its report was made with another alpha than the run has; give"),
        (["{folder}/run", "{folder}/trial"], "trial: its report has no test results"),
        (["{folder}/run", "{folder}/run/../run"], "twice"),
        (["{folder}/bare-run", "{folder}/run", "--user=9999"], "no such user"),
    ],
)
def test_the_report_refuses_what_cannot_be_shown(folder, arguments, message):
    for name in ("half", "trial", "other"):
        shutil.copytree(folder / "run", folder / name, dirs_exist_ok=True)
    (folder / "half" / "vanilla" / "report.json").unlink()
    plain = folder / "other" / "vanilla" / "report.json"
    report_of_plain = json.loads(plain.read_text())
    report_of_plain["config"]["alpha"] = 10.0
    plain.write_text(json.dumps(report_of_plain))
    measured = json.loads((folder / "run" / "report.json").read_text())
    del measured["test"]
    (folder / "trial" / "report.json").write_text(json.dumps(measured))
    out = folder / "refused.html"
    done = report(*(part.format(folder=folder) for part in arguments), f"--output={out}")
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("written", ["run/report.md", "run/vanilla/metrics.jsonl", "made/made.inter"])
def test_the_page_replaces_nothing_of_the_run_or_its_data(folder, written):
    before = (folder / written).read_bytes() if (folder / written).exists() else None
    done = report(folder / "run", f"--output={folder / written}")
    assert done.returncode == 1 and "is read, and would be replaced; write elsewhere" in done.stderr
    assert (folder / written).exists() == (before is not None) and before in (None, (folder / written).read_bytes())


def test_the_package_imports_without_the_libraries_of_the_page():
    code = """
import sys
sys.modules.update(dict.fromkeys(["matplotlib", "jinja2"]))  # importing either now fails
import isolator_jax, isolator_jax.runs, isolator_jax.reporting
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
