"""Trains a backbone with ISOLATOR and reports Vanilla, D-ISOLATOR and U-ISOLATOR side by side.

  isolator train --run_dir=runs/first
  isolator train --backbone=vbpr --data_dir=data --dataset=baby --run_dir=runs/vbpr-baby \\
      --hparams=reg=0.01,learning_rate=0.001

Without data flags it uses the embedded dataset. The model is trained with the training
strategy, and once more with plain BPR (in RUN_DIR/vanilla) for the Vanilla row. The same
command on an interrupted run folder resumes it. --dry_run checks everything, trains a few steps
that are thrown away, and tells the memory and time that the run would take.
"""

import sys
from pathlib import Path

from absl import flags

from isolator_jax import processes
from isolator_jax.errors import ConfigError
from isolator_jax.reporting import metrics_table, tied_sentence
from isolator_jax.runs import check_run_folder, load_dataset, make_problem
from isolator_jax.runs.config import RunConfig

from .common import cli, devices, events, run_flags
from .common.estimate import estimate, estimate_table
from .common.outputs import check_output
from .common.training import train_and_show

flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(devices)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder for the run's results and checkpoints.", required=True)
_VANILLA = flags.DEFINE_bool(
    "vanilla", True, "Also train with plain BPR, for the Vanilla row; --novanilla saves that time."
)
_CHECKPOINT_SECONDS = flags.DEFINE_float(
    "checkpoint_seconds", 30.0, "Save a checkpoint when so many seconds have passed since the last; 0: each epoch.", 0.0
)
_TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Also write TensorBoard's event files, to RUN_DIR/tensorboard.")
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Check flags, data, folder and memory, estimate the time, and write nothing."
)


def main() -> None:
    devices.join_processes()
    config, run_dir = processes.each(_checked_flags)
    dataset = load_dataset(config)
    check_run_folder(run_dir, config, dataset)
    placement = devices.placement_from_flags()
    vanilla = config.training_strategy and _VANILLA.value
    if _DRY_RUN.value:
        print(estimate_table(estimate(config, dataset, placement, trainings=2 if vanilla else 1)))
        return
    problem = make_problem(config, dataset, placement)
    if vanilla:
        print(
            "Two trainings: ISOLATOR, then plain BPR for the Vanilla row; --novanilla leaves the second out.",
            file=sys.stderr,
        )
    report = train_and_show(
        config,
        problem,
        run_dir,
        vanilla=vanilla,
        checkpoint_seconds=_CHECKPOINT_SECONDS.value,
        tensorboard=_TENSORBOARD.value,
    )
    print(f"\n{config.backbone} on {problem.dataset.name}, test, seed {config.seed}:\n")
    print(metrics_table(report["test"]))
    if note := tied_sentence(report.get("groups")):
        print(f"\n{note}")
    print(f"\nWritten: {run_dir / 'report.json'}, {run_dir / 'report.md'}")


def _checked_flags() -> tuple[RunConfig, Path]:
    """The run's configuration and folder."""
    config = run_flags.config_from_flags()
    if not config.training_strategy and flags.FLAGS["vanilla"].present:
        raise ConfigError("--vanilla adds plain BPR to a run with the training strategy; this one is plain BPR already")
    run_dir = check_output("run_dir", _RUN_DIR.value, folder=True)
    if _TENSORBOARD.value:
        events.check_installed()
    if _DRY_RUN.value and processes.count() > 1:
        raise ConfigError("--dry_run estimates what one process takes; give it to one, with --num_processes=1")
    return config, run_dir


if __name__ == "__main__":
    cli.run(main)
