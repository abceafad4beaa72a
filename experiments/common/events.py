"""TensorBoard event files of a run, by tensorboardX."""

import warnings
from pathlib import Path

from isolator_jax.errors import ConfigError
from isolator_jax.training import EpochRecord

try:
    from tensorboardX import SummaryWriter
except ModuleNotFoundError:
    SummaryWriter = None


def check_installed() -> None:
    """Raises ConfigError where tensorboardX is missing."""
    if SummaryWriter is None:
        raise ConfigError("--tensorboard needs tensorboardX: pip install 'isolator-jax[tensorboard]'")


class Events:
    """Writes each epoch's loss, validation Recall@20 and seconds; opens no file before the first epoch.

    What cannot be written is left out, with a warning: it ends no training.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._failed = False

    def write(self, record: EpochRecord) -> None:
        if self._failed:
            return
        try:
            self._write(record)
        except OSError as error:
            self._failed = True
            warnings.warn(f"{self._folder}: no further event files are written ({error.strerror})", stacklevel=2)

    def _write(self, record: EpochRecord) -> None:
        if self._writer is None:
            # What an earlier process wrote from this epoch on, before it was killed, is not shown.
            self._writer = SummaryWriter(str(self._folder), purge_step=record.epoch)
        for name, value in record._asdict().items():
            if name != "epoch":
                self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as error:
                if not self._failed:
                    warnings.warn(f"{self._folder}: event files may lack the end ({error.strerror})", stacklevel=2)
