"""Runs commands one after another in one process: a start costs more than what the pages ask of most of them.

Standard input has the commands, a JSON line `{"run": [name, arguments]}` each; standard output gets a JSON line for
each. Of `{"read the flags of": [name, arguments]}` nothing is done but that.
"""

import contextlib
import io
import json
import runpy
import sys
import time

from absl import app, flags


def done(what, name, arguments, kept):
    """`python -m experiments.NAME ARGUMENTS` with flags and modules of its own; exit code and standard error."""
    for flag in set(flags.FLAGS) - kept:
        delattr(flags.FLAGS, flag)
    for module in [module for module in sys.modules if module.split(".")[0] == "experiments"]:
        del sys.modules[module]
    sys.argv = [name, *arguments]
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(sys.__stderr__):
        try:
            if what == "run":
                runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
            else:
                runpy.run_module(f"experiments.{name}", alter_sys=True)
                flags.FLAGS(sys.argv)
                return 0, shown.getvalue()
        except SystemExit as ended:
            return ended.code, shown.getvalue()
        except flags.Error as error:
            return 1, str(error)
    return None, shown.getvalue()


def main():
    app.define_help_flags()
    kept = set(flags.FLAGS)
    for line in sys.stdin:
        start = time.process_time()
        ((what, command),) = json.loads(line).items()
        code, errors = done(what, *command, kept)
        print(json.dumps([code, errors, time.process_time() - start]), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
