"""`metrics.jsonl` of a run folder: a line an epoch."""

import json
import math
import warnings
from pathlib import Path

import numpy as np

from isolator_jax import processes
from isolator_jax.errors import RunError
from isolator_jax.files import write_text
from isolator_jax.training import EpochRecord


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
                f"{path}, line {number}: not the record of a further epoch; rename the file to go on without "
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


class MetricsFile:
    """`metrics.jsonl`: a line for each epoch, cut back to the checkpoint a run resumes from, with a warning.

    Of several processes all know the records, and the first writes them.
    """

    def __init__(self, run_dir: Path, last_epoch: int):
        self._path = run_dir / "metrics.jsonl"
        found = processes.first(lambda: read_metrics(run_dir))
        self._records = [record for record in found if record.epoch <= last_epoch]
        if lost := found[len(self._records) :]:
            warnings.warn(
                f"{run_dir}: epochs {lost[0].epoch} to {lost[-1].epoch} have no checkpoint and are trained again",
                stacklevel=2,
            )
        processes.first(lambda: write_text(self._path, "".join(self._line(record) for record in self._records)))

    def append(self, record: EpochRecord) -> None:
        self._records.append(record)
        if processes.is_first():
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
