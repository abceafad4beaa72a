"""Two processes on one machine, two devices each, work as one device does."""

import socket

import pytest
from processes import finish, start

pytestmark = pytest.mark.slow


def test_two_processes_train_and_rank_as_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [start("tests/devices/two_processes.py", rank, port, devices=2) for rank in (0, 1)]
    try:
        for rank, process in enumerate(running):
            code, output = finish(process)
            assert code == 0 and f"process {rank} agrees" in output, output
    finally:
        for process in running:
            process.kill()
            process.wait()
