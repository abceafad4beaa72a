"""Processes with a number of devices of their own: it is fixed when JAX starts."""

import os
import socket
import subprocess
import sys

from commands import ROOT, split_into


def start(*arguments, devices=8):
    """Starts Python with these arguments on a CPU split into devices."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": split_into(devices),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    """Waits for a process; its exit code and output."""
    try:
        output, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    return process.returncode, output


def free_port():
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
