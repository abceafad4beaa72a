"""The flags that name several processes: what makes no sense is refused before any of them is waited for."""

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common import devices
from isolator_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_processes": 2, "process_id": 2}, "--process_id=2 must be below --num_processes=2"),
        ({"num_processes": 1, "process_id": 1}, "--process_id=1 must be below --num_processes=1"),
        ({"coordinator": "10.0.0.1:1234"}, "go together"),
        ({"coordinator": "10.0.0.1:1234", "num_processes": 2}, "go together"),
        ({"num_processes": 2}, "go together"),
        ({"process_id": 0}, "go together"),
        ({"coordinator": "10.0.0.1", "num_processes": 2, "process_id": 0}, "must be HOST:PORT"),
        ({"coordinator": "host:99999", "num_processes": 2, "process_id": 0}, "must be HOST:PORT"),
        ({"coordinator": "10.0.0.1", "num_processes": 1}, "must be HOST:PORT"),
    ],
)
def test_contradictions_are_refused(given, message):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**given), pytest.raises(ConfigError, match=message):
        devices.join_processes()


def test_a_process_by_itself_joins_none_and_works_on_one_device():
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(num_processes=1):
        devices.join_processes()
        assert devices.placement_from_flags().size == 1
