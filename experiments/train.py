"""Trains a backbone with ISOLATOR and reports Vanilla, D-ISOLATOR and U-ISOLATOR side by side.

  python -m experiments.train --run_dir=runs/first
  python -m experiments.train --backbone=vbpr --data_dir=data --dataset=baby --run_dir=runs/vbpr-baby \\
      --hparams=reg=0.01,learning_rate=0.001

Without data flags it uses the embedded dataset. The model is trained with the training
strategy, and once more with plain BPR (in RUN_DIR/vanilla) for the Vanilla row. The same
command on an interrupted run folder resumes it.
"""

import dataclasses
import sys
import time
from pathlib import Path

from absl import flags
from tqdm import tqdm

from experiments import cli, devices, run_flags
from isolator_jax.config import ConfigError, RunConfig
from isolator_jax.reporting import metrics_table
from isolator_jax.run import Problem, load_dataset, make_problem, train_run, write_report
from isolator_jax.training import EpochRecord, FitState

flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(devices)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder for the run's results and checkpoints.", required=True)
_VANILLA = flags.DEFINE_bool(
    "vanilla", True, "Also train with plain BPR, for the Vanilla row; --novanilla saves that time."
)
_CHECKPOINT_SECONDS = flags.DEFINE_float(
    "checkpoint_seconds", 30.0, "Save a checkpoint when so many seconds have passed since the last; 0: each epoch.", 0.0
)


def main() -> None:
    config = run_flags.config_from_flags()
    if not config.training_strategy and flags.FLAGS["vanilla"].present:
        raise ConfigError("--vanilla adds plain BPR to a run with the training strategy; this one is plain BPR already")
    run_dir = Path(_RUN_DIR.value)
    problem = make_problem(config, load_dataset(config), devices.mesh_from_flags())
    report = _train(config, problem, run_dir)
    if config.training_strategy and _VANILLA.value:
        plain = dataclasses.replace(config, training_strategy=False)
        baseline = _train(plain, problem, run_dir / "vanilla")
        report["baseline"] = {name: baseline[name] for name in ("best_epoch", "epochs", "seconds_per_epoch")}
        for split in ("validation", "test"):
            report[split] = {"vanilla": baseline[split]["vanilla"], **report[split]}
        write_report(run_dir, report)
    print(f"\n{config.backbone} on {problem.dataset.name}, test, seed {config.seed}:\n")
    print(metrics_table(report["test"]))
    print(f"\nWritten: {run_dir / 'report.json'}, {run_dir / 'report.md'}")


def _train(config: RunConfig, problem: Problem, run_dir: Path) -> dict:
    label = "ISOLATOR" if config.training_strategy else "plain BPR"
    with tqdm(
        total=config.max_epochs,
        desc=f"{config.backbone} {label}",
        unit="epoch",
        # A log file gets a line every half minute instead of a moving bar.
        mininterval=0.2 if sys.stderr.isatty() else 30.0,
    ) as bar:

        def show(state: FitState, record: EpochRecord) -> None:
            best = f"{float(state.best_value):.4f} at {int(state.best_epoch)}"
            bar.set_postfix({"loss": f"{record.loss:.4f}", "R@20": f"{record.validation:.4f}", "best": best}, False)
            bar.update(record.epoch - bar.n)

        return train_run(config, problem, run_dir, checkpoint_every=_time_to_save(), on_epoch=show)


def _time_to_save():
    last = time.monotonic()

    def due(record: EpochRecord) -> bool:
        nonlocal last
        if time.monotonic() - last < _CHECKPOINT_SECONDS.value:
            return False
        last = time.monotonic()
        return True

    return due


if __name__ == "__main__":
    cli.run(main)
