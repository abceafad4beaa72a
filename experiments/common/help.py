"""What `--help` of a command shows: its docstring and its flags by topic, in 80 columns."""

import sys
import textwrap
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

from absl import app, flags

from . import process

WIDTH = 80

# Flags by topic, as far as several commands share them; a command's others come first, under its name.
TOPICS = {
    "results": ("run_dir", "runs_dir", "output_dir", "output", "json", "trec_runs", "tensorboard", "dry_run"),
    "data": (
        "data_dir", "dataset", "datasets", "modalities", "knock_out", "split", "interactions", "features", "histories",
        "validation", "test",
    ),
    "model": (
        "backbone", "backbones", "hparams", "grid", "space", "tuned", "config", "user_embeddings", "item_embeddings",
        "scores",
    ),
    "training": (
        "training_strategy", "vanilla", "gamma", "gammas", "fusion", "seed", "seeds", "batch_size", "max_epochs",
        "patience", "checkpoint_seconds",
    ),
    "inference": ("strategy", "k", "aim", "alpha", "alphas", "beta", "betas", "iota", "iotas"),
    "machine": (
        "devices", "exchange", "coordinator", "num_processes", "process_id", "similarity_budget_mb", "similarity_dtype",
        "user_chunk", "item_chunk",
    ),
}  # fmt: skip

_INDENT = " " * 6
_VALUES = {"int": "N", "float": "X", "comma separated list of strings": "A,B"}


class Help(flags.BooleanFlag):
    """The flag `--help`: shows a command's help and ends it."""

    def __init__(self, command: str, doc: str, without: Collection[str]) -> None:
        super().__init__("help", False, "Show this help.", short_name="?", allow_override=True)
        self._command, self._doc, self._without = command, doc, without

    def parse(self, arg: Any) -> None:
        super().parse(arg)
        if self.value:
            known = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
            text = help_text(self._command, self._doc, [flag for flag in known if flag.name not in self._without])
            try:
                print(text, flush=True)
            except BrokenPipeError:  # the reader has seen enough
                process.discard(1)
            sys.exit(0)


def define_help(command: str, doc: str, without: Collection[str] = ()) -> None:
    """Makes `--help` of this process that of a command, without some of its flags; `--helpfull` stays absl's."""
    app.define_help_flags()
    flags.DEFINE_flag(Help(command, doc, without))


def help_text(command: str, doc: str, of_command: Sequence[flags.Flag]) -> str:
    """The help of a command.

    Args:
      command: its name, the heading of the flags that are its own.
      doc: its docstring.
      of_command: its flags.
    """
    by_name = {flag.name: flag for flag in of_command}
    shared = {name for names in TOPICS.values() for name in names}
    topics = {command: tuple(name for name in by_name if name not in shared), **TOPICS}
    parts = [*_paragraphs(doc)]
    for topic, names in topics.items():
        if found := [by_name[name] for name in names if name in by_name]:
            parts.append("\n".join([f"{topic}:", *map(_described, found)]))
    return "\n\n".join([*parts, "--helpfull shows absl's own flags besides."])


def _paragraphs(doc: str) -> list[str]:
    """A docstring in 80 columns; commands on indented lines keep a line each, continued where they are long."""
    lines = doc.strip("\n").replace("\\\n", " ").splitlines()
    parts = []
    for indented, block in groupby(lines, key=lambda line: line.startswith(" ") if line.strip() else None):
        if indented:
            parts.append("\n".join(map(_command_line, block)))
        elif indented is not None:  # not blank
            parts.append(textwrap.fill(" ".join(block), WIDTH, break_on_hyphens=False))
    return parts


def _command_line(line: str) -> str:
    lines = textwrap.wrap(
        " ".join(line.split()), WIDTH - 2, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
    )
    return " \\\n".join(lines)


def _described(flag: flags.Flag) -> str:
    kind = flag.flag_type()
    sign = f"--[no]{flag.name}" if kind == "bool" else f"--{flag.name}={_VALUES.get(kind, 'VALUE')}"
    if any(not validator.checker(None) for validator in flag.validators):
        sign += " (required)"
    elif flag.default not in (None, "", []):
        shown = ", ".join(flag.default) if isinstance(flag.default, list) else (flag.default_as_str or "").strip("'")
        sign += f" (default: {shown})"
    text = flag.help.split(";\n")[0]  # absl tells below how to repeat a flag
    if isinstance(flag.parser, flags.EnumParser):  # and before, what the values are
        text = f"{text.split('>: ', 1)[-1]} One of: {', '.join(flag.parser.enum_values)}."
    sign = textwrap.fill(sign, WIDTH, initial_indent="  ", subsequent_indent=_INDENT, break_on_hyphens=False)
    text = textwrap.fill(text, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)
    return f"{sign}\n{text}"
