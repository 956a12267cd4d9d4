"""Jobs side by side: results in order, errors as themselves, one thread each, whatever the number of processes."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.runs import workers
from maxrl_lab.training.groups import DivergedError


def work(job):
    """A result that depends on the job alone, with where it was made."""
    stream = torch.Generator().manual_seed(job)
    value = float((torch.randn(50, 50, generator=stream) @ torch.randn(50, generator=stream)).sum())
    return job, value, torch.get_num_threads(), os.getpid()


def fail_at_three(job):
    if job == 3:
        raise ValueError(f"job {job} cannot be done")
    return job


def diverge(job):
    raise DivergedError(job, 12)


def interrupt(job):
    raise KeyboardInterrupt


def kill_itself(job):
    os.kill(os.getpid(), signal.SIGKILL)


def note_and_wait(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(120)


def wait_in_two(folder):
    workers.in_parallel(note_and_wait, [folder, folder], processes=2)


def is_running(pid):
    """Whether there is such a process, and more of it than its exit status."""
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_until_ended(pids):
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def three_threads():
    """The user's own number of threads, which is neither one nor that of this machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class TestOneProcess:
    def test_results_are_in_the_order_of_the_jobs(self):
        found = workers.in_parallel(work, [5, 1, 3], processes=1)
        assert [job for job, *_ in found] == [5, 1, 3]
        assert {pid for *_, pid in found} == {os.getpid()}

    def test_one_thread_inside_and_the_users_afterwards(self, three_threads):
        assert [threads for _, _, threads, _ in workers.in_parallel(work, [1, 2], processes=1)] == [1, 1]
        assert torch.get_num_threads() == 3

    @pytest.mark.parametrize("function", [fail_at_three, diverge, interrupt])
    def test_threads_are_restored_after_an_error(self, three_threads, function):
        with pytest.raises((ValueError, KeyboardInterrupt)):
            workers.in_parallel(function, [1, 3], processes=1)
        assert torch.get_num_threads() == 3

    @pytest.mark.parametrize("processes", [0, 1, 2, 7])
    def test_one_job_or_none_starts_no_process(self, processes, monkeypatch):
        monkeypatch.setattr(workers, "_pool", lambda count: pytest.fail("a process was started"))
        assert workers.in_parallel(work, [], processes) == []
        ((job, _, threads, pid),) = workers.in_parallel(work, [4], processes)
        assert (job, threads, pid) == (4, 1, os.getpid())

    def test_zero_means_one_process_per_core(self, three_threads, monkeypatch):
        asked = []

        def pool(count):
            asked.append(count)
            raise KeyboardInterrupt

        monkeypatch.setattr(workers, "_pool", pool)
        with pytest.raises(KeyboardInterrupt):
            workers.in_parallel(work, list(range(8)))
        with pytest.raises(KeyboardInterrupt):
            workers.in_parallel(work, [1, 2])  # one pool for all calls, whatever the number of jobs
        assert asked == [3, 3]

    def test_progress_sees_every_job(self):
        seen = []
        workers.in_parallel(work, [5, 1], processes=1, progress=lambda jobs: seen.extend(jobs) or jobs)
        assert seen == [5, 1]


class TestTwoProcesses:
    def test_the_same_as_one(self, three_threads):
        lengths = []

        def progress(items):
            lengths.append(len(items))
            return items

        jobs = [5, 1, 3, 2, 4]
        alone = workers.in_parallel(work, jobs, processes=1)
        together = workers.in_parallel(work, jobs, processes=2, progress=progress)
        # to the last bit: the threads are as many, here and there
        assert [each[:3] for each in together] == [each[:3] for each in alone]
        assert os.getpid() not in {pid for *_, pid in together}
        assert lengths == [5]
        assert torch.get_num_threads() == 3

    def test_an_error_comes_through_as_itself_and_the_next_call_works(self):
        """It ends the workers, and no other process that this one has started."""
        bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
        bystander.start()
        pids = {pid for *_, pid in workers.in_parallel(work, [1, 2, 3, 4], processes=2)}
        with pytest.raises(ValueError, match=r"\Ajob 3 cannot be done\Z"):
            workers.in_parallel(fail_at_three, [1, 2, 3, 4], processes=2)
        wait_until_ended(pids)
        assert bystander.is_alive()
        bystander.kill()
        assert workers.in_parallel(fail_at_three, [2, 1], processes=2) == [2, 1]

    def test_a_worker_that_is_killed_is_told_to_the_user(self, refuses):
        with refuses("a worker was killed, for memory perhaps; --processes 1 trains one run at a time"):
            workers.in_parallel(kill_itself, [1, 2], processes=2)

    def test_workers_see_the_environment_that_this_process_keeps_clean(self, monkeypatch):
        monkeypatch.delenv("MALLOC_TOP_PAD_", raising=False)
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")  # the user's
        workers._pool.cache_clear()
        names = ["MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"]
        assert workers.in_parallel(os.getenv, names, processes=2) == [str(2**26), "1"]
        assert [os.environ.get(name) for name in names] == [None, "1"]

    def test_workers_end_with_their_parent_however_it_ends(self, tmp_path):
        code = "import sys; sys.path[:0] = [sys.argv[1]]; import test_workers; test_workers.wait_in_two(sys.argv[2])"
        parent = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)])
        deadline = time.monotonic() + 60
        while len(pids := [int(path.name) for path in tmp_path.iterdir()]) < 2:
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent.kill()
        parent.wait()
        wait_until_ended(pids)

    def test_divergence_comes_through_as_itself(self):
        # an error that cannot be unpickled would break the pool instead
        error = pickle.loads(pickle.dumps(DivergedError(1, 12)))
        assert isinstance(error, DivergedError)
        assert (error.run, error.step, str(error)) == (1, 12, str(DivergedError(1, 12)))


def test_one_thread_restores_what_was_there(three_threads):
    with workers.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(KeyError), workers.one_thread():
        raise KeyError
    assert torch.get_num_threads() == 3


class TestEngine:
    def test_makes_the_jobs_instead(self):
        handed = []

        def engine(function, jobs, progress):
            handed.append(list(jobs))
            return [function(job) for job in progress(jobs)]

        with workers.engine(engine):
            assert workers.in_parallel(abs, [-2, 1], processes=2) == [2, 1]
        assert workers.in_parallel(abs, [-3], processes=1) == [3]
        assert handed == [[-2, 1]]

    def test_ends_where_it_fails(self):
        def engine(function, jobs, progress):
            raise InputError("no cluster")

        with pytest.raises(InputError, match="no cluster"), workers.engine(engine):
            workers.in_parallel(abs, [1])
        assert workers.in_parallel(abs, [-1]) == [1]
