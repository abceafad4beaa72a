"""A command that is called many times in one process, and stopped where its long work begins.

  python tests/fuzz/command.py MODULE FOLDER

Reads lists of arguments from standard input, a JSON line each, and answers each with a JSON line
`[outcome, text]`: `done`, `work` (long work would have begun), `error` (a message a user can
mend), `usage` (refused by the flags) or `crash` (with the traceback).
"""

import contextlib
import functools
import importlib
import io
import json
import os
import resource
import signal
import sys
import traceback

from absl import app, flags

SECONDS = 60
GIGABYTES = 6


class Work(BaseException):
    """Long work would begin here."""


class Hang(BaseException):
    """The command took too long to refuse or to begin."""


def begin(*arguments, **options):
    raise Work


def remember(function, key):
    """The function with its results kept by a key of its arguments."""
    results = {}

    def remembered(*arguments, **options):
        place = key(*arguments, **options)
        if place not in results:
            results[place] = function(*arguments, **options)
        return results[place]

    return remembered


def small_only(make_dataset):
    def make(config):
        if config.users * config.mean_interactions + config.items * (2 + sum(config.modalities.values())) > 20_000:
            raise Work
        return make_dataset(config)

    return make


# Where a command's long work begins.
WORK = {
    "train": ["train_and_show"],
    "evaluate": ["evaluate_problem"],
    "recommend": ["recommendations"],
    "sweep": ["run_search"],
    "reproduce": ["load_models"],
    "benchmark": ["measure", "profile", "_page", "_scaling_study"],
    "report": ["_view"],
    "rescore": ["make_content"],
    "parity": ["make_content"],
    "statistics": [],
    "make_dataset": [],
    "prepare": [],
    "audit": ["audit_lists"],
}


def prepare(name):
    from isolator_jax.runs import problem as run

    run.make_dataset = functools.cache(run.make_dataset)
    run.make_content = remember(
        run.make_content,
        lambda features, histories, *, fusion, table_budget_bytes, table_dtype, make_table: (
            tuple((name, x.shape) for name, x in features.items()), histories.num_users, fusion,
            min(table_budget_bytes, 2**31), str(table_dtype),
        ),
    )  # fmt: skip
    module = importlib.import_module(f"experiments.{name}")
    for function in WORK[name]:
        setattr(module, function, begin)
    if name == "make_dataset":
        module.make_dataset = small_only(module.make_dataset)
    if name in ("evaluate", "recommend"):
        module.load_run = remember(
            module.load_run, lambda run_dir, *_, knock_out=None: (os.path.realpath(run_dir), str(knock_out))
        )
    return module


def call(module, arguments, takes_operands):
    from isolator_jax.errors import ConfigError, DataError, RunError, printable

    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    flags.FLAGS.unparse_flags()
    try:
        operands = flags.FLAGS(["command", *arguments])[1:]
        if bool(operands) != takes_operands:
            raise app.UsageError("operands")
        module.main(*operands)
        return "done", ""
    except Work:
        return "work", ""
    except flags.Error as error:
        return "usage", str(error)
    except app.UsageError as error:
        return "usage", str(error)
    except (ConfigError, DataError, RunError, OSError) as error:
        return "error", printable(error)
    except (Exception, SystemExit, Hang):
        return "crash", f"{arguments}\n{traceback.format_exc()}"


def main(name, folder):
    answers = sys.stdout
    os.chdir(folder)
    module = prepare(name)
    described = {
        flag.name: [flag.flag_type(), list(getattr(flag.parser, "enum_values", []) or [])]
        for flag in flags.FLAGS.get_key_flags_for_module(module)
    }
    print(json.dumps(described), file=answers, flush=True)

    def give_up(*_):
        raise Hang

    resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES << 30, GIGABYTES << 30))
    signal.signal(signal.SIGALRM, give_up)
    for line in sys.stdin:
        signal.alarm(SECONDS)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            answer = call(module, json.loads(line), takes_operands=name == "report")
        signal.alarm(0)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
