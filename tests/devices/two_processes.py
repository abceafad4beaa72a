"""One of two processes that train and rank together; run by test_two_processes.py.

usage: two_processes.py RANK PORT FOLDER
"""

import os
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

from isolator_jax import processes
from isolator_jax.errors import ConfigError, DataError, RunError


def fail():
    raise DataError("cannot be used")


def check_outcomes(rank, folder):
    """What one process returns or raises, the other has too."""
    long = np.arange(5000.0)
    np.testing.assert_array_equal(processes.first(lambda: long if rank == 0 else fail()), long)
    assert processes.of_first(f"of {rank}") == "of 0"
    assert processes.each(lambda: processes.first(lambda: rank)) == rank  # others take no part in what is inside
    assert [processes.anywhere(flag) for flag in (rank == 1, False)] == [True, False]
    with pytest.raises(DataError, match="^cannot be used$") as raised:
        processes.first(fail)
    assert processes.is_of_all(raised.value)
    with pytest.raises(DataError, match="cannot be used" if rank else "process 1: cannot be used"):
        processes.each(fail if rank else lambda: None)
    with pytest.raises(FileNotFoundError):
        processes.first(lambda: (folder / "nowhere").read_text())
    processes.same("flags", lambda: "alike")
    with pytest.raises(ConfigError, match="process 1 has other flags than process 0"):
        processes.same("flags", lambda: rank)
    processes.check_shared(folder)
    with pytest.raises(RunError, match="not the folder of process 0"):
        processes.check_shared(folder if rank == 0 else folder / "other")
    assert not list(folder.iterdir())


def check_training_and_ranking():
    # Imported here: the module makes arrays, which starts JAX.
    from eight_devices import learn, lists_of

    expected, found = learn(1, "lightgcn"), learn(4, "lightgcn")
    for part, values in expected.items():
        np.testing.assert_allclose(found[part], values, atol=2e-5, err_msg=part)
    expected, found = lists_of(1, "vbpr"), lists_of(4, "vbpr")
    for strategy, lists in expected.items():
        np.testing.assert_array_equal(found[strategy].lists, lists.lists, err_msg=strategy)


if __name__ == "__main__":
    rank, port = map(int, sys.argv[1:3])
    processes.join(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
    assert (processes.count(), processes.index(), processes.is_first()) == (2, rank, rank == 0)
    try:
        check_outcomes(rank, Path(sys.argv[3]))
        check_training_and_ranking()
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # without waiting for the other
    print(f"process {rank} agrees")
