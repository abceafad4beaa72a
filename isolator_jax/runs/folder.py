"""The files of a run folder: what they say, and whether it is what it should be.

A run folder holds `config.json` (the resolved configuration and the data's fingerprint),
`metrics.jsonl` (a line an epoch), `checkpoints/`, `cache/` (nearest-neighbour lists, where the
backbone needs them), and at the end `report.json` and `report.md`. A report names the
checkpoint it was made of, by epoch and digest, and tells of no other. A folder may carry its
dataset, in `data/`: it is then read from there, wherever the folder lies.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isolator_jax import processes
from isolator_jax.data import Dataset
from isolator_jax.data.dataset import SPLITS
from isolator_jax.errors import ConfigError, RunError, brief
from isolator_jax.files import is_draft, write_json, write_text
from isolator_jax.reporting import report_markdown
from isolator_jax.runs.config import EXTENDABLE, RunConfig
from isolator_jax.runs.lock import LOCK
from isolator_jax.runs.metrics import read_metrics
from isolator_jax.training.checkpoint import check_path
from isolator_jax.training.digests import recorded_digest, saved_epochs
from isolator_jax.training.fit import improves


def vanilla_folder(run_dir: str | Path) -> Path:
    """Where a run keeps the plain BPR that its Vanilla row is of: a run folder in its own."""
    return Path(run_dir) / "vanilla"


def data_folder(run_dir: str | Path) -> Path:
    """Where a run folder that carries its dataset has the dataset's folder."""
    return Path(run_dir) / "data"


@processes.by_first
def write_report(run_dir: str | Path, report: dict[str, Any]) -> None:
    """Writes `report.json` and `report.md`."""
    write_json(Path(run_dir) / "report.json", report)
    write_text(Path(run_dir) / "report.md", report_markdown(report))


def read_report(run_dir: str | Path) -> dict[str, Any]:
    """The report of a finished run, as `train_run` returned it but with None for NaN.

    Raises:
      RunError: not a run folder, the run is not finished, or its report is not what was written,
        or is of another checkpoint than the newest.
    """
    run_dir = Path(run_dir)
    report = _read_report(run_dir)
    if not _is_of_newest_checkpoint(run_dir, report):
        raise RunError(
            f"{run_dir}: report.json tells of epoch {report['checkpoint']['epoch']}, and the newest checkpoint is "
            "another; give the run's isolator train command again to write it anew"
        )
    return report


def _read_report(run_dir: Path) -> dict[str, Any]:
    """As `read_report`, whatever checkpoint the report is of."""
    read_config(run_dir)
    if not (run_dir / "report.json").is_file():
        raise RunError(
            f"{run_dir}: the run is not finished, it has no report.json; "
            "give its isolator train command again to finish it"
        )
    report = _read_json(run_dir / "report.json")
    try:
        _check_report(report)
    except (ConfigError, KeyError, TypeError) as error:
        raise RunError(
            f"{run_dir / 'report.json'}: not a run's report ({brief(repr(error))}); rename it and "
            "give the isolator train command again to write it anew"
        ) from None
    return report


def _check_report(report: dict[str, Any]) -> None:
    """Raises where a report lacks what `train_run` writes, or has it of another type."""

    def is_number(value: Any) -> bool:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))

    RunConfig.from_dict(report["config"])
    counts = [report["dataset"][name] for name in ("users", "items", *SPLITS)]
    trainings = [report, report["baseline"]] if "baseline" in report else [report]
    for training in trainings:
        counts += [training["best_epoch"], training["epochs"]]
    counts.append(report["checkpoint"]["epoch"])
    if not isinstance(report["checkpoint"]["sha256"], str):
        raise TypeError(f"checkpoint is {report['checkpoint']}")
    for training in trainings:
        seconds = [training["seconds_per_epoch"][name] for name in ("train", "validation")]
        if not all(map(is_number, seconds)):
            raise TypeError(f"seconds_per_epoch is {seconds}")
    if not all(isinstance(count, int) and not isinstance(count, bool) for count in counts):
        raise TypeError(f"counts are {counts}")
    for split in report.keys() & set(SPLITS):
        for strategy, metrics in dict.items(report[split]):
            if not all(map(is_number, dict.values(metrics))):
                raise TypeError(f"{split} {strategy} is {metrics}")


def _is_of_newest_checkpoint(run_dir: Path, report: dict[str, Any]) -> bool:
    """Whether a report was made of the newest checkpoint there is; where there is none, it stands alone."""
    newest = newest_checkpoint(run_dir)
    if newest is None:
        return True
    (epoch, digest), named = newest, report["checkpoint"]
    return epoch == named["epoch"] and digest in (None, named["sha256"])


def newest_checkpoint(run_dir: Path) -> tuple[int, str | None] | None:
    """Epoch and recorded digest of the newest checkpoint there is: what tells a folder's model from a later one."""
    folder = run_dir / "checkpoints"
    saved = saved_epochs(folder)
    return (saved[-1], recorded_digest(folder, saved[-1])) if saved else None


def _by_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with each hyper-parameter under a name of its own."""
    hparams = {f"hparams.{name}": value for name, value in (config.get("hparams") or {}).items()}
    return {name: value for name, value in config.items() if name != "hparams"} | hparams


@processes.by_first
def check_run_folder(run_dir: Path, config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """What `config.json` of a run says, for a folder that is free or holds that run.

    A folder whose run saved nothing, because it was killed or diverged before its first
    checkpoint, is free for any other.

    Raises:
      RunError: the folder holds something else than a run of this configuration on this data,
        or more epochs of it than asked for, or its checkpoints are gone; or no checkpoint can
        be kept in it.
    """
    check_path(run_dir)
    wanted: dict[str, Any] = {"config": config.to_dict(), "data_fingerprint": dataset.fingerprint()}
    path = run_dir / "config.json"
    # Looked for again: another command may have begun meanwhile, and what there is be its run.
    if not path.is_file() and _holds_something_else(run_dir) and not path.is_file():
        raise RunError(f"{run_dir} exists and is not a run folder; choose another")
    if path.is_file():
        _refuse_streams(run_dir)
        different = _differences(read_config(run_dir), wanted)
        epochs = saved_epochs(run_dir / "checkpoints")
        if different and (epochs or (run_dir / "report.json").exists()):
            raise RunError(
                f"{run_dir} holds a run of another configuration ({brief('; '.join(different), 400)}); "
                "choose another folder, or give the same flags to resume it"
            )
        if not different:
            _refuse_what_cannot_be_resumed(run_dir, config, epochs)
    return wanted


@processes.by_first
def begin_run(run_dir: Path, described: dict[str, Any]) -> None:
    """Writes `config.json` into a folder whose lock is held.

    Args:
      run_dir: the run folder.
      described: of `check_run_folder`. The epochs of another configuration, which saved nothing, are dropped.
    """
    path = run_dir / "config.json"
    if path.is_file() and _differences(read_config(run_dir), described):
        (run_dir / "metrics.jsonl").unlink(missing_ok=True)
    write_json(path, described)


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What of two contents of `config.json` makes them two runs."""
    before, now = _by_name(saved["config"]), _by_name(wanted["config"])
    different = [
        f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
        for name in {**now, **before}
        if name not in EXTENDABLE and before.get(name) != now.get(name)
    ]
    return different + ["the data has changed"] * (saved["data_fingerprint"] != wanted["data_fingerprint"])


def _holds_something_else(run_dir: Path) -> bool:
    return run_dir.exists() and (not run_dir.is_dir() or not all(map(_is_of_a_start, run_dir.iterdir())))


def _refuse_streams(run_dir: Path) -> None:
    """Raises where what a run writes would go to a device or a pipe, itself in the folder or at the end of a link."""
    for name in ("metrics.jsonl", "report.json", "report.md"):
        path = run_dir / name
        if path.exists() and not path.is_file():
            raise RunError(f"{path} is no file, and leads to a device, a pipe or a folder; remove it")


def _is_of_a_start(path: Path) -> bool:
    """Whether a file is what a run leaves that was killed while it began."""
    return path.name == LOCK or is_draft(path)


def _refuse_what_cannot_be_resumed(run_dir: Path, config: RunConfig, epochs: list[int]) -> None:
    """Raises where a folder's model is further than asked for, or its checkpoints are gone."""
    if not epochs:
        if (run_dir / "report.json").exists():
            raise RunError(
                f"{run_dir}: the run is finished and its checkpoints are gone, so it cannot go on; put them back, "
                "or choose another folder to train it again"
            )
        return
    allowed = _epochs_allowed(run_dir, config)
    if epochs[-1] > allowed:
        raise RunError(
            f"{run_dir} holds the run after {epochs[-1]} epochs, more than the {allowed} of max_epochs="
            f"{config.max_epochs} and patience={config.patience}; choose another folder for the shorter run, or ask "
            "for as many epochs"
        )


def _epochs_allowed(run_dir: Path, config: RunConfig) -> int:
    """After how many epochs a run of these limits ends or has ended, by the epochs it recorded."""
    best, best_epoch = -math.inf, 0
    for record in read_metrics(run_dir):
        if improves(record.validation, best):
            best, best_epoch = record.validation, record.epoch
        if record.epoch - best_epoch >= config.patience:
            return min(record.epoch, config.max_epochs)
    return config.max_epochs


def finished_report(run_dir: Path, config: RunConfig, dataset: Dataset) -> dict[str, Any] | None:
    """The report of this run in a folder, ended within the epochs that it may take; None where there is none.

    Raises:
      RunError: the folder holds something else than a run of this configuration on this data,
        or more epochs of it, or its report is not what was written.
    """
    check_run_folder(run_dir, config, dataset)
    if not (run_dir / "report.json").is_file():
        return None
    # Not config.json: that is already the longer run's where it was interrupted.
    report = _read_report(run_dir)
    reported = RunConfig.from_dict(report["config"])
    same = (reported.max_epochs, reported.patience) == (config.max_epochs, config.patience)
    return report if same and _is_of_newest_checkpoint(run_dir, report) else None


def is_finished(run_dir: Path, config: RunConfig, dataset: Dataset) -> bool:
    """Whether a folder holds this run, ended and reported; it raises what `finished_report` raises."""
    return finished_report(run_dir, config, dataset) is not None


@processes.by_first
def read_config(run_dir: Path) -> dict[str, Any]:
    """A run folder's `config.json`: `config` and `data_fingerprint`; `data_dir` is the folder's own data if it has any,
    or that of the run whose plain BPR it is.

    Raises:
      RunError: not a run folder, or the file cannot be read or is no configuration.
    """
    path = run_dir / "config.json"
    if not path.is_file():
        raise RunError(f"{run_dir} is not a run folder: it has no config.json")
    saved = _read_json(path)
    if not isinstance(saved.get("data_fingerprint"), str):
        raise RunError(f"{path}: has no data_fingerprint; it is not what isolator train wrote")
    try:
        config = RunConfig.from_dict(saved.get("config", {}))
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from None
    owners = [run_dir, *([run_dir.parent] if vanilla_folder(run_dir.parent) == run_dir else [])]
    for folder in map(data_folder, owners):
        if config.dataset is not None and (folder / config.dataset).is_dir():
            saved["config"]["data_dir"] = str(folder)
            break
    return saved


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({brief(error)})") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: cannot be read (it holds no names and values)")
    return value
