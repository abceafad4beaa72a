"""Evaluates a trained run again: other list lengths, other U-ISOLATOR settings, either split.

isolator evaluate --run_dir=runs/first --k=5,10,20,50 --alpha=4 --iota=1
"""

import dataclasses
from typing import Any

from absl import flags

from isolator_jax.files import write_json
from isolator_jax.reporting import metrics_table, tied_sentence
from isolator_jax.runs import evaluate_problem, load_run, strategies_of

from .common import cli, devices
from .common.parsing import check_list_length, check_output, parse_list_lengths

flags.adopt_module_key_flags(devices)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Run folder written by isolator train.", required=True)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Held-out items to evaluate on.")
_K = flags.DEFINE_list("k", ["10", "20"], "List lengths.")
_ALPHA = flags.DEFINE_float("alpha", None, "U-ISOLATOR's alpha. Default: the run's.")
_BETA = flags.DEFINE_float("beta", None, "U-ISOLATOR's beta. Default: the run's.")
_IOTA = flags.DEFINE_float("iota", None, "U-ISOLATOR's iota. Default: the run's.")
_USER_CHUNK = flags.DEFINE_integer("user_chunk", 512, "Users scored at a time; changes no result.", 1)
_ITEM_CHUNK = flags.DEFINE_integer("item_chunk", 16384, "Items scored at a time; changes no result.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write the metrics, unrounded, to this file.")


def main() -> None:
    ks = parse_list_lengths("k", _K.value)
    if _JSON.value is not None:
        check_output("json", _JSON.value)
    config, problem, encoded, epoch = load_run(_RUN_DIR.value, devices.placement_from_flags())
    given = {"alpha": _ALPHA.value, "beta": _BETA.value, "iota": _IOTA.value}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = dataclasses.replace(config, **changes)
    check_list_length("k", max(ks), problem.dataset.num_items)
    results = evaluate_problem(
        problem,
        encoded,
        _SPLIT.value,
        strategies_of(config, problem.content is not None),
        ks=ks,
        user_chunk=_USER_CHUNK.value,
        item_chunk=_ITEM_CHUNK.value,
    )
    metrics = {name: result.metrics for name, result in results.items()}
    columns = list(next(iter(metrics.values())))
    print(
        f"{config.backbone} on {problem.dataset.name}, {_SPLIT.value}, seed {config.seed}, epoch {epoch}, "
        f"alpha {config.alpha:g}, beta {config.beta:g}, iota {config.iota:g}:\n"
    )
    print(metrics_table(metrics, columns))
    groups = next(iter(results.values())).groups
    if note := tied_sentence(None if groups is None else groups.summary()):
        print(f"\n{note}")
    if _JSON.value is not None:
        write_json(
            _JSON.value,
            {
                "config": config.to_dict(),
                "dataset": problem.dataset.counts(),
                "best_epoch": epoch,
                "split": _SPLIT.value,
                "metrics": metrics,
            },
        )


if __name__ == "__main__":
    cli.run(main)
