"""Searches a backbone's hyper-parameters, gamma, alpha, beta and iota on validation data.

  isolator sweep --backbone=vbpr --data_dir=data --dataset=baby \\
      --output_dir=sweeps/vbpr --grid=reg=1,0.1,0.01 --gammas=0.01,0.1,1 --seeds=0,1,2

A training for each combination of --grid, for plain BPR and each gamma, and for each seed;
alpha, beta and iota cost none: all their settings are evaluated on each trained model in one
pass. What is best on validation, averaged over the seeds, is then tested, and nothing else is.
--aim says what U-ISOLATOR's setting is chosen for; where none qualifies, Vanilla's lists stand.
--gammas= with nothing behind it searches plain BPR alone, by Vanilla's Recall@20.

OUTPUT_DIR/trials holds a run folder for each training, `validation.csv` and
`validation.parquet` a row for each setting, `report.json` and `report.md` what was chosen and
its test result. The same command goes on where an interrupted search stopped. A training that
fails is recorded in its folder's `failure.json` and left out; delete that file to try again.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from absl import flags
from tqdm import tqdm

from isolator_jax.errors import CheckpointError, ConfigError, RunError, brief
from isolator_jax.evaluation import Settings, consistency_groups
from isolator_jax.files import write_atomically, write_json, write_text
from isolator_jax.reporting import search_markdown
from isolator_jax.runs import (
    Problem,
    is_finished,
    load_dataset,
    load_model,
    locked,
    make_problem,
    time_to_save,
    train_run,
)
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import RunConfig
from isolator_jax.training import EpochRecord, FitState
from isolator_jax.training.checkpoint import check_path

from .common import aim, cli, run_flags
from .common.parsing import check_output, parse_grid, parse_hparams, parse_numbers, parse_seeds
from .common.progress import progress

flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(aim)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the search's trials and results.", required=True)
_GRID = flags.DEFINE_multi_string("grid", [], "Values of one hyper-parameter, as name=value,value; may be repeated.")
_GAMMAS = flags.DEFINE_list(
    "gammas", ["0.001", "0.01", "0.1", "1"], "Exponents of the training strategy; --gammas= for plain BPR alone."
)
_ALPHAS = flags.DEFINE_list("alphas", [f"{x:g}" for x in Settings().alphas], "Values of alpha.")
_BETAS = flags.DEFINE_list("betas", [f"{x:g}" for x in Settings().betas], "Values of beta.")
_IOTAS = flags.DEFINE_list("iotas", [f"{x:g}" for x in Settings().iotas], "Values of iota.")
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds of each setting.")

_MOST_TRIALS = 10_000
_MOST_SETTINGS = 10_000

# Flags of a single run, and what a search has instead.
_REPLACED = {
    "gamma": "--gammas",
    "seed": "--seeds",
    "alpha": "--alphas",
    "beta": "--betas",
    "iota": "--iotas",
    "training_strategy": "plain BPR is always among the trials",
}


def main() -> None:
    for name, instead in _REPLACED.items():
        if flags.FLAGS[name].present:
            raise ConfigError(f"--{name} is of a single run; a search has {instead}")
    base = run_flags.config_from_flags()
    check_output("output_dir", _OUTPUT_DIR.value, folder=True)
    grid = parse_grid("grid", _GRID.value)
    if both := grid.keys() & parse_hparams("hparams", flags.FLAGS.hparams).keys():
        raise ConfigError(f"--grid and --hparams both set {', '.join(sorted(both))}; name it in one")
    gammas, settings = _gammas_and_settings()
    seeds = parse_seeds("seeds", _SEEDS.value)
    _refuse_too_many("trials", [*map(len, grid.values()), 1 + len(gammas), len(seeds)], _MOST_TRIALS)
    _refuse_too_many("settings of alpha, beta and iota", list(map(len, settings)), _MOST_SETTINGS)
    base = dataclasses.replace(base, training_strategy=bool(gammas))
    plan = Plan(base, grid, gammas, seeds, settings, aim.aim_from_flags(), Path(_OUTPUT_DIR.value))
    if len(plan.trials) < math.prod([*map(len, grid.values()), 1 + len(gammas), len(seeds)]):
        raise ConfigError("two trials have equal values in six digits, and so one folder; choose values further apart")
    check_path(plan.folder)
    problem = make_problem(base, load_dataset(base))
    with locked(plan.folder):
        run_search(plan, problem)


def _gammas_and_settings() -> tuple[list[float], Settings]:
    """The gammas of the search, and the settings of alpha, beta and iota: none where it is of plain BPR alone."""
    if not _GAMMAS.value:
        if given := [name for name in ("aim", "alphas", "betas", "iotas") if flags.FLAGS[name].present]:
            raise ConfigError(
                f"--{given[0]} is of U-ISOLATOR, and --gammas= searches plain BPR alone; leave one of them out"
            )
        return [], search.NO_SETTINGS
    values = {"alphas": _ALPHAS.value, "betas": _BETAS.value, "iotas": _IOTAS.value}
    settings = Settings(**{name: parse_numbers(name, parts) for name, parts in values.items()})
    return parse_numbers("gammas", _GAMMAS.value), settings


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search, as the flags ask for it.

    Attributes:
      base: what all trials share.
      grid, gammas, seeds, settings: what is searched; without gammas, plain BPR alone.
      aim: what alpha, beta and iota are chosen for, one of `evaluation.AIMS`.
      folder: where its trials and results are kept.
    """

    base: RunConfig
    grid: dict[str, list[str]]
    gammas: list[float]
    seeds: list[int]
    settings: Settings
    aim: str
    folder: Path

    @functools.cached_property
    def trials(self) -> dict[Path, RunConfig]:
        """Each training's configuration by its folder."""
        trials = search.make_trials(self.base, self.grid, self.gammas, self.seeds)
        return {self.folder / "trials" / search.trial_name(trial, self.grid): trial for trial in trials}


def run_search(plan: Plan, problem: Problem) -> None:
    """Runs what is missing of the trials, chooses, tests what was chosen, and writes the results."""
    folder, trials = plan.folder, plan.trials
    rows, trained = run_trials(list(trials.values()), list(trials), problem, plan.settings, cache_dir=folder / "cache")
    if not rows:
        raise RunError(f"all {len(trials)} trials failed; see failure.json in the folders of {folder / 'trials'}")
    table = pd.concat(rows, ignore_index=True)
    write_atomically(folder / "validation.csv", lambda draft: table.to_csv(draft, index=False))
    write_atomically(folder / "validation.parquet", lambda draft: table.to_parquet(draft, index=False))

    chosen = search.choose(table, list(plan.grid), plan.aim)
    tested = search.test_chosen(chosen, list(plan.grid), trials, problem, folder / "cache")
    report = {
        "config": plan.base.to_dict(),
        "grid": plan.grid,
        "gammas": plan.gammas,
        "seeds": plan.seeds,
        "settings": plan.settings._asdict(),
        "aim": plan.aim,
        "dataset": problem.dataset.counts(),
        "trainings": {
            "of the naive product": search.naive_trainings(list(trials.values()), plan.settings),
            "of this search": len(trials),
            "run now": trained,
            "failed": len(trials) - len(rows),
        },
        "chosen": tested,
        "none qualifies": search.without_setting(table, chosen),
    }
    if problem.content is not None:
        report["groups"] = consistency_groups(problem.content.consistency).summary()
    write_json(folder / "report.json", report)
    text = search_markdown(report)
    write_text(folder / "report.md", text)
    print("\n" + text)
    print(f"Written: {folder / 'report.json'}, {folder / 'report.md'}, {folder / 'validation.csv'}")


def _refuse_too_many(what: str, counts: list[int], most: int) -> None:
    if math.prod(counts) > most:
        raise ConfigError(f"{math.prod(counts)} {what} are more than {most}; search fewer values at a time")


def run_trials(
    trials: list[RunConfig], folders: list[Path], problem: Problem, settings: Settings, cache_dir: Path
) -> tuple[list[pd.DataFrame], int]:
    """Runs what is missing of the trials; the rows of those that have any, and how many were run."""
    rows, trained = [], 0
    with progress(total=len(trials), desc="trials", unit="trial") as bar, cli.stop_requests() as stop:
        for trial, folder in zip(trials, folders, strict=True):
            found = _finished_rows(trial, folder, problem, settings)
            if found is None and not (folder / "failure.json").exists():
                found = _run_trial(trial, folder, problem, settings, cache_dir, bar, stop)
                trained += 1
            rows += [] if found is None else [found]
            bar.update()
    return rows, trained


def _finished_rows(trial: RunConfig, folder: Path, problem: Problem, settings: Settings) -> pd.DataFrame | None:
    """The rows of a finished trial; None where it has none for these settings yet."""
    path = folder / "validation.parquet"
    if not is_finished(folder, trial, problem.dataset) or not path.exists():
        return None
    try:
        rows = pd.read_parquet(path)
    except Exception as error:  # of many types, from pyarrow
        raise RunError(
            f"{path}: cannot be read ({brief(error)}); delete it, and the trial is evaluated again"
        ) from None
    if not set(search.INFERENCE) < set(rows.columns):
        raise RunError(f"{path}: not the rows of a trial; delete it, and the trial is evaluated again")
    same = all(set(rows[name].dropna()) == set(values) for name, values in zip(search.INFERENCE, settings, strict=True))
    return rows if same else None


def _run_trial(
    trial: RunConfig,
    folder: Path,
    problem: Problem,
    settings: Settings,
    cache_dir: Path,
    bar: tqdm,
    stop: Callable[[], bool],
) -> pd.DataFrame | None:
    def show(state: FitState, record: EpochRecord) -> None:
        bar.set_postfix_str(
            f"{folder.name}: epoch {record.epoch}, R@20 {record.validation:.4f}", refresh=sys.stderr.isatty()
        )

    path = folder / "validation.parquet"
    path.unlink(missing_ok=True)  # of other settings, or of fewer epochs
    try:
        report = train_run(
            trial,
            problem,
            folder,
            checkpoint_every=time_to_save(30.0),
            cache_dir=cache_dir,
            splits=("validation",),
            on_epoch=show,
            stop=stop,
        )
        encoded, _ = load_model(folder, problem, cache_dir=cache_dir)
        rows = search.trial_rows(trial, report, problem, encoded, settings)
        write_atomically(path, lambda draft: rows.to_parquet(draft, index=False))
        return rows
    except (RunError, CheckpointError):
        raise
    except (RuntimeError, ValueError) as error:
        # TrainingDiverged and the device's out-of-memory error are RuntimeErrors.
        tqdm.write(f"failed: {folder.name}: {cli.one_line(error)}", file=sys.stderr)
        write_json(folder / "failure.json", {"error": type(error).__name__, "message": str(error)})
        return None


if __name__ == "__main__":
    cli.run(main)
