"""Searches a backbone's hyper-parameters, gamma, alpha, beta and iota on validation data.

  isolator sweep --backbone=vbpr --data_dir=data --dataset=baby \\
      --output_dir=sweeps/vbpr --grid=reg=1,0.1,0.01 --gammas=0.01,0.1,1 --seeds=0,1,2

A training for each combination of --grid, for plain BPR and each gamma, and for each seed;
alpha, beta and iota cost none: all their settings are evaluated on each trained model in one
pass. What is best on validation, averaged over the seeds, is then tested, and nothing else is.
--aim says what U-ISOLATOR's setting is chosen for; where none qualifies, Vanilla's lists stand.
--gammas= with nothing behind it searches plain BPR alone, by Vanilla's Recall@20.

The same command, given any number of times on one machine or several that share OUTPUT_DIR,
searches faster: each takes trials that no other holds, also those of one that died, waits for
the last, and ends with the same results.

  isolator sweep --backbone=vbpr --data_dir=data --dataset=baby --output_dir=sweeps/drawn \\
      --sampler=optuna --trials=30 --space=reg=1e-4..1:log,gamma=0.001..1:log

--sampler=optuna draws --trials settings of plain BPR, then as many with gamma, from the ranges
of --space and the values of --grid and --gammas, by what is best so far.

OUTPUT_DIR/trials holds a run folder for each training, `validation.csv` and
`validation.parquet` a row for each setting, `report.json` and `report.md` what was chosen and
its test result. The same command goes on where an interrupted search stopped. A training that
fails, or whose process is killed three times without a checkpoint between, as where memory is
short, is recorded in its folder's `failure.json` and left out; delete that file to try again.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd
from absl import flags

from isolator_jax.errors import ConfigError, RunError
from isolator_jax.evaluation import Settings, consistency_groups
from isolator_jax.files import write_atomically, write_json, write_text
from isolator_jax.reporting import search_markdown
from isolator_jax.runs import Problem, load_dataset, locked, make_problem, sampler
from isolator_jax.runs import sweep as search
from isolator_jax.runs.config import RunConfig
from isolator_jax.training.checkpoint import check_path

from .common import aim, cli, run_flags
from .common.outputs import check_output
from .common.parsing import parse_grid, parse_hparams, parse_numbers, parse_seeds, parse_space
from .common.progress import progress
from .common.search_plan import Plan, ranges_of
from .common.studies import run_studies
from .common.worker import Worker

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
_SAMPLER = flags.DEFINE_enum(
    "sampler", "grid", ["grid", "optuna"], "Whether every setting is tried, or some are drawn by Optuna."
)
_TRIALS = flags.DEFINE_integer(
    "trials", None, "How many settings are drawn, of plain BPR and with gamma each; each is trained with every seed."
)
_SPACE = flags.DEFINE_multi_string(
    "space",
    [],
    "What numbers are drawn from, gamma among them, as name=low..high or, evenly by logarithm, name=low..high:log, "
    "with commas between; may be repeated.",
)
_SAMPLER_SEED = flags.DEFINE_integer("sampler_seed", 0, "Seed of what is drawn.")

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
    draws, space = _draws_and_space(base.backbone)
    _refuse_twice("--grid and --space", grid, space)
    _refuse_twice("--grid or --space, and --hparams", [*grid, *space], parse_hparams("hparams", flags.FLAGS.hparams))
    gammas, settings = _gammas_and_settings(space.pop("gamma", None))
    plan = Plan(
        base=dataclasses.replace(base, training_strategy=bool(gammas)),
        grid=grid,
        gammas=gammas,
        seeds=parse_seeds("seeds", _SEEDS.value),
        settings=settings,
        aim=aim.aim_from_flags(),
        folder=Path(_OUTPUT_DIR.value),
        space=space,
        draws=draws,
        sampler_seed=_SAMPLER_SEED.value,
    )
    plan.check()
    check_path(plan.folder)
    run_search(plan, make_problem(plan.base, load_dataset(plan.base)))


def _draws_and_space(backbone: str) -> tuple[int | None, dict[str, sampler.Range]]:
    """How many settings are drawn, and what from; None and nothing where the grid is searched whole."""
    if _SAMPLER.value == "grid":
        if given := [name for name in ("trials", "space", "sampler_seed") if flags.FLAGS[name].present]:
            raise ConfigError(f"--{given[0]} is of settings that are drawn; add --sampler=optuna, or leave it out")
        return None, {}
    sampler.check_installed()
    if _TRIALS.value is None or _TRIALS.value < 1:
        raise ConfigError(f"--sampler=optuna needs --trials, how many settings to draw; got {_TRIALS.value}")
    if not 0 <= _SAMPLER_SEED.value < 2**32:
        raise ConfigError(f"--sampler_seed must lie in 0 .. 2**32 - 1, got {_SAMPLER_SEED.value}")
    return _TRIALS.value, ranges_of(backbone, parse_space("space", _SPACE.value))


def _refuse_twice(where: str, names: Sequence[str] | Mapping[str, object], others: Mapping[str, object]) -> None:
    if both := set(names) & set(others):
        raise ConfigError(f"{where} both set {', '.join(sorted(both))}; name it in one")


def _gammas_and_settings(drawn: sampler.Range | None) -> tuple[Sequence[float] | sampler.Range, Settings]:
    """The gammas of the search, and the settings of alpha, beta and iota: none where it is of plain BPR alone."""
    if drawn is not None and flags.FLAGS["gammas"].present:
        raise ConfigError("--space and --gammas both set gamma; name it in one")
    if not _GAMMAS.value:
        if given := [name for name in ("aim", "alphas", "betas", "iotas") if flags.FLAGS[name].present]:
            raise ConfigError(
                f"--{given[0]} is of U-ISOLATOR, and --gammas= searches plain BPR alone; leave one of them out"
            )
        return [], search.NO_SETTINGS
    values = {"alphas": _ALPHAS.value, "betas": _BETAS.value, "iotas": _IOTAS.value}
    settings = Settings(**{name: parse_numbers(name, parts) for name, parts in values.items()})
    return drawn or parse_numbers("gammas", _GAMMAS.value), settings


def run_search(plan: Plan, problem: Problem) -> None:
    """Runs what nobody else runs of the trials, chooses, tests what was chosen, and writes the results."""
    with progress(total=plan.total, desc="trials", unit="trial") as bar, cli.stop_requests() as stop:
        worker = Worker(problem, plan.settings, plan.folder / "cache", bar, stop)
        if plan.draws is None:
            trials = plan.trials
            worker.run(trials)
        else:
            trials = run_studies(plan, worker, problem.dataset.fingerprint(), stop)
    rows = {folder: worker.rows[folder] for folder in trials}
    table = _table(plan, rows.values())
    report = _report(plan, trials, rows, table, problem)
    text = search_markdown(report)
    # Every worker comes here and writes the same; together, so that no two are mixed.
    with locked(plan.folder, wait=True):
        write_atomically(plan.folder / "validation.csv", lambda draft: table.to_csv(draft, index=False))
        write_atomically(plan.folder / "validation.parquet", lambda draft: table.to_parquet(draft, index=False))
        write_json(plan.folder / "report.json", report)
        write_text(plan.folder / "report.md", text)
    print("\n" + text)
    print(f"Trained by this worker: {worker.trained} of {len(trials)}.")
    print("Written: " + ", ".join(str(plan.folder / name) for name in ("report.json", "report.md", "validation.csv")))


def _table(plan: Plan, rows: Collection[pd.DataFrame | None]) -> pd.DataFrame:
    found = [table for table in rows if table is not None]
    if not found:
        raise RunError(f"all {len(rows)} trials failed; see failure.json in the folders of {plan.folder / 'trials'}")
    return pd.concat(found, ignore_index=True)


def _report(
    plan: Plan,
    trials: Mapping[Path, RunConfig],
    rows: Mapping[Path, pd.DataFrame | None],
    table: pd.DataFrame,
    problem: Problem,
) -> dict[str, object]:
    """What was chosen, and its test result: the same from every worker."""
    checkpoints = {folder: found.attrs["checkpoint"] for folder, found in rows.items() if found is not None}
    failed = len(rows) - len(checkpoints)
    chosen = search.choose(table, plan.searched, plan.aim, seeds=len(plan.seeds))
    if chosen.empty:
        raise RunError(
            f"no setting has all its {len(plan.seeds)} seeds, {failed} of {len(trials)} trials failed; see "
            f"failure.json in the folders of {plan.folder / 'trials'}"
        )
    report: dict[str, object] = {
        "config": plan.base.to_dict(),
        "grid": plan.grid,
        "gammas": _described(plan.gammas),
        "seeds": plan.seeds,
        "settings": plan.settings._asdict(),
        "aim": plan.aim,
        "searched": plan.searched,
        "space": {name: _described(values) for name, values in plan.space.items()},
        "drawn": None if plan.draws is None else {"trials": plan.draws, "sampler_seed": plan.sampler_seed},
        "dataset": problem.dataset.counts(),
        "trainings": {
            "of the naive product": search.naive_trainings(list(trials.values()), plan.settings),
            "of this search": len(trials),
            "failed": failed,
        },
        "chosen": search.test_chosen(chosen, plan.searched, trials, problem, plan.folder / "cache", checkpoints),
        "none qualifies": search.without_setting(table, chosen),
    }
    if problem.content is not None:
        report["groups"] = consistency_groups(problem.content.consistency).summary()
    return report


def _described(values: Sequence[float] | sampler.Range) -> object:
    return values._asdict() if isinstance(values, sampler.Range) else values


if __name__ == "__main__":
    cli.run(main, without=_REPLACED)
