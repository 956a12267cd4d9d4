"""Files that are whole or not there, and where the cache is."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from maxrl_lab.errors import InputError
from maxrl_lab.runs import files
from maxrl_lab.runs.files import cache_folder, file_name, read_json, write_atomically


def names(folder):
    return {path.name for path in folder.rglob("*")}


def full_disk(*_arguments):
    raise OSError("no space left on device")


def test_it_makes_the_folder_and_leaves_the_file_alone_in_it(tmp_path):
    write_atomically(tmp_path / "new" / "file.txt", b"first")
    write_atomically(tmp_path / "new" / "file.txt", b"second")
    assert (tmp_path / "new" / "file.txt").read_bytes() == b"second"
    assert names(tmp_path) == {"new", "file.txt"}


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_midway_keeps_the_old_content(tmp_path, monkeypatch, call):
    file = tmp_path / "file.txt"
    write_atomically(file, b"old")
    monkeypatch.setattr(call, full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(file, b"new")
    assert names(tmp_path) == {"file.txt"}
    assert file.read_bytes() == b"old"


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, monkeypatch):
    def fsync(_descriptor):
        raise OSError(errno.ENOSPC, "no space left")  # as the system says it: of no file

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"no space left.*file.txt'$"):
        write_atomically(tmp_path / "file.txt", b"new")


@pytest.fixture(scope="module")
def dead_process():
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_a_killed_process_left_goes_with_the_next_write_in_its_folder(tmp_path, monkeypatch, dead_process):
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (seen.update(names(tmp_path)), real(descriptor)))
    monkeypatch.setattr(os, "getpid", lambda: dead_process)
    monkeypatch.setattr(Path, "unlink", lambda *_arguments, **_options: None)  # the kill comes first
    monkeypatch.setattr(Path, "replace", full_disk)
    seen = set()
    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path / "file.txt", b"half")
    (left,) = seen
    monkeypatch.undo()
    assert names(tmp_path) == {left}
    write_atomically(tmp_path / "other.txt", b"whole")
    assert names(tmp_path) == {"other.txt"}


def test_what_another_may_be_writing_stays_for_a_day(tmp_path, dead_process):
    here = files._host()
    kept = {f"a.csv.{os.getpid()}@{here}.tmp", f"a.csv.{dead_process}@elsewhere.tmp"}
    others = {"mine.tmp", "x.1.2.tmp", f"x.y@{here}.tmp", f"a.csv.{dead_process}@{here}.txt"}
    for name in kept | others:
        (tmp_path / name).write_text("half")
    write_atomically(tmp_path / "b.csv", b"whole")
    assert names(tmp_path) == kept | others | {"b.csv"}
    for name in kept | others:
        os.utime(tmp_path / name, (1e9, 1e9))
    write_atomically(tmp_path / "b.csv", b"whole")
    assert names(tmp_path) == others | {"b.csv"}


def test_a_process_that_may_not_be_asked_lives(monkeypatch):
    assert files._lives(os.getpid())
    assert not files._lives(10**30)
    monkeypatch.setattr(os, "kill", lambda *_arguments: (_ for _ in ()).throw(PermissionError()))
    assert files._lives(1)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 200_000, b"[]", b'{"b": 1}'], ids=lambda text: text[:4])
def test_damaged_json_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a.json is not readable JSON \(.*\); start again with --force$"):
        read_json(tmp_path / "a.json", "a")


def test_the_bytes_are_flushed_to_disk_before_they_get_their_name(tmp_path, monkeypatch):
    file = tmp_path / "file.txt"
    write_atomically(file, b"old")
    flushed = []

    def fsync(descriptor):
        flushed.append((os.fstat(descriptor).st_size, file.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(file, b"the new content")
    assert flushed[0] == (len(b"the new content"), b"old")


def test_the_cache_is_where_the_user_says_or_at_home_or_among_the_temporary_files(refuses, tmp_path, monkeypatch):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("MAXRL_LAB_CACHE", "~/own")  # as a file of settings or Docker sets it
    assert cache_folder() == tmp_path / "home/own"
    monkeypatch.setenv("MAXRL_LAB_CACHE", "")  # as if it were not set
    assert cache_folder() == tmp_path / "xdg/maxrl_lab"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert cache_folder() == tmp_path / "home/xdg/maxrl_lab"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / "home/.cache/maxrl_lab"
    monkeypatch.setattr(Path, "expanduser", lambda _self: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert cache_folder() == tmp_path / "temporary/maxrl_lab"
    assert list(tmp_path.iterdir()) == []  # it only says where
    monkeypatch.setenv("MAXRL_LAB_CACHE", "~/own")
    with refuses("MAXRL_LAB_CACHE must name a folder, got '~/own', and that user has no home"):
        cache_folder()


def test_names_of_files_are_one_level_and_differ_where_estimators_do():
    assert file_name("pkpo:k=4-0") == "pkpo-k=4-0"
    assert file_name("reasoning_gym/chain_sum") == "reasoning_gym_chain_sum"
    texts = [f"maxrl_order:order={order}-0" for order in ("N", "N/2", "N-2", "N+2", "N*2", "2")]
    found = [file_name(text) for text in texts]
    assert len({*found}) == len(found)
    assert file_name("a b\\c\n<d>|'\"*?") == "a-b-c--d----x-"
    assert not any(set(name) & set("/\\: ") for name in found)
