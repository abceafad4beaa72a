"""One of two processes that train and rank together; run by test_processes.py.

usage: two_processes.py RANK PORT
"""

import sys

import jax
import numpy as np

if __name__ == "__main__":
    rank, port = map(int, sys.argv[1:])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank, initialization_timeout=60)

    # Imported here, as these modules make arrays, which starts JAX.
    from eight_devices import learn, lists_of

    assert len(jax.local_devices()) == 2 and len(jax.devices()) == 4
    expected, found = learn(1, "lightgcn"), learn(4, "lightgcn")
    for part, values in expected.items():
        np.testing.assert_allclose(found[part], values, atol=2e-5, err_msg=part)
    expected, found = lists_of(1, "vbpr"), lists_of(4, "vbpr")
    for strategy, lists in expected.items():
        np.testing.assert_array_equal(found[strategy].lists, lists.lists, err_msg=strategy)
    print(f"process {rank} agrees")
