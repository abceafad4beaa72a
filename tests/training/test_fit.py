"""The fit loop's rules, on a made-up training function."""

import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.errors import TrainingDiverged
from isolator_jax.training import FitState, TrainState, fit


def run(values, *, max_epochs=100, patience=3, diverge_at=None, records=None):
    """Fits with validation values given by epoch; returns the state and the records."""
    records = [] if records is None else records

    def train_epoch(state):
        epoch = state.epoch + 1
        finite = jnp.bool_(diverge_at is None or int(epoch) < diverge_at)
        return state.replace(params=state.params + 1.0, epoch=epoch), jnp.float32(0.5), finite

    start = TrainState(jnp.float32(0.0), (), jnp.zeros(2, jnp.uint32), jnp.int32(0))
    state = fit(
        FitState.start(start),
        train_epoch,
        lambda params: jnp.float32(values[int(params) - 1]),
        max_epochs=max_epochs,
        patience=patience,
        on_epoch=lambda state, record: records.append(record),
    )
    return state, records


def test_stops_after_patience_epochs_without_improvement_and_keeps_the_best():
    state, records = run([0.1, 0.3, 0.2, 0.3, 0.1, 0.9], patience=3)
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5]
    assert int(state.best_epoch) == 2
    assert float(state.best_params) == 2.0
    np.testing.assert_allclose(state.best_value, 0.3)


def test_stops_at_max_epochs():
    state, records = run([0.1, 0.2, 0.3, 0.4], max_epochs=3)
    assert len(records) == 3
    assert int(state.best_epoch) == 3


def test_a_validation_of_zero_is_still_a_best_epoch():
    state, _ = run([0.0, 0.0, 0.0, 0.0], patience=3)
    assert int(state.best_epoch) == 1


def test_what_a_mean_is_rounded_by_is_no_better_epoch():
    mean = float(np.float32(0.38959914))
    above = [float(np.nextafter(np.float32(mean), np.float32(1))), mean + 2e-6]
    state, records = run([mean, above[0], mean, above[0], 0.9], patience=3)
    assert (int(state.best_epoch), len(records)) == (1, 4)
    state, _ = run([mean, above[0], mean, above[1]], max_epochs=4)
    assert int(state.best_epoch) == 4


def test_divergence_is_an_error_that_names_the_epoch_and_reports_nothing_for_it():
    records = []
    with pytest.raises(TrainingDiverged, match="epoch 3"):
        run([0.1] * 9, diverge_at=3, records=records)
    assert [record.epoch for record in records] == [1, 2]
