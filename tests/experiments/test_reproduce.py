"""Artefacts of a small dataset, trained from nothing, and made again without training."""

import shutil

import pandas as pd
import pytest

from tests.experiments.test_commands import command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    made = command(
        "make_dataset", f"--output_dir={folder}", "--name=made", "--users=90", "--items=60",
        "--clusters=4", "--styles=4", "--modalities=image:8,text:6",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder


def reproduce(folder, artefact, *arguments):
    return command(
        "reproduce", f"--artefact={artefact}", f"--data_dir={folder}", "--datasets=made", "--backbones=vbpr",
        "--tuned=vbpr:reg=0.5,gamma=1", f"--runs_dir={folder / 'runs'}", f"--output_dir={folder / 'out'}",
        "--max_epochs=2", *arguments,
    )  # fmt: skip


@pytest.mark.slow
def test_every_artefact_is_written_from_runs_that_are_trained_once(folder):
    done = reproduce(folder, "all", "--seeds=0")
    assert done.returncode == 0, done.stderr
    out = folder / "out"
    tables = ["table1", "table2-made", "table3-made", "claims-made", "confounding-made"]
    figures = [f"fig{number}-made" for number in (1, 2, 3, 5, 6)]
    expected = [f"{t}.{s}" for t in tables for s in ("md", "tex", "csv")]
    expected += [f"{f}.{s}" for f in figures for s in ("png", "pdf", "csv")]
    assert sorted(file.name for file in out.iterdir()) == sorted(expected)
    for name in figures:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    table = pd.read_csv(out / "table2-made.csv")
    assert set(table["gamma"]) == {1} and "reg=0.5" in table["hyper-parameters"][0]
    assert set(table["seeds"]) == {0} and set(table["strategy"]) == {"vanilla", "d", "u"}
    assert {"gamma", "alpha", "beta", "iota", "hyper-parameters", "deviation", "p over users", "p over seeds"} <= set(
        table.columns
    )
    assert set(pd.read_csv(out / "table3-made.csv")["modalities"]) == {"image", "text", "image+text"}
    assert set(pd.read_csv(out / "fig2-made.csv")["percent"]) == {5, 10, 15, 20, 25}
    assert len(set(pd.read_csv(out / "fig6-made.csv")["strategy"])) == 5
    notes = (out / "table2-made.md").read_text()
    assert "seeds 0" in notes and "gamma 1," in notes

    configurations = {file: file.stat().st_mtime_ns for file in (folder / "runs").rglob("config.json")}
    # Of each run one more of plain BPR; Table 3's of both modalities is Table 2's.
    assert len(configurations) == 2 * (1 + 2)
    again = reproduce(folder, "table2", "--seeds=0,1", "--fewer_seeds=vbpr:1")
    assert again.returncode == 0 and "epoch" not in again.stderr
    assert {file: file.stat().st_mtime_ns for file in (folder / "runs").rglob("config.json")} == configurations

    # Finished within fewer epochs than they may take now, the runs go on.
    run = folder / "runs" / "made" / "vbpr" / "seed-0"
    more = reproduce(folder, "table2", "--max_epochs=3")
    assert more.returncode == 0, more.stderr
    assert len((run / "vanilla" / "metrics.jsonl").read_text().splitlines()) == 3

    # A modality alone is Table 3's.
    alone = reproduce(folder, "table2", "--modalities=image")
    assert alone.returncode == 0 and "epoch" not in alone.stderr
    assert set(pd.read_csv(out / "table2-made.csv")["modalities"]) == {"image"}

    # Runs of other values are not taken for those wanted.
    (run / "config.json").write_text((run / "config.json").read_text().replace('"gamma": 1.0', '"gamma": 0.1'))
    refused = reproduce(folder, "table2", "--max_epochs=3")
    assert refused.returncode == 1 and "gamma was 0.1, now 1.0" in refused.stderr


@pytest.mark.parametrize(("datasets", "message"), [("made,nosuch", "no such folder"), ("made,bare", "has no features")])
def test_what_is_wrong_with_the_last_dataset_is_found_before_the_first_is_trained(folder, datasets, message):
    (folder / "bare").mkdir(exist_ok=True)
    shutil.copy(folder / "made" / "made.inter", folder / "bare" / "bare.inter")
    done = reproduce(folder, "table2", f"--datasets={datasets}", f"--runs_dir={folder / 'none'}")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("artefact", "arguments", "message"),
    [
        ("table9", [], "table9"),
        ("table2", ["--backbones=vbpr,nothing"], "nothing"),
        ("table2", ["--modalities=image,image"], "--modalities"),
        ("table2", ["--seeds="], "--seeds"),
        ("table2", ["--fewer_seeds=vbpr:2"], "from 1 to 1"),
        ("table2", ["--fewer_seeds=mfbpr:1"], "mfbpr"),
        ("table2", ["--tuned=vbpr:gamma=1"], "vbpr:gamma=1"),
        ("table2", ["--tuned=mfbpr:reg=1"], "mfbpr"),
    ],
)
def test_what_does_not_exist_is_refused(folder, artefact, arguments, message):
    done = reproduce(folder, artefact, *arguments)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
