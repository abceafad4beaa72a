"""Every command on the pages runs as it is printed: in the pages' order, in one folder, on less data.

Of those that are not run here, the flags are read.
"""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from pages import PAGES, ROOT, commands_of, lines_of

from isolator_jax.data import SyntheticConfig, make_dataset, write_dataset

# What is not run here, and why.
SKIPPED = {
    "run_dir=runs/first": "tests/test_install.py runs it, from a wheel",
    "run_dir=runs/rounded": "but for JAX's variable before it, that one: its backbone is the default",
    "tutorial/": "tests/test_docs.py runs it, after the tutorial's Python",
    "--scaling": "measures in a dozen processes; tests/experiments/test_benchmark.py has the study",
    "--devices=4": "tests/devices/test_placement.py trains on four",
    "--page=": "all backbones; tests/experiments/test_commands.py writes one of a single backbone",
    "--profile": "takes no --measure; tests/experiments/test_profile.py profiles a step",
    "--coordinator": "waits for others; tests/devices/test_two_processes.py starts two",
    "/shared/": "for a cluster, whose hosts share the folder",
    "output_dir=study/": "searches like those before them, on data of other modalities",
    "output_dir=FOLDER": "twelve trainings on the embedded dataset; the searches before it are of the same kind",
    "sweeps/shared": "the search for sweeps/planted, to another folder",
    "sweeps/(mgcn|mfbpr|vbpr)": "no flags but those of sweeps/planted; tests/experiments/test_sweep_command.py has all",
    "fig1,fig": "tests/experiments/test_reproduce.py has all artefacts; the other one here has several backbones",
    "^report runs/planted": "tests/experiments/test_report.py writes the page of a run",
    "run_dir=study/longer": "tests/experiments/test_commands.py knocks modalities out of a training",
    "trainable_features": "a hyper-parameter of MGCN and GUME, which compile for as long as all the rest",
}
# What is no command of this project, or needs another library.
OTHERS = r"pip install|-m pytest|docs/audit_implicit.py"
# Less of it: what is given last counts, and the data are those of SMALL.
LESS = {
    "make_dataset": ["--users=120", "--items=80", "--modalities=image:12,text:8"],
    "train": ["--max_epochs=1"],
    "sweep": ["--max_epochs=1", "--seeds=0"],
    "reproduce": ["--max_epochs=1", "--seeds=0", "--backbones=mfbpr,vbpr"],
    "benchmark": ["--repeats=1", "--measure=ranking"],
}
SMALL = SyntheticConfig(users=120, items=80, modalities={"image": 12, "text": 8})
# Random data of fewer rows, measured once; backbones that compile in no time.
SMALLER = {
    r"^--(users|items|interactions|batch_size)=\d{6,}$": r"--\1=200",
    r"^--random_features=.*": "--random_features=image:12,text:8",
    r"^--measure=.*": "--measure=ranking",
    r"^--trials=.*": "--trials=2",
    r"^--grid=(reg=[^,]*),.*": r"--grid=\1",
    r"^--artefact=.*table3,.*": "--artefact=table2,fig2",
    r"^--(backbone|tuned)=mgcn\b": r"--\1=vbpr",
    r"^--(backbone|tuned)=gume\b": r"--\1=mfbpr",
}
# Cached for no other test.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": "",
}


def bring(folder):
    """The files that the pages take for granted: raw data and features, splits, a model's embeddings, lists."""
    dataset, truth = make_dataset(SMALL)
    for name in ("instruments", "baby", "tiktok"):  # in place of real ones
        write_dataset(folder / "data", name, dataset, truth, SMALL)
    splits = {"train": dataset.train, "valid": dataset.validation, "test": dataset.test}
    for name, split in splits.items():
        pd.DataFrame({"user": split.users, "item": split.items}).to_csv(folder / f"{name}.csv", index=False)
    rng = np.random.default_rng(0)
    raw = pd.concat([pd.read_csv(folder / f"{name}.csv") for name in splits]).sample(frac=1, random_state=0)
    raw["user"], raw["item"] = (raw[column].map(f"{column}-{{:03d}}".format) for column in ("user", "item"))
    raw["rating"], raw["timestamp"] = rng.integers(4, 6, len(raw)), rng.integers(10**9, 2 * 10**9, len(raw))
    raw.to_csv(folder / "ratings.csv.gz", index=False)
    raw.to_json(folder / "reviews.jsonl", orient="records", lines=True)
    for number, name in enumerate(("trained_on", "chosen_on", "tested_on")):
        raw.iloc[number::3][["user", "item"]].to_csv(folder / f"{name}.csv", index=False)
    items = [f"item-{item:03d}" for item in range(SMALL.items)]
    for name, features in dataset.features.items():
        np.save(folder / f"{name}.npy", features)
    (folder / "image_ids.txt").write_text("\n".join(items))
    vectors = list(rng.standard_normal((SMALL.items, 4)))
    pd.DataFrame({"item": items, "vector": vectors}).to_parquet(folder / "audio.parquet")
    words = [f"word{item % 7} and word{item % 5}" for item in range(SMALL.items)]
    pd.DataFrame({"item": items, "title": words, "description": words}).to_csv(folder / "items.csv", index=False)
    for name, count in (("users", SMALL.users), ("items", SMALL.items)):
        np.save(folder / f"{name}.npy", rng.standard_normal((count, 8)))
    lists = raw.groupby("user").head(3).assign(rank=lambda table: table.groupby("user").cumcount() + 1)
    for name in ("lists", "als", "knn"):
        lists[["user", "item", "rank"]].to_csv(folder / f"{name}.csv", index=False)
    runs = (f"{row.user} Q0 {row.item} {row.rank} {-row.rank} other" for row in lists.itertuples())
    (folder / "run.trec").write_text("\n".join(runs))


def printed():
    """The commands of all pages, each once, where it is first printed: those to run, and those not to."""
    commands = {(name, *arguments): page for page in PAGES for name, arguments in commands_of(page)}
    skipped = [command for command in commands if re.search("|".join(SKIPPED), " ".join(command))]
    return [command for command in commands if command not in skipped], skipped


def less(name, *arguments):
    for pattern, replacement in SMALLER.items():
        arguments = [re.sub(pattern, replacement, argument) for argument in arguments]
    return [name, [*arguments, *LESS.get(name, [])]]


@pytest.mark.slow
def test_every_command_of_the_pages_does_what_it_says(tmp_path):
    bring(tmp_path)
    commands, skipped = printed()
    assert len(commands) > 25
    started = [{"run": less(*command)} for command in commands]
    started += [{"read the flags of": (name, arguments)} for name, *arguments in skipped]
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "one_process.py"],
        input="\n".join(map(json.dumps, started)),
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(started), done.stderr
    for command, (code, errors, seconds) in zip(commands + skipped, results, strict=True):
        print(f"{seconds:.2f} s  {' '.join(command)}")
        assert code == 0 and "error" not in errors, f"{' '.join(command)}\n{errors}"
    for command in commands:
        for output in re.findall(r" --(?:run_dir|output|output_dir|json)=(\S+)", " ".join(command)):
            assert (tmp_path / output).exists() or "--dry_run" in command, f"{output} of {' '.join(command)}"


def test_what_else_is_in_the_blocks_is_known():
    lines = [line for page in PAGES for line in lines_of(page, "sh") if line.strip() and "isolator " not in line]
    assert lines and not [line for line in lines if not re.search(OTHERS, line)]
