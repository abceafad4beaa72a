"""Writes one self-contained HTML page about one or several runs: tables, figures, a user's lists.

  isolator report runs/first --output=report.html
  isolator report runs/vbpr-baby runs/mgcn-baby --output=baby.html --user=17

Each run folder is one that isolator train has finished; its `vanilla` subfolder, where it
has one, gives the Vanilla rows. The page needs no network and no scripts. The figures need
matplotlib and jinja2: pip install 'isolator-jax[plots]'.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import flags

from isolator_jax.backbones import Encoded
from isolator_jax.content import Content
from isolator_jax.data import Dataset
from isolator_jax.errors import ConfigError, RunError, brief
from isolator_jax.evaluation import Evaluation, Groups, Settings, consistency_groups, evaluate_settings, ucbias
from isolator_jax.evaluation.bias import measured_summary
from isolator_jax.evaluation.metrics import RECALL, UCBIAS, UCBIAS_K
from isolator_jax.evaluation.significance import bootstrap_ucbias
from isolator_jax.files import write_text
from isolator_jax.reporting.views import SPLITS, Curve, Interval, ListItem, RunView, SettingsMetrics, UserExample
from isolator_jax.runs import (
    Problem,
    evaluate_problem,
    load_dataset,
    load_model,
    load_run,
    original_ids,
    read_metrics,
    read_report,
    strategies_of,
    vanilla_folder,
)
from isolator_jax.runs.config import EXTENDABLE, RunConfig
from isolator_jax.similarity import SimilarityFromFeatures
from isolator_jax.strategies import MAIN, STRATEGIES, name_beside_others

from .common import cli
from .common.outputs import check_output, files_of_run, refuse_inputs
from .common.progress import progress

_OUTPUT = flags.DEFINE_string("output", None, "HTML file to write.", required=True)
_USER = flags.DEFINE_string(
    "user", None, "Id of the user whose lists are shown. Default: one with test items and a history of median length."
)


def main(*run_dirs: str) -> None:
    try:
        from isolator_jax.reporting.page import report_page
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error}; the report needs matplotlib and jinja2: pip install 'isolator-jax[plots]'"
        ) from None
    output, folders = check_output("output", _OUTPUT.value), [Path(run_dir) for run_dir in run_dirs]
    for folder in folders:
        refuse_inputs([output], files_of_run(folder))
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("a RUN_DIR is given twice; give each once")
    # What can be wrong is found before the first run is evaluated.
    for folder in folders:
        report = _read_whole_report(folder)
        if vanilla_folder(folder).is_dir():
            _read_whole_report(vanilla_folder(folder))
        config = RunConfig.from_dict(report["config"])
        if config.dataset is not None and config.data_dir is not None:
            refuse_inputs([output], (Path(config.data_dir) / config.dataset).glob("*"))
        if _USER.value is not None:
            _find_user(config, load_dataset(config), _USER.value)
    named = zip(folders, _names(folders), strict=True)
    shown = progress(named, total=len(folders), desc="reading", unit="run")
    runs = [_view(folder, name, _USER.value) for folder, name in shown]
    write_text(_OUTPUT.value, report_page(runs))
    print(f"Written: {_OUTPUT.value}")


def _read_whole_report(folder: Path) -> dict:
    """A run's report.

    Raises:
      RunError: no finished run, or one that was not evaluated on all splits, as a search's are not.
    """
    report = read_report(folder)
    missing = [split for split in SPLITS if split not in report]
    if missing:
        raise RunError(
            f"{folder}: its report has no {' and no '.join(missing)} results; "
            "give a run folder that isolator train has finished"
        )
    return report


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their paths where two have the same name."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _view(folder: Path, name: str, user: str | None) -> RunView:
    """Reads a run back and evaluates what its report does not hold."""
    reports = [read_report(folder)]
    config, problem, encoded, _ = load_run(folder, checkpoint=reports[0]["checkpoint"])
    _refuse_other_settings(folder, RunConfig.from_dict(reports[0]["config"]), config)
    content = problem.content
    curves, results = [_curve(folder, config)], _evaluate(problem, config, encoded)
    plain_folder = vanilla_folder(folder)
    if plain_folder.is_dir():
        reports.append(read_report(plain_folder))
        plain = RunConfig.from_dict(reports[1]["config"])
        _refuse_other_settings(plain_folder, plain, config)
        curves.append(_curve(plain_folder, plain))
        encoded_of_plain, _ = load_model(
            plain_folder, problem, cache_dir=folder / "cache", checkpoint=reports[1]["checkpoint"]
        )
        results |= _evaluate(problem, plain, encoded_of_plain)
    if content is not None and np.isnan(content.consistency).all():
        content = None  # nobody has groups
    groups = None if content is None else consistency_groups(content.consistency)
    recalls = next(iter(results.values()))  # every strategy's are of the same users
    return RunView(
        name=name,
        data=problem.dataset.fingerprint(),
        report=reports[0],
        metrics={split: _metrics(reports, split) for split in SPLITS},
        curves=curves,
        ucbias={
            strategy: _interval(results[strategy], groups) for strategy in STRATEGIES if groups and strategy in results
        },
        consistency=None if content is None else content.consistency,
        groups=groups,
        groups_in_numbers=None if groups is None else measured_summary(recalls.per_user[RECALL], recalls.users, groups),
        settings=None
        if content is None or not len(problem.dataset.validation)
        else _settings(problem, content, encoded),
        example=_example(problem, config, results, user),
    )


def _refuse_other_settings(folder: Path, reported: RunConfig, config: RunConfig) -> None:
    """The page has one configuration for a run and both its trainings; a run that goes on is not reported yet."""
    other = [name for name in EXTENDABLE if name != "data_dir" and getattr(reported, name) != getattr(config, name)]
    if other:
        raise RunError(
            f"{folder}: its report was made with another {', '.join(other)} than the run has; give the run's isolator "
            "train command again, without --novanilla"
        )


def _evaluate(problem: Problem, config: RunConfig, encoded: Encoded) -> dict[str, Evaluation]:
    strategies = strategies_of(config, problem.content is not None)
    results = evaluate_problem(problem, encoded, "test", strategies, ks=(UCBIAS_K,))
    return {
        name_beside_others(strategy, trained=config.training_strategy): result for strategy, result in results.items()
    }


def _metrics(reports: Sequence[Mapping], split: str) -> dict[str, dict[str, float | None]]:
    """The reports' metrics by strategy, in the order the page shows them."""
    metrics = {
        name_beside_others(strategy, trained=report["config"]["training_strategy"]): values
        for report in reports
        for strategy, values in report[split].items()
    }
    return {strategy: metrics[strategy] for strategy in STRATEGIES if strategy in metrics}


def _curve(folder: Path, config: RunConfig) -> Curve:
    records = read_metrics(folder)
    epochs, loss, validation = (
        np.array([getattr(record, field) for record in records]) for field in ("epoch", "loss", "validation")
    )
    name = "ISOLATOR" if config.training_strategy else "plain BPR"
    return Curve(name, epochs, loss, validation, read_report(folder)["best_epoch"])


def _interval(result: Evaluation, groups: Groups) -> Interval:
    recall = result.per_user[RECALL]
    return Interval(ucbias(recall, result.users, groups), *bootstrap_ucbias(recall, result.users, groups))


def _settings(problem: Problem, content: Content, encoded: Encoded) -> SettingsMetrics:
    """Validation metrics of U-ISOLATOR under the paper's grid."""
    grid = Settings()
    metrics = evaluate_settings(encoded, None, problem.train.histories, grid, content, truth=problem.validation)
    return SettingsMetrics(grid, metrics[RECALL], metrics[UCBIAS])


def _example(problem: Problem, config: RunConfig, results: Mapping[str, Evaluation], wanted: str | None) -> UserExample:
    """The history and the lists of the wanted user, or of one chosen by `_typical_user`."""
    dataset = problem.dataset
    user_ids, item_ids = (x.astype(str) for x in original_ids(config, dataset.num_users, dataset.num_items))
    user = _typical_user(dataset) if wanted is None else _find_user(config, dataset, wanted)
    history = dataset.train.items[dataset.train.users == user]
    held_out = dataset.test.items[dataset.test.users == user]

    def described(items: np.ndarray) -> list[ListItem]:
        items = items[items >= 0]
        similarities = [None] * len(items)
        if problem.content is not None:
            # Of the true features, as c_u and rho are, whatever the run has shuffled.
            similarity = SimilarityFromFeatures(tuple(problem.content.modalities.values()), problem.train.histories)
            channels = similarity.pairs(jnp.int32(user), jnp.asarray(items))
            similarities = np.mean(channels, axis=0).tolist()
        return list(map(ListItem, item_ids[items], similarities, np.isin(items, held_out).tolist()))

    def list_of(result: Evaluation) -> np.ndarray:
        return result.lists[np.searchsorted(result.users, user), :UCBIAS_K]

    consistency = None if problem.content is None else float(problem.content.consistency[user])
    return UserExample(
        user=user_ids[user],
        consistency=None if consistency is None or np.isnan(consistency) else consistency,
        held_out=item_ids[held_out].tolist(),
        history=sorted(described(history), key=lambda entry: -(entry.similarity or 0.0)),
        lists={strategy: described(list_of(results[strategy])) for strategy in MAIN if strategy in results},
    )


def _find_user(config: RunConfig, dataset: Dataset, wanted: str) -> int:
    """The user of an id.

    Raises:
      ConfigError: there is none, or without training items and so without lists.
    """
    ids = original_ids(config, dataset.num_users, dataset.num_items).users.astype(str)
    found = np.flatnonzero(ids == wanted)
    if not found.size:
        raise ConfigError(
            f"--user={brief(wanted)}: dataset {dataset.name} has no such user; its ids are like {brief(ids[0])}"
        )
    if not (dataset.train.users == found[0]).any():
        raise ConfigError(f"--user={brief(wanted)}: this user of {dataset.name} has no training items, and so no lists")
    return int(found[0])


def _typical_user(dataset: Dataset) -> int:
    """Of the users with training and test items, one whose history's length is nearest the median.

    Of several the one with most test items, then the lowest id. Where nobody has both, users
    with training items are taken.
    """
    lengths, tested = (np.bincount(split.users, minlength=dataset.num_users) for split in (dataset.train, dataset.test))
    both = (lengths > 0) & (tested > 0)
    users = np.flatnonzero(both if both.any() else lengths > 0)
    distance = np.abs(lengths[users] - np.median(lengths[users]))
    return int(users[np.lexsort((users, -tested[users], distance))[0]])


if __name__ == "__main__":
    cli.run(main, operands="RUN_DIR")
