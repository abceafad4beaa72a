"""The files of a run folder: what they say, and whether it is what it should be.

A run folder holds `config.json` (the resolved configuration and the data's fingerprint),
`metrics.jsonl` (a line an epoch), `checkpoints/`, `cache/` (nearest-neighbour lists, where the
backbone needs them), and at the end `report.json` and `report.md`.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from isolator_jax.data import Dataset
from isolator_jax.data.dataset import SPLITS
from isolator_jax.errors import ConfigError, RunError, brief
from isolator_jax.files import write_json, write_text
from isolator_jax.reporting import report_markdown
from isolator_jax.runs.config import EXTENDABLE, RunConfig
from isolator_jax.training import EpochRecord

_LOCK = ".lock"


def write_report(run_dir: str | Path, report: dict[str, Any]) -> None:
    """Writes `report.json` and `report.md`."""
    write_json(Path(run_dir) / "report.json", report)
    write_text(Path(run_dir) / "report.md", report_markdown(report))


def read_report(run_dir: str | Path) -> dict[str, Any]:
    """The report of a finished run, as `train_run` returned it but with None for NaN.

    Raises:
      RunError: not a run folder, the run is not finished, or its report is not what was written.
    """
    run_dir = Path(run_dir)
    read_config(run_dir)
    if not (run_dir / "report.json").is_file():
        raise RunError(
            f"{run_dir}: the run is not finished, it has no report.json; "
            "give its experiments.train command again to finish it"
        )
    report = _read_json(run_dir / "report.json")
    try:
        _check_report(report)
    except (ConfigError, KeyError, TypeError) as error:
        raise RunError(
            f"{run_dir / 'report.json'}: not a run's report ({brief(repr(error))}); delete it and "
            "give the experiments.train command again to write it anew"
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
        seconds = [training["seconds_per_epoch"][name] for name in ("train", "validation")]
        if not all(map(is_number, seconds)):
            raise TypeError(f"seconds_per_epoch is {seconds}")
    if not all(isinstance(count, int) and not isinstance(count, bool) for count in counts):
        raise TypeError(f"counts are {counts}")
    for split in report.keys() & set(SPLITS):
        for strategy, metrics in dict.items(report[split]):
            if not all(map(is_number, dict.values(metrics))):
                raise TypeError(f"{split} {strategy} is {metrics}")


def read_metrics(run_dir: str | Path) -> list[EpochRecord]:
    """The epochs of a run's `metrics.jsonl`, without a last line that a kill cut short; none where there is no file.

    Raises:
      RunError: another line is not an epoch's record, or the epochs do not rise.
    """
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    records: list[EpochRecord] = []
    for number, line in enumerate(lines, start=1):
        record = _epoch_record(line)
        if record is not None and (not records or record.epoch > records[-1].epoch):
            records.append(record)
        elif number < len(lines):
            raise RunError(
                f"{path}, line {number}: not the record of a further epoch; delete the file to go on without "
                "the history it held"
            )
    return records


def _epoch_record(line: bytes) -> EpochRecord | None:
    """The record a line holds; None where it is none."""
    try:
        record = EpochRecord(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    whole = type(record.epoch) is int and record.epoch > 0
    return record if whole and all(type(value) in (int, float) for value in record) else None


@contextmanager
def _only_user(run_dir: Path) -> Iterator[None]:
    """Holds the folder's lock, which the operating system frees with the process."""
    try:
        with FileLock(run_dir / _LOCK, blocking=False):
            yield
    except Timeout:
        raise RunError(f"{run_dir}: another process is training in this folder; wait for it, or stop it") from None


def check_run_folder(run_dir: Path, config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """What `config.json` of a run says, for a folder that is free or holds that run.

    Raises:
      RunError: the folder holds something else than a run of this configuration on this data.
    """
    wanted: dict[str, Any] = {"config": config.to_dict(), "data_fingerprint": dataset.fingerprint()}
    if (run_dir / "config.json").is_file():
        saved = read_config(run_dir)
        different = [
            f"{name} was {saved['config'].get(name)!r}, now {value!r}"
            for name, value in wanted["config"].items()
            if name not in EXTENDABLE and saved["config"].get(name) != value
        ]
        if saved["data_fingerprint"] != wanted["data_fingerprint"]:
            different.append("the data has changed")
        if different:
            raise RunError(
                f"{run_dir} holds a run of another configuration ({'; '.join(different)}); "
                "choose another folder, or give the same flags to resume it"
            )
    elif run_dir.exists() and (not run_dir.is_dir() or any(path.name != _LOCK for path in run_dir.iterdir())):
        raise RunError(f"{run_dir} exists and is not a run folder; choose another --run_dir")
    return wanted


def is_finished(run_dir: Path, config: RunConfig, dataset: Dataset) -> bool:
    """Whether a folder holds this run, ended and reported, within the epochs that it may take.

    Raises:
      RunError: the folder holds something else than a run of this configuration on this data,
        or its report is not what was written.
    """
    check_run_folder(run_dir, config, dataset)
    if not (run_dir / "report.json").is_file():
        return False
    # Not config.json: that is already the longer run's where it was interrupted.
    reported = RunConfig.from_dict(read_report(run_dir)["config"])
    return (reported.max_epochs, reported.patience) == (config.max_epochs, config.patience)


def read_config(run_dir: Path) -> dict[str, Any]:
    """A run folder's `config.json`: `config` and `data_fingerprint`.

    Raises:
      RunError: not a run folder, or the file cannot be read or is no configuration.
    """
    path = run_dir / "config.json"
    if not path.is_file():
        raise RunError(f"{run_dir} is not a run folder: it has no config.json")
    saved = _read_json(path)
    if not isinstance(saved.get("data_fingerprint"), str):
        raise RunError(f"{path}: has no data_fingerprint; it is not what experiments.train wrote")
    try:
        RunConfig.from_dict(saved.get("config", {}))
    except ConfigError as error:
        raise RunError(f"{path}: {error}") from None
    return saved


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({brief(error)})") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: cannot be read (it holds no names and values)")
    return value


class _MetricsFile:
    """`metrics.jsonl`: a line for each epoch, cut back to the checkpoint a run resumes from."""

    def __init__(self, run_dir: Path, last_epoch: int):
        self._path = run_dir / "metrics.jsonl"
        self._records = [record for record in read_metrics(run_dir) if record.epoch <= last_epoch]
        write_text(self._path, "".join(self._line(record) for record in self._records))

    def append(self, record: EpochRecord) -> None:
        self._records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._line(record))

    def seconds_per_epoch(self) -> dict[str, float]:
        """Median seconds of both phases; the first epoch, which compiles, only if it is the only one."""
        records = self._records[1:] or self._records
        if not records:  # the file was deleted after the last epoch
            return {"train": math.nan, "validation": math.nan}
        return {
            "train": float(np.median([record.train_seconds for record in records])),
            "validation": float(np.median([record.validation_seconds for record in records])),
        }

    @staticmethod
    def _line(record: EpochRecord) -> str:
        return json.dumps(record._asdict()) + "\n"
