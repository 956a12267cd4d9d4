"""What does an estimator of the lab cost inside TRL? `GRPOTrainer` beside `EstimatorTrainer`, some steps each in turns.

    python -m benchmarks.llm                    (four minutes; needs the extra `llm`)
    python -m benchmarks.llm --model FOLDER     (any causal language model that `transformers` opens)
    python -m benchmarks.llm --cross-check      (the lab's own trainer against TRL: `benchmarks.llm_cross_check`)

The settings of both are the same. On a shared machine the ratio of the two steps is noise of some per cent; the share
of the step in the subclass's own lines is measured inside of the same steps, and is the number to trust.
"""

import argparse
import copy
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks import llm_cross_check, token_peers
from benchmarks.record import Record, Side
from benchmarks.timing import Stopwatch, profile_of_operations
from envs.maze import Maze
from maxrl_lab import specs

SCORE = "_generate_and_score_completions"
WRAPPED = (SCORE, "_calculate_rewards")
"""The two methods that the subclass wraps."""
STEPS = 2
"""Number of steps of each trainer in a round."""


class Times(NamedTuple):
    """Seconds of a step: all of it, `_generate`, the rest without scoring, the subclass's lines; answer tokens."""

    step: float
    sampling: float
    update: float
    added: float
    tokens: float


def maze_policy(prompts: int) -> tuple[Any, Any, list[str]]:
    """Return the paper's maze policy with random weights, its tokenizer, and mazes; its answers never end early."""
    model = token_peers.make_model(token_peers.qwen2_config())
    tokenizer = token_peers.make_tokenizer(model.config.vocab_size)
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model, tokenizer, token_peers.as_texts(tokenizer, Maze(9).problems(prompts).prompts)


def make_trainer(
    kind: Callable[..., Any], model: Any, tokenizer: Any, texts: list[str], flags: Any, folder: str
) -> Any:
    """Return a trainer whose reward is right for odd sums of ids, with the `clock` of its steps and `answers` seen."""
    from datasets import Dataset

    from maxrl_lab.llm.trl import settings

    clock, answers = token_peers.make_clock(), []

    def odd(completion_ids: list[list[int]], **_: Any) -> list[float]:
        answers.extend(completion_ids)
        return [float(sum(ids) % 2) for ids in completion_ids]

    args = settings(
        folder,
        num_generations=flags.rollouts,
        per_device_train_batch_size=flags.micro_batch,
        gradient_accumulation_steps=flags.prompts * flags.rollouts // flags.micro_batch,
        max_completion_length=flags.answer,
        max_steps=STEPS,
        **llm_cross_check.QUIET,
    )
    rows = Dataset.from_dict({"prompt": texts})
    trainer = kind(model, odd, args, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
    trainer.clock, trainer.answers = clock, answers
    return trainer


def measure(trainer: Any, base: type, stopwatch: Stopwatch) -> Times:
    """Train some steps; return the mean times of one."""
    for record in (trainer.clock.seconds, trainer.answers, stopwatch.seconds):
        record.clear()
    llm_cross_check.train_quietly(trainer)
    seconds, step = stopwatch.seconds, sum(trainer.clock.seconds)
    added = sum(seconds[type(trainer), name] - seconds[base, name] for name in WRAPPED)
    written = sum(map(len, trainer.answers))
    parts = (step, seconds[base, "_generate"], step - seconds[type(trainer), SCORE], added, written)
    return Times(*(part / STEPS for part in parts))


def compare(flags: Any) -> dict[str, list[Times]]:
    """Return the times of both trainers, round by round, after one unmeasured round."""
    token_peers.stay_offline()
    from trl import GRPOTrainer

    from maxrl_lab.llm.trl import EstimatorTrainer

    stopwatch = Stopwatch()
    for owner in (GRPOTrainer, EstimatorTrainer):
        for name in WRAPPED:
            stopwatch.watch(owner, name)
    stopwatch.watch(GRPOTrainer, "_generate")
    model, *others = (
        maze_policy(flags.prompts) if flags.model is None else token_peers.saved_model(flags.model, flags.prompts)
    )
    times: dict[str, list[Times]] = defaultdict(list)
    with TemporaryDirectory() as folder:
        kinds = {"GRPOTrainer": GRPOTrainer, "EstimatorTrainer": partial(EstimatorTrainer, estimator="maxrl")}
        trainers = {
            name: make_trainer(kind, copy.deepcopy(model), *others, flags, folder) for name, kind in kinds.items()
        }
        for turn in range(flags.rounds + 1):
            for name, trainer in trainers.items():
                measured = measure(trainer, GRPOTrainer, stopwatch)
                times[name] += [measured] if turn else []
    return times


def report(by_trainer: dict[str, list[Times]]) -> None:
    """Print the round with the median step of each trainer, and what the subclass adds."""
    for name, rounds in by_trainer.items():
        times = statistics.median_low(rounds)
        print(f"{name}: {times.step:.3f} s a step")
        for part in ("sampling", "update"):
            seconds = getattr(times, part)
            print(f"  {part:<9}{seconds:8.3f} s {seconds / times.step:6.1%} {times.tokens / seconds:8.0f} tokens/s")
    plain, ours = (statistics.median(times.step for times in by_trainer[name]) for name in by_trainer)
    added = statistics.median(times.added for times in by_trainer["EstimatorTrainer"])
    print(f"EstimatorTrainer takes {ours / plain:.3f} of GRPOTrainer's step; its own lines {1e3 * added:.2f} ms of it,")
    print(f"  {added / ours:.4%}")


def add_to(record: Record, by_trainer: dict[str, list[Times]]) -> None:
    """Record the seconds of the steps of both trainers."""
    plain, ours = by_trainer
    sides = {ours: Side(lambda: None), plain: Side(lambda: None, base=ours)}
    record.begin("llm")
    times = {name: [times.step for times in by_trainer[name]] for name in sides}
    record.add_times("llm", "a step of TRL, 9x9 mazes", sides, times, profile=profile_of_operations)


def main() -> None:
    """Compare as the flags say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder that transformers opens; default: the paper's maze policy")
    parser.add_argument("--record", type=Path, help="File of results, to which the comparison is added.")
    parser.add_argument("--cross-check", action="store_true", help="the lab's own trainer against TRL instead")
    for name, default in (("prompts", 8), ("rollouts", 8), ("answer", 30), ("micro-batch", 16), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    flags = parser.parse_args()
    llm_cross_check.ask_nobody()
    if flags.cross_check:
        llm_cross_check.report()
        return
    for name in ("prompts", "rollouts", "answer", "micro_batch", "rounds"):
        specs.check_count(name, getattr(flags, name))
    if flags.prompts * flags.rollouts % flags.micro_batch:
        parser.error(f"micro-batch must divide the {flags.prompts * flags.rollouts} rollouts of a step")
    by_trainer = compare(flags)
    report(by_trainer)
    if flags.record is not None:
        add_to(Record.of_machine(flags.record), by_trainer)


if __name__ == "__main__":
    main()
