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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks import token_peers
from benchmarks.timing import medians
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


def main() -> None:
    """Compare in this process if told how memory is set, else in one process for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", choices=("default", "tuned"), help="Compare under this setting only.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of measured rounds; the median is shown.")
    flags = parser.parse_args()
    token_peers.stay_offline()
    if flags.memory is not None:
        _compare(flags.memory, specs.check_count("--rounds", flags.rounds))
        return
    for setting, variables in (("default", {}), ("tuned", token_peers.tuned_environment())):
        command = [sys.executable, "-m", "benchmarks.tokens", "--memory", setting, "--rounds", str(flags.rounds)]
        subprocess.run(command, env={**os.environ, **variables}, check=True)


def _compare(memory: str, rounds: int, cases: Sequence[Case] = CASES, step_cases: Sequence[Case] = STEP_CASES) -> None:
    """Print all comparisons under the memory settings of this process."""
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads, {memory} memory settings")
    precisions = ["float32", *(["bfloat16"] if token_peers.fast_bfloat16() else [])]
    if len(precisions) == 1:
        print("bfloat16 is slower than float32 on this machine: left out")
    if not token_peers.installed():
        print("transformers and trl are not installed: pip install -e '.[benchmark]' compares with them")
    for precision in precisions:
        for case in cases:
            _report(f"sampling, {case.name}, {precision}", _sampling(case, precision), rounds)
        for case in cases:
            _report(f"gradient, {case.name}, {precision}", _gradient(case, precision), rounds)
        for case in step_cases:
            _steps(case, precision, rounds)
    if memory == "tuned":
        _costs()


def _report(title: str, sides: dict[str, Callable[[], object]], rounds: int) -> None:
    """Print the median seconds of each side, and how many times slower than the lab it is."""
    times = medians(sides, rounds)
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


def _sampling(case: Case, precision: str) -> dict[str, Callable[[], object]]:
    work = _Work(case, precision)
    sides: dict[str, Callable[[], object]] = {"lab": work.write}
    if token_peers.installed():
        model = work.peer().to(PRECISIONS[precision])
        for name, once in (("transformers generate", False), ("transformers generate, prompt computed once", True)):
            sides[name] = lambda once=once: token_peers.generate(
                model, work.prompts.tokens, case.rollouts, case.answer, prefill_once=once
            )
    return sides


def _gradient(case: Case, precision: str) -> dict[str, Callable[[], object]]:
    work = _Work(case, precision)
    sides: dict[str, Callable[[], object]] = {"lab": work.gradient}
    if token_peers.installed():
        model = work.peer()
        sides[f"transformers, micro-batches of {MICRO_BATCH}"] = lambda: token_peers.full_sequence_gradient(
            model,
            work.prompts.tokens,
            work.written.tokens,
            work.advantages,
            MICRO_BATCH,
            autocast=precision == "bfloat16",
        )
    return sides


def _steps(case: Case, precision: str, rounds: int) -> None:
    """Print the seconds of a whole step (sample, verify, gradient, AdamW); TRL's trainer times its own steps."""
    work = _Work(case, precision)
    recipe = fit.Optimisation(steps=1, optimiser="adamw")
    optimiser = fit.make_optimiser(recipe, [work.policy], [1e-4])
    method = Sampled("grpo", case.rollouts)

    def step() -> None:
        batch = TokenBatch(work.policy, work.prompts, _odd, work.writing, 0, 0)
        take_step(run_losses(batch, [method]), optimiser)

    ours = medians({"lab": step}, rounds)["lab"]
    print(f"\nRL step, {case.name}, {precision}\n  {'lab':<46} {ours:8.3f} s", flush=True)
    if token_peers.installed():
        for name, once in (("TRL GRPOTrainer", False), ("TRL GRPOTrainer, prompt computed once", True)):
            bf16 = precision == "bfloat16"
            size = case.rollouts, case.answer, MICRO_BATCH
            theirs = token_peers.trl_step(
                work.peer(), work.prompts.tokens, *size, bf16=bf16, prefill_once=once, steps=rounds
            )
            print(f"  {name:<46} {theirs:8.3f} s  {theirs / ours:6.1f}x", flush=True)
    again = medians({"lab": step}, 1)["lab"]
    print(f"  {'lab, once more':<46} {again:8.3f} s", flush=True)


def _odd(written: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG001
    """Return the peers' reward: an answer is right if its ids add up to an odd number."""
    return written.sum(-1) % 2 == 1


def _costs() -> None:
    """Print the seconds of the lab's sampling and gradient against N, grid size and model size."""
    print("\nthe lab's cost, float32: seconds of sampling, of the gradient, and microseconds a token of both together")
    middle = Case(9, 30, 32)
    wide = {width: Shape(width=width, mlp=4 * width) for width in (64, 128, 256, 512)}
    series = {
        "N": [replace(middle, rollouts=count) for count in (4, 16, 64, 256)],
        "grid": [Case(size, 5 * size**2 // 24, 32) for size in (5, 9, 13, 17, 21)],
        "width": [replace(middle, shape=shape) for shape in wide.values()],
    }
    for name, cases in series.items():
        for case in cases:
            case = replace(case, shape=replace(case.shape, context=1024))
            work = _Work(case, "float32")
            start = time.perf_counter()
            work.write()
            written = time.perf_counter()
            work.gradient()
            end = time.perf_counter()
            per_token = 1e6 * (end - start) / (PROMPTS * case.rollouts * case.answer)
            label = f"{name}: {case.name}, width {case.shape.width}"
            print(f"  {label:<64} {written - start:7.3f} {end - written:7.3f} {per_token:8.1f}", flush=True)


if __name__ == "__main__":
    main()
