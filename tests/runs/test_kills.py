"""A run that is killed at any moment, and started again, ends with the rows of one that was not.

Started as a script, this file is the process that gets killed: `python tests/runs/test_kills.py FOLDER`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_problem import SmallProblem

from maxrl_lab.runs.folder import execute
from maxrl_lab.training.fit import Optimisation, fit
from maxrl_lab.training.methods import Expected, Sampled

# Killed by SIGKILL, which no handler sees: 12 steps, a checkpoint every 4, so a run writes settings, provenance,
# 3 checkpoints, rows and provenance again.
WRITES = 7
OPTIMISATION = Optimisation(
    steps=12, measure_every=3, checkpoint_every=4, optimiser="adam", schedule="cosine", warmup=2
)
METHODS = [Sampled("maxrl", 4), Sampled("grpo", 4), Expected("rloo", 4)]


def train_small_problem(folder, before_batch=lambda _step: None):
    problem = SmallProblem(seeds=[0, 0, 1])

    def batch(step):
        before_batch(step)
        return problem.batch(step)

    def compute(checkpoint):
        return fit(
            problem.stack,
            METHODS,
            [0.1, 0.1, 0.05],
            OPTIMISATION,
            batch=batch,
            measure=problem.measure,
            checkpoint=checkpoint.stage("fit"),
        )

    return execute(folder, "small problem", OPTIMISATION, compute)


def kill_self(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_step(folder, step):
    train_small_problem(folder, before_batch=lambda now: kill_self() if now == step else None)


def killed_at_write(folder, write):
    """The kill comes when the bytes are in the temporary file and the file has not got its name."""
    count = iter(range(1, WRITES + 1))
    os.fsync = lambda _descriptor: kill_self() if next(count) == write else None
    train_small_problem(folder)


def killed_at_cleaning(folder):
    shutil.rmtree = kill_self
    train_small_problem(folder)


PLANS = {
    **{f"step-{step}": (killed_at_step, step) for step in (0, 6, 8)},
    **{f"write-{write}": (killed_at_write, write) for write in range(1, WRITES + 1)},
    "cleaning": (killed_at_cleaning,),
}


def die_by_every_plan(folder):
    """Fork a child for each plan and print how each ended."""
    import torch._dynamo  # noqa: F401  (torch.optim imports it on first use: paid once here, not in every child)

    for name, (plan, *arguments) in PLANS.items():
        child = os.fork()
        if child == 0:
            plan(folder / name, *arguments)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(name, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "survived")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    # One thread, as the forked children cannot inherit a thread pool; these networks are too small to use more.
    root = Path(__file__).parents[2]
    path = os.pathsep.join(map(str, (root, root / "tests/support")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, __file__, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    assert ended.stdout.split() == [word for name in PLANS for word in (name, str(int(signal.SIGKILL)))]
    return folder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train_small_problem(folder)
    return (folder / "rows.csv").read_bytes()


# The step that the second session starts with: that of the last whole checkpoint; None where nothing is left to train.
STARTS_AGAIN_AT = {
    **{"step-0": 0, "step-6": 4, "step-8": 8},
    **{"write-1": 0, "write-2": 0, "write-3": 0, "write-4": 4, "write-5": 8, "write-6": None, "write-7": None},
    "cleaning": None,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("plan", PLANS)
def test_a_killed_run_ends_with_the_rows_of_one_that_was_not(killed, uninterrupted, plan):
    folder = killed / plan
    steps = []
    train_small_problem(folder, before_batch=steps.append)
    assert (folder / "rows.csv").read_bytes() == uninterrupted
    assert json.loads((folder / "provenance.json").read_text())["complete"] is True
    assert steps == ([] if STARTS_AGAIN_AT[plan] is None else list(range(STARTS_AGAIN_AT[plan], 12)))


def test_the_uninterrupted_run_measured_what_its_settings_say(uninterrupted):
    # 3 runs, measured at steps 0, 3, 6, 9 and 12.
    lines = uninterrupted.decode().splitlines()
    assert lines[0] == "step,run,seed,log_pass_rate"
    assert [line.split(",")[0] for line in lines[1::3]] == ["0", "3", "6", "9", "12"]
    assert len(lines) == 1 + 5 * 3


if __name__ == "__main__":
    die_by_every_plan(Path(sys.argv[1]))
