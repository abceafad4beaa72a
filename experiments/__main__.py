"""Starts a command by its name: `isolator COMMAND`, or `python -m experiments COMMAND` in a checkout."""

import ast
import difflib
import importlib.util
import runpy
import sys
import textwrap
from pathlib import Path

from isolator_jax import __version__

# Every command, grouped as --help shows them.
COMMANDS = {
    "data": ("prepare", "make_dataset", "statistics"),
    "models": ("train", "sweep", "evaluate", "recommend"),
    "models and lists from elsewhere": ("rescore", "audit"),
    "pages and papers": ("report", "reproduce"),
    "this machine": ("benchmark", "parity"),
}
_NAMES = tuple(name for names in COMMANDS.values() for name in names)


def summary(command: str) -> str:
    """The first line of a command's docstring, read without importing it."""
    spec = importlib.util.find_spec(f"{__package__}.{command}")
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (text or "").splitlines()[0]


def usage() -> str:
    """What `isolator --help` prints: a line for each command."""
    lines = [
        "isolator COMMAND [--flag=value ...]",
        "isolator COMMAND --help    a command's flags",
        "isolator --version",
    ]
    indent = max(map(len, _NAMES)) + 4
    for group, names in COMMANDS.items():
        lines += ["", f"{group}:"]
        for name in names:
            start = f"  {name}".ljust(indent)
            lines.append(textwrap.fill(summary(name), 80, initial_indent=start, subsequent_indent=" " * indent))
    return "\n".join(lines)


def main() -> None:
    """Runs the command that the arguments name, as if its module had been started."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("--help", "-h", "help"):
        print(usage())
        return
    if command == "--version":
        print(f"isolator {__version__}")
        return
    if command not in _NAMES:
        near = difflib.get_close_matches(command, _NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(_NAMES)}"
        sys.exit(f"error: no command {command!r}: {hint}")
    sys.argv = [command, *arguments]
    runpy.run_module(f"{__package__}.{command}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
