"""Files are whole or not there, and their modes, links, devices and pipes stay what they were."""

import errno
import fcntl
import os
import stat
import threading

import pytest

from isolator_jax.files import is_draft, remove_drafts, write_atomically, write_json, write_text


@pytest.fixture
def umask():
    previous = os.umask(0o027)
    yield
    os.umask(previous)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_follows_the_umask_and_a_replaced_one_keeps_its_mode(tmp_path, umask):
    path = tmp_path / "lists.json"
    write_json(path, {"a": float("nan")})
    assert mode(path) == 0o640 and path.read_text() == '{\n  "a": null\n}\n'
    for kept in (0o600, 0o444, 0o664):
        path.chmod(kept)
        write_text(path, str(kept))
        assert mode(path) == kept and path.read_text() == str(kept)


def test_a_pipe_is_written_to_and_stays(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_text()))
    reader.start()
    write_text(path, "all of it")
    reader.join()
    assert found == ["all of it"] and stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_written_to_and_stays(tmp_path):
    path = tmp_path / "null"
    path.symlink_to("/dev/null")
    write_text(path, "nowhere")
    assert path.is_symlink() and stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_stream_of_its_own_goes_on_where_it_is(tmp_path):
    """As /dev/stdout does, which the shell may have opened for a file that something stands in."""
    with open(tmp_path / "log", "w") as log:
        log.write("before, ")
        log.flush()
        write_text(f"/dev/fd/{log.fileno()}", "between, ")
        log.write("after")
    assert (tmp_path / "log").read_text() == "before, between, after"


def test_a_link_to_a_file_is_replaced_and_not_followed(tmp_path):
    target, link = tmp_path / "elsewhere", tmp_path / "report.json"
    target.write_text("mine")
    link.symlink_to(target)
    write_text(link, "new")
    assert target.read_text() == "mine" and not link.is_symlink() and link.read_text() == "new"


def test_what_fails_leaves_the_old_file_and_no_draft_and_what_a_kill_leaves_is_known(tmp_path):
    path = tmp_path / ("n" * 240 + ".txt")
    write_text(path, "old")

    def fail(draft):
        draft.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    left, mine = tmp_path / ".draft-0123456789abcdef.json", tmp_path / ".draft-notes.txt"
    for name in (left, mine):
        name.write_text("half")
    assert is_draft(left) and not is_draft(path) and not is_draft(mine)
    remove_drafts(tmp_path)
    assert set(tmp_path.iterdir()) == {path, mine}


@pytest.mark.parametrize("locks", [True, False])
def test_a_draft_that_is_being_written_is_not_taken_for_one_that_a_kill_left(tmp_path, monkeypatch, locks):
    """As of lists that are written into a run folder in which a training begins."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if not locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    left = tmp_path / ".draft-0123456789abcdef"
    left.touch()
    os.utime(left, (1, 1))

    def slow(draft):
        draft.write_text("all")
        remove_drafts(tmp_path)

    write_atomically(tmp_path / "lists.csv", slow)
    assert [path.name for path in tmp_path.iterdir()] == ["lists.csv"]
    assert (tmp_path / "lists.csv").read_text() == "all"
