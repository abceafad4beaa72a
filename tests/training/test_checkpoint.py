"""Checkpoints: what is damaged is set aside, what the system keeps from being read is left alone."""

import errno
import json
import os
import signal
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from isolator_jax.errors import CheckpointError, RunError
from isolator_jax.training import Checkpoints, checkpoint, digests

STATE = {"table": jnp.arange(6.0).reshape(3, 2), "epoch": jnp.int32(1)}


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of epochs 1 and 2."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for epoch in (1, 2):
            checkpoints.save(epoch, {**STATE, "epoch": jnp.int32(epoch)})
    return tmp_path / "checkpoints"


def restore(folder):
    with Checkpoints(folder) as checkpoints:
        state = checkpoints.restore_latest(STATE)
        epoch = int(state["epoch"])
        checkpoints.set_aside_after(epoch)
        assert checkpoints.latest_epoch() == epoch
    return epoch


@pytest.mark.parametrize("name", ["exp[1]", "a\\b", "x*", "what?", "]", "gs:", "\udcff"])
def test_a_path_that_checkpoints_cannot_be_kept_below_is_refused_before_anything_is_written(tmp_path, name):
    for folder in (tmp_path / name / "run", tmp_path / name):
        with pytest.raises(RunError, match="choose another folder"):
            Checkpoints(folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b", "ü", "{a,b}", "50%", "a#b", "$HOME", "~", "'\""])
def test_other_odd_paths_hold_checkpoints(tmp_path, name):
    with Checkpoints(tmp_path / name) as checkpoints:
        checkpoints.save(1, STATE)
    assert restore(tmp_path / name) == 1


def test_a_first_checkpoint_that_reads_back_wrong_is_never_used(tmp_path, monkeypatch):
    real = Checkpoints._read_back
    others = {**STATE, "epoch": jnp.int32(7)}
    with Checkpoints(tmp_path) as checkpoints:
        with monkeypatch.context() as patched:
            patched.setattr(Checkpoints, "_read_back", lambda self, epoch, state: real(self, epoch, others))
            with pytest.raises(OSError, match="read back, it holds other values.*nothing is saved") as error:
                checkpoints.save(1, STATE)
            assert "earlier" not in str(error.value)
        with Checkpoints(tmp_path) as again:
            assert again.restore_latest(STATE) is None and not list(tmp_path.iterdir())
        checkpoints.save(1, STATE)
        monkeypatch.setattr(Checkpoints, "_read_back", lambda *_: pytest.fail("the first alone"))
        checkpoints.save(2, STATE)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENOMEM, errno.EMFILE])
def test_an_error_of_the_system_stops_and_leaves_every_checkpoint(folder, monkeypatch, number):
    real = Path.open

    def failing(self, *arguments, **options):
        if "/checkpoints/2/" in str(self):
            raise OSError(number, os.strerror(number), str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", failing)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="left as it is") as error:
            restore(folder)
        (folder / "digests.json").unlink(missing_ok=True)  # nor without a digest
    assert os.strerror(number) in str(error.value) and not {"delete", "remove"} & set(str(error.value).split())
    assert {"1", "2"} <= {path.name for path in folder.iterdir()}
    monkeypatch.undo()
    assert restore(folder) == 2


def test_a_sound_checkpoint_that_does_not_fit_into_memory_is_not_damaged(folder, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes")

    with Checkpoints(folder) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "restore", fail)
        with pytest.raises(CheckpointError, match="RESOURCE_EXHAUSTED.*left as it is"):
            checkpoints.restore_latest(STATE)


@pytest.mark.parametrize("content", [[], "text", 3, None, {"2": 5, "1": None}, {"2": ["x"]}])
def test_a_record_of_digests_of_another_kind_condemns_nothing(folder, content):
    (folder / "digests.json").write_text(json.dumps(content))
    assert restore(folder) == 2
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(3, STATE)
        assert digests.recorded_digest(folder, 3) == checkpoints.digest(3)


def test_a_damaged_checkpoint_is_set_aside_under_a_name_of_its_own(folder):
    for _ in range(2):
        for path in (folder / "2").rglob("*"):
            if path.is_file():
                path.write_bytes(b"damaged")
        with pytest.warns(UserWarning, match="checkpoints/2: damaged checkpoint"):
            assert restore(folder) == 1
        with Checkpoints(folder) as checkpoints:
            checkpoints.set_aside_after(1)
        assert "2" not in json.loads((folder / "digests.json").read_text())  # which the next to be saved has not yet
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(2, STATE)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["1", "2", "2.damaged", "2.damaged-2", "digests.json"]
    assert digests.saved_epochs(folder) == [1, 2]


def test_a_checkpoint_of_larger_arrays_is_read_only_as_far_as_they_are_wanted(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {**STATE, "table": jnp.ones((5000, 2))})
        found = checkpoints.restore_latest(STATE)
    assert found["table"].shape == (3, 2)


@pytest.mark.parametrize("name", ["table", "more"])
def test_a_checkpoint_that_would_unpack_to_far_more_than_the_model_is_not_read(tmp_path, name):
    message = "it declares arrays that unpack to 3,200,0.. bytes, and the model has 28"
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, STATE)
        checkpoints.save(2, {**STATE, name: np.zeros((200_000, 4), np.float32)})
        assert sum(path.stat().st_size for path in (tmp_path / "2").rglob("*") if path.is_file()) < 20_000
        with pytest.raises(CheckpointError, match=f"{message}.*left as it is"):
            checkpoints.restore_latest(STATE)
        (tmp_path / "digests.json").unlink()
        with pytest.warns(UserWarning, match=f"2: damaged checkpoint, not used .*{message}"):
            assert checkpoints.restore_latest(STATE)["epoch"] == 1


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize(
    "lead_out", [lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("/etc"), os.mkfifo]
)
def test_a_checkpoint_that_leads_out_of_its_folder_is_not_read(folder, lead_out, digests):
    lead_out(folder / "2" / "default" / "d" / "more")
    if not digests:
        (folder / "digests.json").unlink()
        os.mkfifo(folder / "digests.json")  # nor does this hang
    with pytest.warns(UserWarning, match="checkpoints/2: damaged checkpoint, not used .*d/more is a link or no file"):
        assert restore(folder) == 1


@pytest.mark.parametrize("digests", [True, False])
def test_checkpoints_that_a_training_replaces_while_they_are_read_are_not_damaged(folder, monkeypatch, digests):
    """Whoever reads meets a checkpoint that is half removed, and finds the newer one."""
    real = Checkpoints._restore

    def replaced_meanwhile(self, epoch, target):
        if epoch == 2:
            with Checkpoints(folder) as training:
                for newer in (3, 4):
                    training.save(newer, {**STATE, "epoch": jnp.int32(newer)})
        return real(self, epoch, target)

    if not digests:
        (folder / "digests.json").unlink()
    with warnings.catch_warnings(), Checkpoints(folder, read_only=True) as checkpoints:
        warnings.simplefilter("error", UserWarning)
        monkeypatch.setattr(Checkpoints, "_restore", replaced_meanwhile)
        assert checkpoints.restore_latest(STATE)["epoch"] == 4


def test_checkpoints_that_are_replaced_too_often_to_be_read_are_not_damaged(folder, monkeypatch):
    def replaced_again(self, epoch, target):
        (folder / str(epoch)).rename(folder / str(epoch + 1))
        raise FileNotFoundError(epoch)

    monkeypatch.setattr(Checkpoints, "_restore", replaced_again)
    with Checkpoints(folder, read_only=True) as checkpoints:
        with pytest.raises(CheckpointError, match="faster than they can be read; give the command again"):
            checkpoints.restore_latest(STATE)


def test_a_checkpoint_that_is_gone_while_they_are_listed_keeps_no_reader_out(folder, monkeypatch):
    real, gone = checkpoint.ocp.CheckpointManager, [FileNotFoundError("checkpoints/1")]

    def listing(*arguments, **options):
        if gone:
            raise gone.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(checkpoint.ocp, "CheckpointManager", listing)
    with Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.restore_latest(STATE)["epoch"] == 2


@pytest.fixture
def interruptible():
    """As a terminal leaves Ctrl-C, and a shell's background job does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("name", ["save", "restore"])
@pytest.mark.parametrize("dropped", [True, False])
def test_an_interrupt_that_orbax_drops_or_makes_another_error_is_one_and_no_damage(folder, monkeypatch, name, dropped):
    def interrupted(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not dropped:
                raise RuntimeError("the event loop was closed") from None

    with Checkpoints(folder) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, name, interrupted)
        with pytest.raises(KeyboardInterrupt), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            checkpoints.save(3, STATE) if name == "save" else checkpoints.restore_latest(STATE)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert restore(folder) == 2
