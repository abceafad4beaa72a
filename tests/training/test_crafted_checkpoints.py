"""Checkpoints made to mislead: with sums that fit, and values that lie elsewhere."""

import shutil
import struct
from pathlib import Path

import jax.numpy as jnp
import pytest
import tensorstore

from isolator_jax.errors import CheckpointError
from isolator_jax.training import Checkpoints

STATE = {"table": jnp.arange(600.0).reshape(300, 2), "epoch": jnp.int32(1)}
INSIDE, OUTSIDE = b"aa/bb/cc/outside/", b"../../../outside/"


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@pytest.fixture
def folder(tmp_path):
    """Checkpoints whose only one keeps its values in files below `INSIDE`, without sums in `digests.json`."""
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        checkpoints.save(1, STATE)
    folder = tmp_path / "run" / "checkpoints"
    (folder / "digests.json").unlink()
    store = folder / "1" / "default"
    written = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{store}/"}).result()
    values = {key: written.read(key).result().value for key in written.list().result()}
    for old in ("d", "ocdbt.process_0"):
        shutil.rmtree(store / old)
    (store / "manifest.ocdbt").unlink()
    prefixes = {"value_data_prefix": INSIDE.decode(), "btree_node_data_prefix": "nodes/"}
    config = {"max_inline_value_bytes": 0, "compression": None}
    spec = {"driver": "ocdbt", "base": f"file://{store}/", "config": config, **prefixes}
    made = tensorstore.KvStore.open(spec).result()
    transaction = tensorstore.Transaction()
    for key, value in values.items():
        made.with_transaction(transaction)[key] = value
    transaction.commit_sync()
    return folder


def restore(folder):
    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.restore_latest(STATE)


def test_values_are_read_from_within_the_checkpoint(folder):
    assert (restore(folder)["table"] == STATE["table"]).all()


def test_values_outside_of_the_checkpoint_are_not_read(folder):
    store = folder / "1" / "default"
    named = [path for path in store.rglob("*") if path.is_file() and INSIDE in path.read_bytes()]
    assert named
    for path in named:
        data = path.read_bytes()[:-4].replace(INSIDE, OUTSIDE)
        path.write_bytes(data + struct.pack("<I", crc32c(data)))
    shutil.move(store / INSIDE.decode(), folder.parent / "outside")
    assert Path(store, OUTSIDE.decode()).is_dir()
    with (
        pytest.warns(UserWarning, match="1: damaged checkpoint, .*Invalid key"),
        pytest.raises(CheckpointError, match="no usable checkpoint"),
    ):
        restore(folder)
