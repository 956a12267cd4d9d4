"""Files that are whole or not there, and where the cache is."""

import os
from pathlib import Path

import pytest

from maxrl_lab.runs.files import cache_folder, file_name, write_atomically


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


def test_the_bytes_are_flushed_to_disk_before_they_get_their_name(tmp_path, monkeypatch):
    file = tmp_path / "file.txt"
    write_atomically(file, b"old")
    flushed = []

    def fsync(descriptor):
        flushed.append((os.fstat(descriptor).st_size, file.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(file, b"the new content")
    assert flushed[0] == (len(b"the new content"), b"old")


def test_the_cache_is_where_the_user_says_or_at_home_or_among_the_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("MAXRL_LAB_CACHE", "")  # as if it were not set
    assert cache_folder() == tmp_path / "xdg/maxrl_lab"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / "home/.cache/maxrl_lab"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert cache_folder() == tmp_path / "temporary/maxrl_lab"
    assert list(tmp_path.iterdir()) == []  # it only says where


def test_names_of_files_are_one_level_and_differ_where_estimators_do():
    assert file_name("pkpo:k=4-0") == "pkpo-k=4-0"
    assert file_name("reasoning_gym/chain_sum") == "reasoning_gym_chain_sum"
    texts = [f"maxrl_order:order={order}-0" for order in ("N", "N/2", "N-2", "N+2", "N*2", "2")]
    found = [file_name(text) for text in texts]
    assert len({*found}) == len(found)
    assert file_name("a b\\c\n<d>|'\"*?") == "a-b-c--d----x-"
    assert not any(set(name) & set("/\\: ") for name in found)
