"""Commands as a user runs them, each in a process of its own.

The processes are forked from one that has imported the libraries, which takes longer than most of what the
tests ask of a command.
"""

import atexit
import contextlib
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def command(name, *arguments, cwd=ROOT):
    """`python -m experiments.NAME ARGUMENTS`, ended: `returncode`, `stdout` and `stderr` of it."""
    return start_command(name, *arguments, cwd=cwd).finish()


def start_command(name, *arguments, cwd=ROOT, devices=None, file_bytes=None):
    """Starts `python -m experiments.NAME ARGUMENTS`.

    Args:
      devices: how many the CPU is split into; None: it is one.
      file_bytes: what a file may have at most; None: no limit.
    """
    _Server.started = _Server.started or _Server()
    return _Command(_Server.started, name, [str(argument) for argument in arguments], str(cwd), devices, file_bytes)


class _Command:
    """The process of a command."""

    def __init__(self, server, name, *how):
        self._server, self._name, self.returncode = server, name, None
        with contextlib.ExitStack() as stack:
            self._streams = [stack.enter_context(tempfile.NamedTemporaryFile("r", encoding="utf-8")) for _ in range(2)]
            self._pid = server.ask([name, *how, *(stream.name for stream in self._streams)])
            self._open = stack.pop_all()

    def poll(self):
        """The exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = self._server.ask(self._pid)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self._pid, number)

    def finish(self, timeout=300):
        """Waits for its end: `returncode`, `stdout` and `stderr`."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(self._name, timeout)
            time.sleep(0.005)
        with self._open:
            return subprocess.CompletedProcess(self._name, self.returncode, *(file.read() for file in self._streams))


class _Server:
    """The process that forks; started with the environment of its first command."""

    started = None

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)

    def ask(self, what):
        """Of a process: its exit code, or None. Of what to start: its process."""
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def _child(name, arguments, cwd, devices, file_bytes, out, err):
    """Becomes the command's process."""
    for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(path, mode), number)
    sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w")))
    if devices is not None:
        os.environ["XLA_FLAGS"] = split_into(devices)
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    os.chdir(cwd)
    sys.argv = [name, *arguments]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)


def split_into(devices):
    """XLA_FLAGS that make the CPU so many devices."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"


def _serve():
    import isolator_jax.reporting
    import isolator_jax.runs  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, int):
            ended, status = os.waitpid(asked, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        elif (answer := os.fork()) == 0:
            return _child(*asked)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
