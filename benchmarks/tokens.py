"""How fast are token tasks? The lab beside `transformers` and TRL, on the paper's 3.9M maze policy.

    python -m benchmarks.tokens        (a quarter of an hour; the peers come with `pip install -e '.[benchmark]'`)

Three comparisons on real maze prompts: sampling N answers of B prompts, the policy gradient of given answers, a whole
RL step. All answers have exactly T tokens on both sides. The peer is shown as its users call it, and at its best: every
prompt computed once in sampling, and the gradient in micro-batches. Everything runs twice, with glibc's memory settings
as they are and tuned for large tensors, the same for both sides; float32, and bfloat16 where the machine has it.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import token_peers
from benchmarks.record import Record, Side
from benchmarks.timing import middle, profile_of_operations, rounds_of, seconds_of
from envs.maze import Maze
from maxrl_lab import specs
from maxrl_lab.policies.transformer import PAPER_MAZE, Shape, Transformer
from maxrl_lab.tokens import qwen2
from maxrl_lab.tokens.batch import TokenBatch
from maxrl_lab.tokens.gradients import accumulate
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.writing import PRECISIONS, Prompts, Writing, write
from maxrl_lab.training import fit
from maxrl_lab.training.methods import Sampled
from maxrl_lab.training.step import run_losses, take_step

PROMPTS, MICRO_BATCH = 8, 16
"""Number of prompts of every comparison, and number of rollouts that a peer's gradient takes at a time."""
NEVER = 32
"""An end token outside the vocabulary: every answer gets its full length."""


@dataclass(frozen=True)
class Case:
    """One size of the work."""

    size: int
    """Number of cells along a side of the maze."""
    answer: int
    """Number T of tokens of every answer."""
    rollouts: int
    """Number N of answers of each prompt."""
    shape: Shape = PAPER_MAZE

    @property
    def name(self) -> str:
        """What a line of the report calls it."""
        prompt = Maze(self.size).prompt_length
        return f"{PROMPTS} x {self.rollouts} answers, {prompt} + {self.answer} tokens"


CASES = (Case(17, 60, 32), Case(9, 30, 32))
STEP_CASES = (Case(17, 60, 32), Case(9, 30, 16))
TINY = Case(5, 3, 2, Shape(width=16, layers=1, heads=2, kv_heads=1, mlp=16))
LONG_STEP = 17
"""A step of TRL on mazes of this size takes most of a minute: it is measured in one round."""
ONCE = ", prompt computed once"
TARGETS = {
    ("sampling", 17): 6,
    ("sampling", 9): 5,
    ("gradient", 17): 6,
    ("gradient", 9): 4.5,
    ("step", 17): 6,
    ("step", 9): 5,
}
"""Least ratios to the peer as its users call it, by the work and the size of the mazes, in float32."""
ONCE_TARGET = 3.0
"""Least ratio to a peer that computes every prompt once."""


def main() -> None:
    """Compare in this process if told how memory is set, else in one process for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", choices=("default", "tuned"), help="Compare under this setting only.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of measured rounds; the median is shown.")
    parser.add_argument("--record", type=Path, help="File of results, to which the comparisons are added.")
    parser.add_argument("--tiny", action="store_true", help="Run the smallest sizes.")
    flags = parser.parse_args()
    token_peers.stay_offline()
    if flags.memory is not None:
        record = Record() if flags.record is None else Record.of_machine(flags.record)
        cases = ((TINY,), (TINY,)) if flags.tiny else (CASES, STEP_CASES)
        _compare(flags.memory, specs.check_count("--rounds", flags.rounds), *cases, record)
        return
    for setting, variables in (("default", {}), ("tuned", token_peers.tuned_environment())):
        command = [sys.executable, "-m", "benchmarks.tokens", "--memory", setting, "--rounds", str(flags.rounds)]
        command += [] if flags.record is None else ["--record", str(flags.record)]
        subprocess.run(command, env={**os.environ, **variables}, check=True)


def _compare(
    memory: str,
    rounds: int,
    cases: Sequence[Case] = CASES,
    step_cases: Sequence[Case] = STEP_CASES,
    record: Record | None = None,
) -> None:
    """Print all comparisons under the memory settings of this process, and record them."""
    record = record or Record()
    section = f"tokens, {memory} memory settings"
    record.begin(section)
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads, {memory} memory settings")
    precisions = ["float32", *(["bfloat16"] if token_peers.fast_bfloat16() else [])]
    if len(precisions) == 1:
        print("bfloat16 is slower than float32 on this machine: left out")
    if not token_peers.installed():
        print("transformers and trl are not installed: pip install -e '.[benchmark]' compares with them")
    for precision in precisions:
        for case in cases:
            _report(record, section, f"sampling, {case.name}, {precision}", _sampling(case, precision), rounds)
        for case in cases:
            _report(record, section, f"gradient, {case.name}, {precision}", _gradient(case, precision), rounds)
        for case in step_cases:
            _steps(record, section, case, precision, 1 if case.size == LONG_STEP else rounds)
    if memory == "tuned" and cases is CASES:
        _costs(record, section)


def _has_peers(case: Case) -> bool:
    """Return whether the peers are installed, which have the paper's policy only."""
    return case.shape == PAPER_MAZE and token_peers.installed()


def _sides(work: str, case: Case, precision: str, functions: dict[str, Callable[[], object]]) -> dict[str, Side]:
    """Return the lab's side, and its peers with the least ratios that are wanted of them in float32."""
    target = TARGETS.get((work, case.size)) if precision == "float32" and case.shape == PAPER_MAZE else None
    return {
        name: Side(function)
        if name == "lab"
        else Side(function, base="lab", target=min(target, ONCE_TARGET) if target and ONCE in name else target)
        for name, function in functions.items()
    }


def _report(record: Record, section: str, title: str, sides: dict[str, Side], rounds: int) -> None:
    """Print the median seconds of each side, and how many times slower than the lab it is."""
    times = middle(record.compare(section, title, sides, rounds, profile=profile_of_operations))
    print(f"\n{title}")
    for name, seconds in times.items():
        print(f"  {name:<46} {seconds:8.3f} s  {seconds / times['lab']:6.1f}x", flush=True)


class _Work:
    """Prompts, a policy of random weights, and answers to them."""

    def __init__(self, case: Case, precision: str) -> None:
        self.case = case
        torch.manual_seed(0)
        self.policy = Transformer(case.shape)
        problems = Maze(case.size).problems(PROMPTS)
        self.prompts = Prompts(problems.prompts, problems.lengths)
        self.writing = Writing(case.answer, NEVER, precision=precision)
        self.written = self.write()
        self.advantages = torch.randn(PROMPTS, case.rollouts)

    def write(self) -> Answers:
        stream = torch.Generator().manual_seed(0)
        return write(self.policy, self.prompts, self.case.rollouts, self.writing, stream)

    def gradient(self) -> list[Tensor]:
        slopes = -self.advantages / self.advantages.numel()
        parameters = list(self.policy.parameters())
        zero = torch.zeros_like(slopes)
        return accumulate(self.policy, parameters, self.prompts, self.written, self.writing, slopes, zero)

    def peer(self) -> torch.nn.Module:
        """Return the same policy in `transformers`."""
        model = token_peers.make_model(token_peers.qwen2_config())
        model.load_state_dict(qwen2.to_qwen2(self.policy), strict=False)
        return model


def _sampling(case: Case, precision: str) -> dict[str, Side]:
    work = _Work(case, precision)
    sides: dict[str, Callable[[], object]] = {"lab": work.write}
    if _has_peers(case):
        model = work.peer().to(PRECISIONS[precision])
        for name, once in (("transformers generate", False), (f"transformers generate{ONCE}", True)):
            sides[name] = lambda once=once: token_peers.generate(
                model, work.prompts.tokens, case.rollouts, case.answer, prefill_once=once
            )
    return _sides("sampling", case, precision, sides)


def _gradient(case: Case, precision: str) -> dict[str, Side]:
    work = _Work(case, precision)
    sides: dict[str, Callable[[], object]] = {"lab": work.gradient}
    if _has_peers(case):
        model = work.peer()
        sides[f"transformers, micro-batches of {MICRO_BATCH}"] = lambda: token_peers.full_sequence_gradient(
            model,
            work.prompts.tokens,
            work.written.tokens,
            work.advantages,
            MICRO_BATCH,
            autocast=precision == "bfloat16",
        )
    return _sides("gradient", case, precision, sides)


def _steps(record: Record, section: str, case: Case, precision: str, rounds: int) -> None:
    """Print the seconds of a whole step (sample, verify, gradient, AdamW); the lab's come between those of TRL."""
    work = _Work(case, precision)
    recipe = fit.Optimisation(steps=1, optimiser="adamw")
    optimiser = fit.make_optimiser(recipe, [work.policy], [1e-4])
    method = Sampled("grpo", case.rollouts)

    def step() -> None:
        batch = TokenBatch(work.policy, work.prompts, _odd, work.writing, 0, 0)
        take_step(run_losses(batch, [method]), optimiser)

    title = f"RL step, {case.name}, {precision}"
    ours = middle(rounds_of({"lab": step}, rounds))["lab"]
    print(f"\n{title}\n  {'lab':<46} {ours:8.3f} s", flush=True)
    if _has_peers(case):
        for name, once in (("TRL GRPOTrainer", False), (f"TRL GRPOTrainer{ONCE}", True)):
            size = case.rollouts, case.answer, MICRO_BATCH
            between: list[float] = []
            theirs = token_peers.trl_step(
                work.peer(),
                work.prompts.tokens,
                *size,
                bf16=precision == "bfloat16",
                prefill_once=once,
                steps=rounds,
                between=lambda between=between: between.append(seconds_of(step)),
            )
            times = {"lab": between[-rounds:], name: theirs}
            sides = _sides("step", case, precision, {"lab": step, name: step})
            record.add_times(section, f"{title}{ONCE if once else ''}", sides, times, profile=profile_of_operations)
            ours, peer = middle(times).values()
            print(f"  {name:<46} {peer:8.3f} s  {peer / ours:6.1f}x", flush=True)
    again = middle(rounds_of({"lab": step}, 1))["lab"]
    print(f"  {'lab, once more':<46} {again:8.3f} s", flush=True)


def _odd(written: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG001
    """Return the peers' reward: an answer is right if its ids add up to an odd number."""
    return written.sum(-1) % 2 == 1


def _costs(record: Record, section: str, rounds: int = 1) -> None:
    """Print the seconds of the lab's sampling and gradient against N, grid size and model size."""
    print("\nthe lab's cost, float32: seconds of sampling, of the gradient, and microseconds a token of both together")
    usual = Case(9, 30, 32)
    wide = {width: Shape(width=width, mlp=4 * width) for width in (64, 128, 256, 512)}
    series = {
        "N": [replace(usual, rollouts=count) for count in (4, 16, 64, 256)],
        "grid": [Case(size, 5 * size**2 // 24, 32) for size in (5, 9, 13, 17, 21)],
        "width": [replace(usual, shape=shape) for shape in wide.values()],
    }
    for name, cases in series.items():
        for case in cases:
            case = replace(case, shape=replace(case.shape, context=1024))
            work = _Work(case, "float32")
            times = rounds_of({"sampling": work.write, "gradient": work.gradient}, rounds)
            sampling, gradient = middle(times).values()
            per_token = 1e6 * (sampling + gradient) / (PROMPTS * case.rollouts * case.answer)
            label = f"{name}: {case.name}, width {case.shape.width}"
            print(f"  {label:<64} {sampling:7.3f} {gradient:7.3f} {per_token:8.1f}", flush=True)
            at = {"N": case.rollouts, "grid": case.size, "width": case.shape.width}[name]
            record.add(section, {"cost": name, "at": at, "tokens": PROMPTS * case.rollouts * case.answer, **times})


if __name__ == "__main__":
    main()
