"""Measures a backbone's training, validation and memory on this machine, against what its device can do.

  isolator benchmark --backbone=lightgcn --data_dir=data --dataset=baby \\
      --random_features=image:4096,text:384 --json=lightgcn.json
  isolator benchmark --backbone=lightgcn --users=100000 --items=50000 --interactions=1000000 --dim=64
  isolator benchmark --backbone=lightgcn --scaling
  isolator benchmark --backbone=gume --data_dir=data --dataset=baby --profile
  isolator benchmark --page=gpu.md --data_dir=data --dataset=baby

Every time is the median over --repeats runs after compilation and one warm-up, with the
interquartile range as its spread; compile time is apart. Times are comparable within one
run, not across machines or loads. Rates are shares of a copy and a matrix product
measured in the same run. Bytes and operations of a training step and of a propagation are
counted, each gathered row once an edge: what stays in caches can lift a share above one.
The floor of a step is the time of its products, at the rates measured in the same run, and
of reading and writing its parameters and their moments once.

--page does all of it for every backbone and writes a page: what a GPU or TPU is measured with.

--profile traces a few steps and adds up what the compiled instructions took, by the function
of this package that they come from and one by one. A fused instruction is named after its
last operation. Products that the CPU hands to other threads (the sparse ones, and some of
the dense) are in no trace: the time until the next instruction starts is counted as theirs.
Instructions that run at the same time are each counted in full. The floor of one is its
operands and result, read and written once at the rate of a copy, or its products at the rate
of a matrix product, whichever takes longer; a table of which some rows are gathered counts whole.
"""

import dataclasses
import json
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
from absl import flags
from tabulate import tabulate

from isolator_jax.backbones import BACKBONES
from isolator_jax.data import Dataset
from isolator_jax.errors import ConfigError, RunError
from isolator_jax.files import write_json, write_text
from isolator_jax.graph import bipartite_graph
from isolator_jax.runs import load_dataset, make_learner, make_problem
from isolator_jax.runs.config import RunConfig

from .common import cli, run_flags
from .common.outputs import check_output, refuse_inputs
from .common.parsing import parse_hparams, parse_widths
from .common.process import run_child
from .common.progress import progress
from .measure import scaling
from .measure.measuring import PARTS, measure
from .measure.page import measure_sparse, write_page
from .measure.profile import profile
from .measure.random_data import check_sizes, random_dataset, with_random_features

_SCALING_BASE = {"users": 4000, "items": 2000, "interactions": 40000, "dim": 64}
_OF_WHOLE_RUNS = ("max_epochs", "patience")
# Rows of a profile that are printed; all of them go into the file.
_SHOWN = 20

flags.adopt_module_key_flags(run_flags)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each measurement.", 1)
_USERS = flags.DEFINE_integer("users", None, "Users of a random dataset, in place of a real one.")
_ITEMS = flags.DEFINE_integer("items", None, "Items of the random dataset.")
_INTERACTIONS = flags.DEFINE_integer(
    "interactions", None, "Interactions of the random dataset, held-out ones included."
)
_DIM = flags.DEFINE_integer("dim", None, "Embedding width, as --hparams=dim=N.", 1)
_RANDOM_FEATURES = flags.DEFINE_list(
    "random_features",
    None,
    "Replace the dataset's features by Gaussian ones, as name:width,name:width; for speed on data without content. "
    "Default for a random dataset: image:64,text:32.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    None,
    ["float32", "tensorfloat32", "bfloat16"],
    "Precision of matrix products (embeddings_error is that of the embeddings against float32). Default: float32, "
    "unless JAX is told otherwise.",
)
_SCALING = flags.DEFINE_bool(
    "scaling",
    False,
    "Scaling study on random data: users, items, interactions and width doubled in turn, and the exponents of growth.",
)
_PROFILE = flags.DEFINE_bool("profile", False, "In place of the measurements: where a training step's time goes.")
_MEASURE = flags.DEFINE_multi_enum("measure", list(PARTS), PARTS, "What to measure; give the flag once for each.")
_RANKED_USERS = flags.DEFINE_integer(
    "ranked_users", None, "Rank for so many users, drawn at random. Default: all that have validation items.", 1
)
_PAGE = flags.DEFINE_string(
    "page",
    None,
    "Write this Markdown file: tests, all backbones (or the one given), and sparse products on this device.",
)
_PAGE_TESTS = flags.DEFINE_bool("page_tests", True, "With --page: run the tests first, where the checkout has them.")
_JSON = flags.DEFINE_string("json", None, "Also write the measurements to this file.")


def main() -> None:
    for name in _OF_WHOLE_RUNS:
        if flags.FLAGS[name].present:
            raise ConfigError(f"--{name} is of a whole training; a benchmark takes --repeats epochs")
    if _JSON.value is not None:
        check_output("json", _JSON.value)
    if _DIM.value is not None and "dim" in parse_hparams("hparams", flags.FLAGS.hparams):
        raise ConfigError("--dim and --hparams=dim=N are the same; give one")
    if _SCALING.value and flags.FLAGS.dataset is not None:
        raise ConfigError("--scaling makes its own data; leave out --data_dir and --dataset")
    if _SCALING.value and "dim" in parse_hparams("hparams", flags.FLAGS.hparams):
        raise ConfigError("--scaling doubles the width, from --dim on; give that in place of --hparams=dim=N")
    if _RANKED_USERS.value is not None and "ranking" not in _MEASURE.value:
        raise ConfigError("--ranked_users is of --measure=ranking, which is not wanted")
    given = [f"--{flag.name}" for flag in (_SCALING, _PROFILE, _PAGE) if flag.value]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other; give one")
    if given and set(_MEASURE.value) != set(PARTS):
        raise ConfigError(f"{given[0]} measures what it needs; leave out --measure")
    if _RANKED_USERS.value is not None and (_PROFILE.value or _SCALING.value):
        raise ConfigError(f"--ranked_users: {given[0]} ranks nobody")
    if _PAGE.value:
        page = check_output("page", _PAGE.value)
        if _JSON.value is not None:
            refuse_inputs([Path(_JSON.value)], [page])
        results = _page(_PAGE.value)
    elif _SCALING.value:
        results = _scaling_study()
    else:
        config, dataset = _config(), _dataset(run_flags.config_from_flags())
        with nullcontext() if _PRECISION.value is None else jax.default_matmul_precision(_PRECISION.value):
            if _PROFILE.value:
                results = profile(make_learner(config, make_problem(config, dataset)), config.seed, _REPEATS.value)
                _print_profile(results)
            else:
                results = measure(config, dataset, _REPEATS.value, _MEASURE.value, _RANKED_USERS.value)
                _print_table(["measurement", "value"], results.items())
        results = {"config": config.to_dict(), "dataset": dataset.counts(), **results}
    if _JSON.value is not None:
        write_json(_JSON.value, results)


def _config() -> RunConfig:
    config = run_flags.config_from_flags()
    return config if _DIM.value is None else dataclasses.replace(config, hparams={**config.hparams, "dim": _DIM.value})


def _dataset(config: RunConfig) -> Dataset:
    sizes = [_USERS.value, _ITEMS.value, _INTERACTIONS.value]
    made = [size for size in sizes if size is not None]
    if made and (len(made) < len(sizes) or config.dataset is not None):
        raise ConfigError("--users, --items and --interactions go together, and in place of --data_dir and --dataset")
    if (made or _RANDOM_FEATURES.value) and config.modalities is not None:
        raise ConfigError("--modalities: random features are named by --random_features; leave one out")
    dataset = random_dataset(*made) if made else load_dataset(config)
    widths = _RANDOM_FEATURES.value or (["image:64", "text:32"] if made else None)
    if widths is not None:
        dataset = with_random_features(dataset, parse_widths("random_features", widths))
    if not dataset.features:
        raise ConfigError(
            f"dataset {dataset.name} has no features; add --random_features=image:4096,text:384 to measure with"
        )
    return dataset


def _scaling_study() -> dict[str, Any]:
    """Each size is a process of its own: peak memory never falls within one."""
    given = {"users": _USERS.value, "items": _ITEMS.value, "interactions": _INTERACTIONS.value, "dim": _DIM.value}
    base = {axis: _SCALING_BASE[axis] if value is None else value for axis, value in given.items()}
    points = scaling.points(base)
    for _, sizes in points:
        check_sizes(sizes["users"], sizes["items"], sizes["interactions"])
    with tempfile.TemporaryDirectory() as folder:

        def measure_apart(sizes: scaling.Sizes) -> dict[str, Any]:
            return _measured_apart(folder, "--noscaling", *(f"--{name}={size}" for name, size in sizes.items()))

        rows = scaling.study(points, measure_apart)
    fitted = scaling.exponents(rows)
    _print_table([*scaling.AXES, *scaling.MEASURED], ([row[n] for n in row if n != "axis"] for row in rows))
    print("\nExponents of growth:\n")
    _print_table(["doubled", *scaling.MEASURED], ([axis, *values.values()] for axis, values in fitted.items()))
    return {"base": base, "rows": rows, "exponents": fitted}


def _measured_apart(folder: str, *arguments: str) -> dict[str, Any]:
    """What this command measures with other flags besides, in a process of its own."""
    out = Path(folder) / "results.json"
    command = [sys.executable, "-m", f"{__package__}.benchmark", *sys.argv[1:], f"--json={out}", *arguments]
    done = run_child(command)
    if done.returncode != 0:
        raise RunError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return json.loads(out.read_text(encoding="utf-8"))


def _page(path: str) -> dict[str, Any]:
    """Each backbone in a process of its own, one after the other; the device must be free between them."""
    dataset = _dataset(_config())  # what is wrong with it is told before the tests run
    tests = Path(__file__).resolve().parents[1] / "tests"
    ended = "not run"
    if _PAGE_TESTS.value and tests.is_dir():
        command = [sys.executable, "-m", "pytest", "-q", str(tests)]
        done = run_child(command)
        ended = (done.stdout.strip() or done.stderr.strip()).rpartition("\n")[2]
    names = [flags.FLAGS.backbone] if flags.FLAGS["backbone"].present else list(BACKBONES)
    measured = [f"--measure={part}" for part in ("training", "ranking", "propagation")]
    with tempfile.TemporaryDirectory() as folder:
        results = {
            name: _measured_apart(folder, "--page=", f"--backbone={name}", *measured)
            for name in progress(names, desc="page", unit="backbone")
        }
    graph = bipartite_graph(dataset.train.users, dataset.train.items, dataset.num_users, dataset.num_items)
    products = measure_sparse(graph, next(iter(results.values()))["width"], _REPEATS.value)
    text = write_page(results, products, f"`isolator benchmark {' '.join(sys.argv[1:])}`", ended)
    write_text(path, text)
    print(text)
    return {"tests": ended, "backbones": results, "sparse_products": products}


def _print_profile(results: dict[str, Any]) -> None:
    step, idle = (1e3 * results[name] for name in ("traced_step_seconds", "idle_seconds"))
    plain = 1e3 * results["step_seconds"]
    print(f"A step takes {plain:.4g} ms, traced {step:.4g}, of which {idle:.4g} under no instruction.\n")

    def measured(row: dict[str, Any]) -> list[Any]:
        rate = row["bytes"] / row["seconds"] / 1e9 if row["seconds"] else 0.0
        return [1e3 * row["seconds"], f"{row['share']:.1%}", 1e3 * row["floor_seconds"], row["bytes"] / 1e6, rate]

    numbers = ["ms a step", "share", "floor ms", "MB", "GB/s"]
    places = results["places"][:_SHOWN]
    _print_table(["function", "", *numbers], ([row["place"], row["direction"], *measured(row)] for row in places))
    print()
    shown = ("place", "direction", "operation", "shape", "name")
    rows = ([*(row[name] for name in shown), *measured(row)] for row in results["instructions"][:_SHOWN])
    _print_table(["function", "", "operation", "result", "instruction", *numbers], rows)


def _print_table(headers: list[str], rows: Any) -> None:
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    print(tabulate(cells, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    cli.run(main, without=_OF_WHOLE_RUNS)
