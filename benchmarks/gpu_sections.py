"""The sections of `benchmarks.gpu`: each yields rows, and imports what it needs only when it runs."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu_work import Step, Work, arithmetic, levels, small
from maxrl_lab.rows import Row
from maxrl_lab.threads import one_thread

ROOT = Path(__file__).parents[1]
GPU_TESTS = (
    "tests/theory/test_estimators.py",
    "tests/theory/test_exact.py",
    "tests/envs/test_maze.py",
    "tests/tabular/test_rollout.py",
    "tests/test_captured.py",
    "tests/tabular/test_captured_rollout.py",
    "tests/tokens/test_captured_writing.py",
    "tests/tokens/test_captured_step.py",
)
"""Files of tests with some that need a GPU."""
BYTES_A_STEP = 48
"""What a step of a table rollout moves at least.

Its random number (4 bytes) is written and read, its cell (4) is written and then read by the length, the sum and the
gradient, the position (8) is written and read, and two thresholds (4) are read.
"""
ARITHMETICS = {"float32": ("float32", False), "tf32": ("float32", True), "bfloat16": ("bfloat16", False)}
"""Name to the precision of the policy, and whether products of float32 may round their factors to TF32."""


def card(work: Work) -> Iterator[Row]:
    """Yield the card's memory, its bandwidth, and the speed of a square matrix product in each arithmetic."""
    if work.device.type == "cuda":
        properties = torch.cuda.get_device_properties(work.device)
        yield {"memory_gib": properties.total_memory / 2**30, "multiprocessors": properties.multi_processor_count}
    size = work.sizes.matrix
    source = torch.ones(4 * size * size, device=work.device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    yield {"bandwidth_bytes_per_second": moved / work.median(lambda: target.copy_(source))}
    for name, (precision, tf32) in ARITHMETICS.items():
        matrix = torch.randn(size, size, device=work.device, dtype=getattr(torch, precision))
        with arithmetic(enabled=tf32):
            seconds = work.median(lambda matrix=matrix: matrix @ matrix)
        yield {"arithmetic": name, "flops_per_second": 2 * size**3 / seconds}


def tests(work: Work) -> Iterator[Row]:
    """Yield what pytest says of the GPU tests, where there are pytest and a GPU."""
    if work.device.type != "cuda" or importlib.util.find_spec("pytest") is None:
        yield {"left_out": "no GPU" if work.device.type != "cuda" else "pytest is not installed"}
        return
    for file in GPU_TESTS:
        command = [sys.executable, "-m", "pytest", "-k", "gpu", "-p", "no:cacheprovider", file]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, work.left), check=False
            )
        except subprocess.TimeoutExpired:
            yield {"file": file, "status": None, "last_lines": ["not done in time"]}
            return
        yield {"file": file, "status": done.returncode, "last_lines": (done.stdout + done.stderr).splitlines()[-4:]}


def paper_step(work: Work) -> Iterator[Row]:
    """Yield seconds, tokens a second, and the share of the card's matrix speed, for growing numbers of prompts."""
    speeds = {row["arithmetic"]: row["flops_per_second"] for row in rows_of(work, "card") if "arithmetic" in row}
    a_prompt: dict[str, float] = {}
    for prompts in work.sizes.prompts:
        for name in ARITHMETICS:
            head = {"arithmetic": name, "prompts": prompts}
            if 2 * prompts * a_prompt.get(name, 0.0) > work.left:
                yield head | {"left_out": f"{work.left:.0f} s are left"}
                continue
            try:
                row = _time_step(work, prompts, name, warm=name in a_prompt)
            except torch.cuda.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                yield head | {"left_out": str(error)}
                continue
            a_prompt[name] = (row["seconds"] + row["seconds_sampling"]) / prompts
            share = row["model_flops"] / row["seconds"] / speeds[name] if name in speeds else None
            yield head | row | {"share_of_matrix_speed": share}


def floors(work: Work, step: Step, name: str) -> Row:
    """Return the seconds below which the card can neither update nor sample: its arithmetic, or what it must move.

    Nothing if the section `card` has not measured it, or a step runs on another device than the card.
    """
    card = {key: value for row in rows_of(work, "card") for key, value in row.items()}
    speeds = {row["arithmetic"]: row["flops_per_second"] for row in rows_of(work, "card") if "arithmetic" in row}
    if name not in speeds or step.prompts.tokens.device.type != work.device.type:
        return {}
    moving = step.bytes_sampling / card["bandwidth_bytes_per_second"]
    sampling = max(moving, step.flops / 4 / speeds[name])  # a quarter of the update's operations
    return {"floor_seconds": sampling + 0.75 * step.flops / speeds[name], "floor_seconds_sampling": sampling}


def _time_step(work: Work, prompts: int, name: str, *, warm: bool) -> Row:
    """Return the time of an update and of its sampling alone; the first update, unless `warm`, is not timed."""
    precision, tf32 = ARITHMETICS[name]
    step = Step(work, prompts, work.sizes.rollouts, precision=precision)
    if work.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(work.device)
    with arithmetic(enabled=tf32):
        if not warm:
            step.update()
        seconds, sampling = work.median(step.update, rounds=1), work.median(step.write, rounds=1)
    return {
        "rollouts": step.rollouts,
        "answer_tokens": step.answer,
        "parameters": sum(parameter.numel() for parameter in step.policy.parameters()),
        "seconds": seconds,
        "seconds_sampling": sampling,
        "tokens_per_second": prompts * step.rollouts * step.answer / seconds,
        "model_flops": step.flops,
        "peak_memory_gib": _peak_memory(work),
        **floors(work, step, name),
    }


def small_step(work: Work) -> Iterator[Row]:
    """Yield the time of an update of a small policy on 64 mazes, on the device and on one thread of the CPU."""
    prompts = work.sizes.small_prompts
    for device in dict.fromkeys((work.device, torch.device("cpu"))):
        here = small(work, device)
        for count in work.sizes.small_rollouts:
            head = {"device": device.type, "prompts": prompts, "rollouts": count}
            if work.left <= 0:
                yield head | {"left_out": "no time is left"}
                continue
            step = Step(here, prompts, count)
            with one_thread():
                seconds, sampling = here.median(step.update, rounds=3), here.median(step.write, rounds=3)
            tokens = prompts * count * step.answer
            times = {"seconds": seconds, "seconds_sampling": sampling, "tokens_per_second": tokens / seconds}
            yield head | times | floors(work, step, "float32")


def launches(work: Work) -> Iterator[Row]:
    """Yield how many kernels an update starts, and the share of its time in which the card computes, by the size."""
    if work.device.type != "cuda":
        yield {"left_out": "no GPU"}
        return
    from torch.autograd.profiler_util import DeviceType
    from torch.profiler import ProfilerActivity, profile

    prompts = work.sizes.prompts[0]
    for name, here in {"small": small(work, work.device), "paper": work}.items():
        step = Step(here, prompts, 16)
        seconds = here.median(step.update, rounds=3)
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            step.update()
            torch.cuda.synchronize(work.device)
        kernels = [event for event in record.events() if event.device_type == DeviceType.CUDA]
        busy = sum(event.time_range.elapsed_us() for event in kernels) / 1e6
        costs: dict[str, float] = {}
        for event in kernels:
            costs[event.name] = costs.get(event.name, 0.0) + event.time_range.elapsed_us() / 1e6
        yield {
            **{"policy": name, "prompts": prompts, "rollouts": 16, "answer_tokens": step.answer, "seconds": seconds},
            **{"kernels": len(kernels), "seconds_in_kernels": busy, "share_busy": busy / seconds},
            "slowest": [[kernel[:80], cost] for kernel, cost in sorted(costs.items(), key=lambda item: -item[1])[:5]],
        }


def table_rollouts(work: Work) -> Iterator[Row]:
    """Yield environment steps a second of rollouts with their gradient, for growing N."""
    tasks = levels(work)
    policy = torch.zeros(tasks.shape, device=work.device).log_softmax(-1).requires_grad_()
    last = 0.0
    for count in work.sizes.table_rollouts:
        if 32 * last > work.left:
            yield {"rollouts": count, "left_out": f"{work.left:.0f} s are left"}
            continue
        steps = 0.0

        def roll_out(count: int = count) -> None:
            nonlocal steps
            group = tasks.rollout(policy, count, torch.Generator(work.device).manual_seed(0))
            group.log_probs.sum().backward()
            steps = float(group.lengths.sum())

        last = work.median(roll_out)
        row = {"levels": len(tasks.success), "rollouts": count, "seconds": last, "steps_per_second": steps / last}
        yield row | floor_of_rollouts(work, steps)


def floor_of_rollouts(work: Work, steps: float) -> Row:
    """Return the seconds below which the card cannot make so many steps of table rollouts, nothing if unmeasured."""
    bandwidth = [row["bandwidth_bytes_per_second"] for row in rows_of(work, "card") if len(row) == 1]
    return {"floor_seconds": steps * BYTES_A_STEP / bandwidth[0]} if bandwidth else {}


def rows_of(work: Work, name: str) -> list[Row]:
    """Return the rows of a section that has run, none if it has not."""
    rows: list[Row] = work.record["sections"].get(name, {"rows": []})["rows"]
    return rows


def _peak_memory(work: Work) -> float | None:
    return torch.cuda.max_memory_allocated(work.device) / 2**30 if work.device.type == "cuda" else None
