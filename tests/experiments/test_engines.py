"""The flags that say where jobs are made: which go together, and what an engine is given."""

import pytest
import torch

from experiments import _engines
from experiments.catalogue import EXPERIMENTS
from maxrl_lab.runs import ray_engine, workers
from maxrl_lab.runs.command_line import Parser

MAZES, NAVIGATION = EXPERIMENTS["maze_scaling"], EXPERIMENTS["navigation"]


@pytest.fixture
def engines(monkeypatch):
    """What engines are made with; they make jobs by themselves."""
    made = []

    class Engine:
        def __init__(self, address, **options):
            made.append((address, options))

        def __enter__(self):
            return self

        def __call__(self, function, jobs, progress):
            return [("by ray", function(job)) for job in jobs]

        def __exit__(self, *error):
            made.append("left")

    monkeypatch.setattr(ray_engine, "RayEngine", Engine)
    return made


def flags(*arguments, device="cpu"):
    parser = Parser("maxrl-lab run", "")
    _engines.add_engine_flags(parser)
    parser.set_defaults(out="rows", device=device)
    return parser.parse_args(arguments)


def test_jobs_of_an_experiment_go_to_the_cluster_and_afterwards_no_more(engines, monkeypatch):
    monkeypatch.setenv("MAXRL_LAB_CACHE", "/cache")
    with _engines.engine_of([MAZES], flags("--engine", "ray", "--address", "auto")):
        assert workers.in_parallel(abs, [-1]) == [("by ray", 1)]
    assert workers.in_parallel(abs, [-1]) == [1]
    ((address, options), left) = engines
    assert (address, options["modules"], options["gpus_per_job"]) == ("auto", ["experiments.tokens.maze_scaling"], 0)
    assert [str(folder) for folder in options["shared"]] == ["rows", "/cache"]
    assert left == "left"


def test_the_default_is_this_machine(engines):
    with _engines.engine_of([NAVIGATION], flags()):
        assert workers.in_parallel(abs, [-1]) == [1]
    assert engines == []


@pytest.mark.parametrize(
    ("entries", "arguments", "message"),
    [
        ([MAZES], ("--address", "auto"), "--address goes with --engine ray"),
        ([MAZES], ("--gpus-per-job", "1"), "--gpus-per-job goes with --engine ray"),
        ([MAZES], ("--engine", "ray", "--gpus-per-job", "1"), "--gpus-per-job goes with --device cuda"),
        (
            [NAVIGATION],
            ("--engine", "ray"),
            "navigation trains all its runs as one program, and has no jobs for --engine ray to hand out; "
            "`maxrl-lab reproduce --engine ray` makes whole experiments side by side",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_refused(engines, refuses, entries, arguments, message):
    with refuses(message), _engines.engine_of(entries, flags(*arguments)):
        pytest.fail("the experiment began")
    assert engines == []


def test_whole_experiments_are_jobs_too(engines):
    with _engines.engine_of([NAVIGATION, MAZES], flags("--engine", "ray")):
        assert workers.in_parallel(abs, [-1]) == [("by ray", 1)]


class TestGpus:
    @pytest.fixture(autouse=True)
    def two_gpus(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    @pytest.mark.parametrize(("arguments", "part"), [((), 1.0), (("--gpus-per-job", "0.25"), 0.25)])
    @pytest.mark.parametrize("device", ["cuda", "auto"])
    def test_a_job_takes_a_whole_one_or_a_part(self, engines, arguments, part, device):
        with _engines.engine_of([MAZES], flags("--engine", "ray", *arguments, device=device)):
            pass
        assert engines[0][1]["gpus_per_job"] == part

    @pytest.mark.parametrize("part", ["0", "-1", "1.5", "nan"])
    def test_more_than_one_or_none_is_refused(self, engines, part, refuses):
        message = f"--gpus-per-job must be more than 0 and at most 1, got {part}"
        with (
            refuses(message),
            _engines.engine_of([MAZES], flags("--engine", "ray", f"--gpus-per-job={part}", device="cuda")),
        ):
            pass

    def test_the_engine_chooses_among_them(self, engines, refuses):
        message = "--engine ray chooses among the GPUs: expected --device cuda, got cuda:1"
        with refuses(message), _engines.engine_of([MAZES], flags("--engine", "ray", device="cuda:1")):
            pass
