"""Trains a backbone with ISOLATOR and reports Vanilla, D-ISOLATOR and U-ISOLATOR side by side.

  python -m experiments.train --run_dir=runs/first
  python -m experiments.train --backbone=vbpr --data_dir=data --dataset=baby --run_dir=runs/vbpr-baby \\
      --hparams=reg=0.01,learning_rate=0.001

Without data flags it uses the embedded dataset. The model is trained with the training
strategy, and once more with plain BPR (in RUN_DIR/vanilla) for the Vanilla row. The same
command on an interrupted run folder resumes it.
"""

from pathlib import Path

from absl import flags

from experiments import cli, devices, run_flags
from experiments.training import train_with_baseline
from isolator_jax.config import ConfigError
from isolator_jax.reporting import metrics_table
from isolator_jax.run import load_dataset, make_problem

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
    report = train_with_baseline(
        config,
        problem,
        run_dir,
        baseline=config.training_strategy and _VANILLA.value,
        checkpoint_seconds=_CHECKPOINT_SECONDS.value,
    )
    print(f"\n{config.backbone} on {problem.dataset.name}, test, seed {config.seed}:\n")
    print(metrics_table(report["test"]))
    print(f"\nWritten: {run_dir / 'report.json'}, {run_dir / 'report.md'}")


if __name__ == "__main__":
    cli.run(main)
