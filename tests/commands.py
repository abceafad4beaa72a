"""Commands as a user runs them, each in a process of its own.

The processes are forked from one that has imported the libraries, which takes longer than most of what the
tests ask of a command.
"""

import atexit
import contextlib
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def command(name, *arguments, cwd=ROOT, timeout=300):
    """`python -m experiments.NAME ARGUMENTS`, ended: `returncode`, `stdout` and `stderr` of it."""
    _Server.started = _Server.started or _Server()
    return _Server.started.run(name, [str(argument) for argument in arguments], cwd, timeout)


class _Server:
    """The process that forks; started with the environment of its first command."""

    started = None

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.end)

    def end(self):
        self.process.kill()
        self.process.wait()
        _Server.started = None

    def run(self, name, arguments, cwd, timeout):
        with contextlib.ExitStack() as stack:
            out, err = (stack.enter_context(tempfile.NamedTemporaryFile("r", encoding="utf-8")) for _ in range(2))
            print(json.dumps([name, arguments, str(cwd), out.name, err.name]), file=self.process.stdin, flush=True)
            if not select.select([self.process.stdout], [], [], timeout)[0]:
                self.end()
                raise subprocess.TimeoutExpired([name, *arguments], timeout)
            code = int(self.process.stdout.readline())
            return subprocess.CompletedProcess([name, *arguments], code, out.read(), err.read())


def _child(name, arguments, cwd, out, err):
    """Becomes the command's process."""
    for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(path, mode), number)
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))
    os.chdir(cwd)
    sys.argv = [name, *arguments]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)


def _serve():
    import isolator_jax.reporting
    import isolator_jax.runs  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return _child(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
