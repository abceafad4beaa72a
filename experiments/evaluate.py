"""Evaluates a trained run again: other list lengths, other U-ISOLATOR settings, either split.

  isolator evaluate --run_dir=runs/first --k=5,10,20,50 --alpha=4 --iota=1
  isolator evaluate --run_dir=runs/first --output_dir=values --trec_runs
  isolator evaluate --run_dir=runs/first --knock_out=image:shuffle

OUTPUT_DIR/per_user.parquet has a row for each user (original id, c_u, group, and every metric
under each strategy), and with --trec_runs each strategy's lists are STRATEGY.run, in original
ids. --knock_out takes a modality's content from the model as it is trained and from the
strategies; the metrics are of the true features.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from isolator_jax import processes
from isolator_jax.data.lists import refuse_blanks
from isolator_jax.errors import ConfigError
from isolator_jax.evaluation import Evaluation
from isolator_jax.files import write_json
from isolator_jax.reporting import knocked_out, metrics_table, tied_sentence
from isolator_jax.runs import Problem, evaluate_problem, load_run, original_ids, strategies_of
from isolator_jax.runs.config import RunConfig
from isolator_jax.runs.ids import OriginalIds

from .common import cli, devices, knock_out
from .common.outputs import check_output, files_of_run, refuse_inputs, refuse_values_of_others
from .common.parsing import check_list_length, parse_list_lengths
from .common.per_user import PER_USER, write_per_user, write_trec_runs

flags.adopt_module_key_flags(devices)
flags.adopt_module_key_flags(knock_out)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Run folder written by isolator train.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Held-out items to evaluate on.")
_K = flags.DEFINE_list("k", ["10", "20"], "List lengths.")
_ALPHA = flags.DEFINE_float("alpha", None, "U-ISOLATOR's alpha. Default: the run's.")
_BETA = flags.DEFINE_float("beta", None, "U-ISOLATOR's beta. Default: the run's.")
_IOTA = flags.DEFINE_float("iota", None, "U-ISOLATOR's iota. Default: the run's.")
_USER_CHUNK = flags.DEFINE_integer("user_chunk", 512, "Users scored at a time; the same results up to rounding.", 1)
_ITEM_CHUNK = flags.DEFINE_integer("item_chunk", 16384, "Items scored at a time; the same results up to rounding.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write the metrics, unrounded, to this file.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Also write each user's values, to per_user.parquet here.")
_TREC_RUNS = flags.DEFINE_bool(
    "trec_runs", False, "Also write each strategy's lists as a TREC run to --output_dir, in original ids."
)


def main() -> None:
    devices.join_processes()
    ks, output = processes.each(_checked_flags)
    config, problem, encoded, epoch = load_run(
        _RUN_DIR.value, devices.placement_from_flags(), knock_out=knock_out.knock_out_from_flags()
    )
    given = {"alpha": _ALPHA.value, "beta": _BETA.value, "iota": _IOTA.value}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = dataclasses.replace(config, **changes)
    check_list_length("k", max(ks), problem.dataset.num_items)
    ids = None if output is None else original_ids(config, problem.dataset.num_users, problem.dataset.num_items)
    if ids is not None and _TREC_RUNS.value:
        refuse_blanks(ids.users, ids.items)
    results = evaluate_problem(
        problem,
        encoded,
        _SPLIT.value,
        strategies_of(config, problem.content is not None),
        ks=ks,
        user_chunk=_USER_CHUNK.value,
        item_chunk=_ITEM_CHUNK.value,
    )
    processes.first(lambda: _report(config, problem, results, epoch, output, ids))


def _checked_flags() -> tuple[list[int], Path | None]:
    """The list lengths, and the folder of the users' values."""
    ks = parse_list_lengths("k", _K.value)
    if _JSON.value is not None:
        refuse_inputs([check_output("json", _JSON.value)], files_of_run(_RUN_DIR.value))
    output = None if _OUTPUT_DIR.value is None else check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    if _TREC_RUNS.value and output is None:
        raise ConfigError("--trec_runs needs --output_dir, the folder to write the runs to")
    if output is not None:
        refuse_values_of_others(output)
    return ks, output


def _report(
    config: RunConfig,
    problem: Problem,
    results: Mapping[str, Evaluation],
    epoch: int,
    output: Path | None,
    ids: OriginalIds | None,
) -> None:
    """Prints the metrics, and writes what was asked for."""
    _show(config, problem, results, epoch)
    if _JSON.value is not None:
        write_json(
            _JSON.value,
            {
                "config": config.to_dict(),
                "dataset": problem.dataset.counts(),
                "best_epoch": epoch,
                "split": _SPLIT.value,
                "metrics": {name: result.metrics for name, result in results.items()},
            },
        )
    if output is not None and ids is not None:
        _write_values(output, problem, results, ids)


def _show(config: RunConfig, problem: Problem, results: Mapping[str, Evaluation], epoch: int) -> None:
    metrics = {name: result.metrics for name, result in results.items()}
    print(
        f"{config.backbone} on {problem.dataset.name}, {_SPLIT.value}, seed {config.seed}, epoch {epoch}, "
        f"alpha {config.alpha:g}, beta {config.beta:g}, iota {config.iota:g}:\n"
    )
    if without := knocked_out(config.to_dict()):
        print(f"{without}\n")
    print(metrics_table(metrics, list(next(iter(metrics.values())))))
    groups = next(iter(results.values())).groups
    if note := tied_sentence(None if groups is None else groups.summary()):
        print(f"\n{note}")


def _write_values(folder: Path, problem: Problem, results: Mapping[str, Evaluation], ids: OriginalIds) -> None:
    write_per_user(folder, results, problem.content, ids)
    written = [PER_USER]
    if _TREC_RUNS.value:
        users = next(iter(results.values())).users
        written += write_trec_runs(folder, users, {name: result.lists for name, result in results.items()}, ids)
    print(f"\nWritten to {folder}: {', '.join(written)}")


if __name__ == "__main__":
    cli.run(main)
