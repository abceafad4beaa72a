"""Runs commands one after another in one process: a start costs more than what the pages ask of most of them.

Standard input has the commands, a JSON line of name and arguments each; standard output gets a JSON line for each.
"""

import contextlib
import io
import json
import runpy
import sys
import time

from absl import app, flags


def run(name, arguments, kept):
    """`python -m experiments.NAME ARGUMENTS` with flags and modules of its own; exit code and standard error."""
    for flag in set(flags.FLAGS) - kept:
        delattr(flags.FLAGS, flag)
    for module in [module for module in sys.modules if module.split(".")[0] == "experiments"]:
        del sys.modules[module]
    sys.argv = [name, *arguments]
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(sys.__stderr__):
        try:
            runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            return ended.code, shown.getvalue()
    return None, shown.getvalue()


def main():
    app.define_help_flags()
    kept = set(flags.FLAGS)
    for line in sys.stdin:
        start = time.process_time()
        code, errors = run(*json.loads(line), kept)
        print(json.dumps([code, errors, time.process_time() - start]), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
