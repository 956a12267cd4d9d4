"""What a node of a cluster compares with the machine that has sent it a job, before it makes any."""

import dataclasses
import os
import pickle
import signal
import socket
import subprocess
import sys
import types

import pytest

from maxrl_lab import extras
from maxrl_lab.errors import InputError
from maxrl_lab.runs import ray_engine, ray_worker
from maxrl_lab.runs.fingerprint import fingerprint
from maxrl_lab.runs.ray_engine import RayEngine

MODULE, FILE = "maxrl_lab.rows", "maxrl_lab/rows.py"


@pytest.fixture
def sender(monkeypatch, tmp_path):
    """A sender like this process, which is put back afterwards: current folder, environment, modules' folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(ray_worker, "PATIENCE", 0.0)
    with ray_worker.marks([tmp_path / "cache", tmp_path / "rows"]) as marks:
        yield ray_worker.describe([MODULE], marks, gpu=False)


def test_a_node_that_is_alike_works_where_the_sender_does(sender, monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    monkeypatch.setenv("MAXRL_LAB_CACHE", "elsewhere")
    ray_worker._prepare(dataclasses.replace(sender, path=(*sender.path, "/of/the/sender")))
    assert (os.getcwd(), os.environ["MAXRL_LAB_CACHE"]) == (str(tmp_path), str(tmp_path / "cache"))
    assert (sys.path[0], sys.path[-1]) == (str(extras.CHECKOUT), "/of/the/sender")
    assert len(sys.path) == len(set(sys.path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"folder": f"{s.folder}/nowhere"}, "has no folder .*/nowhere; call the command in one that all"),
        (lambda s: {"facts": {**s.facts, "numpy": "0.9"}}, "has another numpy: .*, where this command has 0.9"),
        (
            lambda s: {"facts": {**s.facts, "CPU": "of 1982"}},
            "has another CPU: with .*, where this command has of 1982",
        ),
        (
            lambda s: {"code": {MODULE: {**s.code[MODULE], FILE: "0"}}},
            "has other code, which differs in .*rows.py; install the same commit there",
        ),
    ],
)
def test_a_node_that_differs_refuses(sender, change, message):
    with pytest.raises(InputError, match=rf"\Athe node .* {message}"):
        ray_worker._prepare(dataclasses.replace(sender, **change(sender)))


def test_a_folder_of_the_same_name_on_another_disk_is_not_shared(sender):
    sender.marks[1].unlink()
    with pytest.raises(InputError, match=rf"does not share {sender.marks[1].parent}; rows"):
        ray_worker._prepare(sender)


def test_the_code_is_that_of_the_modules(sender):
    assert sender.code == {MODULE: fingerprint(MODULE)}
    assert FILE in sender.code[MODULE]


def test_a_node_without_a_module_of_the_sender_says_so(sender, monkeypatch):
    ray = types.ModuleType("ray")
    ray.cloudpickle = pickle
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert ray_worker.work(sender, pickle.dumps((abs, -1))) == 1
    with pytest.raises(InputError, match=r"the node .* has no module no_such_module; install there what is installed"):
        ray_worker.work(sender, b"cno_such_module\nwork\n.")


def test_marks_are_gone_afterwards(tmp_path):
    with ray_worker.marks([tmp_path / "new"]) as marks:
        assert [mark.parent for mark in marks if mark.exists()] == [tmp_path / "new"]
    assert not list((tmp_path / "new").iterdir())


def test_a_mark_of_a_killed_process_goes_with_the_next_one(tmp_path):
    code = "import os, signal, sys; from pathlib import Path; from maxrl_lab.runs import ray_worker\n"
    code += "with ray_worker.marks([Path(sys.argv[1])]): os.kill(os.getpid(), signal.SIGKILL)"
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=extras.CHECKOUT)
    assert process.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with ray_worker.marks([tmp_path]) as marks:
        assert list(tmp_path.iterdir()) == marks


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "ray", ("no_such_package",))
    with pytest.raises(InputError, match=r"no_such_package is not installed; it comes with the extra ray: pip install"):
        RayEngine()


def test_an_address_is_that_of_a_cluster_of_this_machine(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "ray", ())
    monkeypatch.setenv("RAY_ADDRESS", "ray://somewhere:10001")
    with pytest.raises(InputError, match=r"must be HOST:PORT or auto, got 'ray://somewhere:10001'"):
        RayEngine()
    assert RayEngine("auto")([].append, [], iter) == []  # nothing to do: no cluster is asked


def test_a_head_that_does_not_answer_is_lost_though_jobs_go_on_ending(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "ray", ())
    now = [100.0]
    monkeypatch.setattr(ray_engine.time, "monotonic", lambda: now[0])
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        engine = RayEngine("auto")
        engine._head, engine._heard, engine._asked = f"127.0.0.1:{head.getsockname()[1]}", 100.0, 100.0
        head.listen()
        for now[0] in (150.0, 200.0):
            engine._listen()
    assert engine._heard == 200.0
    for now[0] in (203.0, 209.0, 210.5):  # nothing listens now; at 210.5 it was asked a moment ago
        engine._listen()
    now[0] = 211.5
    with pytest.raises(
        InputError, match=r"is lost \(its head 127.0.0.1:\d+ does not answer any more\); the same command"
    ):
        engine._listen()
