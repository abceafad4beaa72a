"""Where a command may write: checks of its paths, before any long work."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from isolator_jax.errors import ConfigError, RunError, brief
from isolator_jax.runs import vanilla_folder

from .per_user import PER_USER


def check_output(flag: str, path: str, *, folder: bool = False) -> Path:
    """The path of a flag that names a file to write, or a folder to write files in.

    Raises:
      ConfigError: it names nothing, a folder in place of a file or the reverse, lies below a
        file, or must not be written.
    """
    target = Path(path)
    if not path or "\0" in path:
        raise ConfigError(f"--{flag} names no {'folder' if folder else 'file'}")
    try:
        if target.exists() and target.is_dir() != folder:
            raise ConfigError(f"--{flag}={brief(path)} is {'no folder' if folder else 'a folder, not a file'}")
        nearest = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
    except OSError as error:
        raise ConfigError(f"--{flag}={brief(path)}: {error.strerror}") from None
    if nearest != target and not nearest.is_dir():
        raise ConfigError(f"--{flag}={brief(path)}: {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK):
        raise ConfigError(f"--{flag}={brief(path)}: {nearest} must not be written")
    return target


def refuse_inputs(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Refuses to replace a file that the command reads.

    Args:
      written: files that the command is to write.
      read: those that it reads.

    Raises:
      ConfigError: one is the other, be it by another path.
    """
    inputs = {os.path.realpath(path) for path in read}
    for path in written:
        if os.path.realpath(path) in inputs:
            raise ConfigError(f"{path} is read, and would be replaced; write elsewhere")


def files_of_run(run_dir: str | Path) -> list[Path]:
    """What of a run folder is read or written again: configuration, metrics and reports, its plain BPR's too."""
    folders = (Path(run_dir), vanilla_folder(run_dir))
    return [
        folder / name for folder in folders for name in ("config.json", "metrics.jsonl", "report.json", "report.md")
    ]


def refuse_values_of_others(folder: Path, own: str | None = None) -> None:
    """Refuses to replace the table of users' values that another command wrote.

    Args:
      folder: of --output_dir.
      own: whose may be replaced, "an audit" or "a rescoring".

    Raises:
      RunError: naming the file.
    """
    path, report = folder / PER_USER, folder / "report.json"
    there = {
        "an audit": (folder / "audit.json").exists(),
        "a rescoring": report.exists() and not (folder / "config.json").exists(),
    }
    for what, found in there.items():
        if found and what != own and path.exists():
            raise RunError(f"{path} is of {what}, and would be replaced; choose another --output_dir")


def refuse_replacing(paths: Iterable[Path]) -> None:
    """Refuses files that are there.

    Raises:
      RunError: naming the first.
    """
    for path in paths:
        if path.exists():
            raise RunError(f"{path} is there already, and would be replaced; move it, or choose another --output_dir")


def refuse_results_of_others(folder: Path, what: str, field: str) -> None:
    """Refuses a folder whose report would be replaced: a run's, or another command's.

    Args:
      folder: of --output_dir.
      what: the results' name.
      field: what these alone have in their report.

    Raises:
      RunError: naming the folder.
    """
    path, is_run = folder / "report.json", (folder / "config.json").exists()
    try:
        is_own = field in json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        is_own = True
    except (OSError, ValueError, TypeError, RecursionError):
        is_own = False
    if is_run or not is_own:
        found = "a run" if is_run else f"a report.json that is no {what}'s"
        raise RunError(f"{folder} holds {found}, whose report the {what} would replace; choose another --output_dir")
