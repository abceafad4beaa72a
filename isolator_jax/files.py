"""Files that are either whole or not there: written under a temporary name, then renamed."""

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls `write(temporary path)` and renames the result to `path`.

    The temporary file lies beside the target and keeps its suffix. Where `write` fails,
    it is removed, and what was at `path` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        write(draft)
        draft.chmod(0o644)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file atomically; NaN becomes null, which JSON can hold."""
    write_text(path, json.dumps(_without_nan(value), indent=2) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
