"""Jobs on a Ray of two workers: the same rows, whoever is killed, and one line for what a user can cause.

The tests share one cluster. Its workers, its head and the commands that use it are processes, and are really killed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import types

import pytest
import torch
from local_ray import ENVIRONMENT, SECONDS, LocalRay, wait_for

from maxrl_lab.errors import InputError
from maxrl_lab.runs import ray_worker, workers
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.ray_engine import RayEngine
from maxrl_lab.training.groups import DivergedError

ray = pytest.importorskip("ray", reason="the extra ray")
pytestmark = pytest.mark.slow  # `make test-ray`
SMOKE = ("run", "maze_scaling", "--preset", "smoke", "--steps", "20", "--quiet")
TABLES = ("base", "base_votes", "bases", "dynamics", "evaluations", "sweep", "votes")
"""The tables of the experiment, but for where the time went."""


def work(job):
    stream = torch.Generator().manual_seed(job)
    value = float((torch.randn(50, 50, generator=stream) @ torch.randn(50, generator=stream)).sum())
    return job, value, torch.get_num_threads(), os.getcwd(), workers.in_parallel(abs, [-job, 1], processes=2)


def fail_at_three(job):
    if job == 3:
        raise InputError("three is refused")
    if job == 4:
        raise DivergedError(4, 12)
    return job


def count_to_ten(folder):
    """Ten steps, each kept and written down; the worker is killed in the middle, once."""
    checkpoint = Checkpoint(folder / "state")
    for step in range((checkpoint.load() or {"step": 0})["step"], 10):
        if step == 5 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (folder / "steps").open("a") as file:
            print(step, file=file)
        checkpoint.save({"step": step + 1})
    return (folder / "steps").read_text().split()


def kill_itself(job):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        local = LocalRay(folder)
        yield local
        local.kill()


@pytest.fixture(scope="module")
def engine(cluster, tmp_path_factory):
    """This process as the sender of jobs; it leaves the cluster when the first command is to use it."""
    folder = tmp_path_factory.mktemp("shared")
    with RayEngine(cluster.address, modules=["maxrl_lab.training.fit"], shared=[folder]) as ours:
        yield ours
    assert not list(folder.iterdir())


class TestJobs:
    def test_the_same_as_on_this_machine_whatever_a_job_hands_out_itself(self, engine):
        lengths, jobs = [], [5, 1, 3, 2]
        alone = workers.in_parallel(work, jobs, processes=1)
        with workers.engine(engine):
            together = workers.in_parallel(work, jobs, progress=lambda items: lengths.append(len(items)) or items)
        assert together == alone
        assert {result[2:4] for result in together} == {(1, os.getcwd())}
        assert lengths == [4]

    def test_errors_come_through_as_themselves_and_the_next_call_works(self, engine):
        for jobs, kind in (([1, 3], InputError), ([1, 4], DivergedError)):
            with pytest.raises(kind) as raised:
                engine(fail_at_three, jobs, iter)
            assert str(raised.value) == str(InputError("three is refused") if 3 in jobs else DivergedError(4, 12))
        assert engine(fail_at_three, [2, 1], iter) == [2, 1]
        assert engine(fail_at_three, [], iter) == []

    def test_the_job_of_a_killed_worker_goes_on_from_its_checkpoint(self, engine, tmp_path):
        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        (folders[1] / "killed").touch()  # the other worker is left alone
        assert engine(count_to_ten, folders, iter) == [list("0123456789")] * 2
        assert (folders[0] / "killed").exists()

    def test_a_job_that_kills_every_worker_ends_in_one_line(self, engine):
        with pytest.raises(InputError, match="has lost its worker 4 times, for memory perhaps"):
            engine(kill_itself, [1], iter)
        assert engine(abs, [-1], iter) == [1]

    def test_a_node_that_is_not_like_this_one_is_refused(self, engine, monkeypatch):
        sender = ray_worker.describe([], [], gpu=False)
        other = {**sender.facts, "torch": "1.0"}
        with monkeypatch.context() as patch:
            patch.setattr(ray_worker, "_facts", lambda gpu: other)
            patch.setattr(engine, "_sender", ray.put(ray_worker.describe([], [], gpu=False)))
            with pytest.raises(InputError, match=r"\Athe node .* has another torch: 2.*, where this command has 1.0\Z"):
                engine(abs, [-1], iter)
        assert engine(abs, [-1], iter) == [1]

    def test_a_node_without_the_lab_is_told_in_one_line(self, engine, monkeypatch):
        module = types.ModuleType("only_here")
        exec("def work(sender, packed): return 1", module.__dict__)
        monkeypatch.setitem(sys.modules, "only_here", module)
        monkeypatch.setattr(engine, "_task", ray.remote(module.work).options(max_retries=0))
        with pytest.raises(InputError, match=r"cannot import the lab \(.*No module named 'only_here'\); install there"):
            engine(abs, [-1], iter)

    def test_a_job_for_which_there_is_no_room_does_not_wait(self, engine):
        engine.__exit__()
        crowded = RayEngine(engine._address, gpus_per_job=0.5)
        with crowded, pytest.raises(InputError, match=r"\Aa job takes 0.5 GPU, and the Ray cluster has 0\Z"):
            crowded(abs, [1], iter)


@pytest.fixture(scope="module")
def local_rows(tmp_path_factory):
    """The rows that the cores of this machine make."""
    folder = tmp_path_factory.mktemp("local")
    assert command(folder).wait(SECONDS) == 0
    return rows(folder)


def command(folder, *flags):
    """The command of a user, begun in a folder of its own, with a cache of its own."""
    environment = {**ENVIRONMENT, "MAXRL_LAB_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "maxrl_lab.command", *SMOKE, *flags],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(folder):
    return [(folder / "results/smoke/maze_scaling" / f"{name}.csv").read_bytes() for name in TABLES]


def trained(folder):
    """The policies that are complete."""
    return list((folder / "cache/policies").glob("run-*/record.json"))


class TestCommands:
    def test_rows_are_those_of_this_machine_though_a_worker_is_killed_half_way(self, cluster, local_rows, tmp_path):
        running = command(tmp_path, "--engine", "ray", "--address", cluster.address)
        wait_for(lambda: len(trained(tmp_path)) >= 4, "four policies")
        killed = wait_for(cluster.workers, "a job at work")[0]
        os.kill(killed, signal.SIGKILL)
        _, errors = running.communicate(timeout=SECONDS)
        assert (running.returncode, errors) == (0, "")
        assert rows(tmp_path) == local_rows

    def test_a_lost_head_is_told_in_one_line_and_the_same_command_goes_on(self, cluster, local_rows, tmp_path):
        flags = ("--engine", "ray", "--address", cluster.address)
        running = command(tmp_path, *flags)
        wait_for(lambda: len(trained(tmp_path)) >= 4, "four policies")
        cluster.kill()
        _, errors = running.communicate(timeout=SECONDS)
        before = {file: file.stat().st_mtime_ns for file in trained(tmp_path)}
        assert running.returncode == 2
        assert "Traceback" not in errors
        told = errors.splitlines()[-1]  # after what Ray's own threads have to say
        assert told.startswith("maxrl-lab: error: the Ray cluster is lost (")
        assert told.endswith("); the same command goes on from what is there")
        cluster.start()
        again = command(tmp_path, *flags)
        _, errors = again.communicate(timeout=SECONDS)
        assert (again.returncode, errors) == (0, "")
        assert rows(tmp_path) == local_rows
        assert all(file.stat().st_mtime_ns == written for file, written in before.items())
