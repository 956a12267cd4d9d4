"""Run a recipe with TRL: evaluate the model, train it with one estimator, save it, evaluate it again.

    python -m experiments.llm.train smollm2_135m_offline --estimator maxrl    (or: maxrl-lab recipe ...)
    python -m experiments.llm.train qwen3_1p7b_polaris --describe             (what it takes, and its commands)
    python -m experiments.llm.train qwen3_1p7b_polaris --dry-run              (all of it, tiny, on a CPU, a minute)
    accelerate launch --config_file experiments/llm/accelerate/eight_gpus.yaml \
        -m experiments.llm.train smollm2_360m_gsm8k --estimator pkpo:k=16

OUT holds the rows as every run of the lab does (`maxrl_lab.runs`), and the trained policy as safetensors in OUT/policy.
A killed run continues with the same command from its last checkpoint; with other settings it is refused. Of several
processes the first one decides, evaluates (by vLLM where there is one, else by transformers) and writes; all train.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.llm.jobs import training
from maxrl_lab.llm.jobs.recipes import RECIPES, Settings, settings_of
from maxrl_lab.llm.models import engines, sampling
from maxrl_lab.rows import Row
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.command_line import Parser, add_settings, guarded, read_settings
from maxrl_lab.runs.context import find_device
from maxrl_lab.runs.files import file_name
from maxrl_lab.runs.folder import execute

POLICY = "policy"
"""The folder of the trained policy in a run's."""


def main(arguments: Sequence[str]) -> int:
    """Run, describe or try a recipe as the command line says; raise `ValueError` for what it cannot mean."""
    from maxrl_lab.llm.jobs import describe, dry_run

    name, settings, flags = read(arguments)
    if flags.describe:
        print(describe.text(name, settings))
        return 0
    if flags.dry_run:
        if Processes.count() > 1:
            raise InputError("a dry run is one process; start it without accelerate launch")
        for line in dry_run.check(name, settings):
            print(f"ok: {line}", flush=True)
        return 0
    out = flags.out or Path("results/recipes") / name / file_name(f"{settings.estimator}-{settings.seed}")
    rows = run(name, settings, out, flags.device, force=flags.force)
    if rows is not None:
        print(describe.results(rows))
        print(f"rows: {out / 'rows.csv'}\npolicy: {out / POLICY}")
    return 0


def read(arguments: Sequence[str]) -> tuple[str, Settings, Any]:
    """Return the recipe's name, its settings with the overrides, and the other flags."""
    usage = "usage: maxrl-lab recipe NAME [flags]; NAME is one of: "
    if not arguments or arguments[0].startswith("-"):
        raise InputError(usage + ", ".join(RECIPES))
    name = arguments[0]
    parser = Parser(f"maxrl-lab recipe {name}", __doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--describe", action="store_true", help="print what the recipe takes and the commands to run it")
    what.add_argument("--dry-run", action="store_true", help="all of it with a tiny random model, on the CPU")
    parser.add_argument("--out", type=Path, help="folder of the run (default: results/recipes/NAME/ESTIMATOR-SEED)")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--force", action="store_true", help="replace a run that is there already")
    defaults = settings_of(name)
    add_settings(parser, defaults)
    flags = parser.parse_args(list(arguments[1:]))
    return name, read_settings(flags, defaults), flags


class Processes:
    """The processes that accelerate has started, or this one alone."""

    def __init__(self, device: str) -> None:
        """Meet the others, if there are any; `device` is as on the command line."""
        self._decided = False
        self.is_first, self.device = True, torch.device("cpu")
        self._together = self.count() > 1
        if not self._together:
            self.device = find_device(device)
            return
        patience = timedelta(days=7)  # the others wait while one evaluates
        state = need("accelerate").PartialState(cpu=device == "cpu", timeout=patience)
        self.is_first, self.device = bool(state.is_main_process), state.device

    @staticmethod
    def count() -> int:
        """Return how many there are."""
        return int(os.environ.get("WORLD_SIZE", "1"))

    def agree(self, train: bool = False) -> bool:
        """Return the first process's word on whether all train now; it is given once, further words are not heard."""
        if self._together and not self._decided:
            word = [train]
            need("accelerate.utils").broadcast_object_list(word, from_process=0)
            train = word[0]
        self._decided = True
        return train


def run(
    name: str, settings: Settings, folder: Path, device: str, *, force: bool = False, callbacks: Sequence[Any] = ()
) -> pd.DataFrame | None:
    """Return the rows of a run in `folder`, continued or taken from there; None in processes but the first.

    `callbacks` are transformers', for the training.
    """
    if settings.vllm and find_spec("vllm") is None:
        raise InputError(f"{name} draws answers with vLLM, which is not installed: pip install vllm, or --vllm False")
    processes = Processes(device)
    training.check_devices(processes.device)
    if not processes.is_first:
        if processes.agree():
            train(settings, folder, processes.device, callbacks)
        return None

    def compute(checkpoint: Checkpoint) -> list[Row]:
        if force:
            shutil.rmtree(folder / POLICY, ignore_errors=True)
        rows = evaluate(settings, settings.model, "before", checkpoint, processes.device)
        done = checkpoint.stage("training-rows")
        if (state := done.load()) is None:
            processes.agree(train=True)
            state = {"rows": train(settings, folder, processes.device, callbacks)}
            done.save(state)
        rows += [{"view": "training", **row} for row in state["rows"]]
        return rows + evaluate(settings, str(folder / POLICY), "after", checkpoint, processes.device)

    try:
        kind = str(processes.device)
        return execute(folder, f"recipe {name}", settings, compute, device=kind, force=force)["rows"]
    finally:
        processes.agree(train=False)


def train(settings: Settings, folder: Path, device: torch.device, callbacks: Sequence[Any]) -> list[Row]:
    """Return a row an update; the policy is in `folder` / POLICY afterwards. All processes do this together."""
    policy = training.load_policy(settings, device)
    problems = training.training_set(settings, settings.seed, _data(settings))
    fitting = fits(problems, policy.tokenizer, settings.prompt_length)
    _, rows = training.train(
        settings,
        settings.estimator,
        policy,
        fitting,
        folder / "checkpoint" / "trainer",
        seed=settings.seed,
        keep=folder / POLICY,
        callbacks=callbacks,
    )
    return rows


def fits(problems: Any, tokenizer: Any, limit: int) -> Any:
    """Return the problems whose prompts have at most `limit` tokens, and say how many have not; some must."""
    short = [place for place, each in enumerate(problems) if len(sampling.encode(tokenizer, each["prompt"])) <= limit]
    if not short:
        raise InputError(f"none of the {len(problems)} prompts has at most prompt_length = {limit} tokens")
    if len(short) == len(problems):
        return problems
    print(f"{len(problems) - len(short)} prompts of more than {limit} tokens are left out", file=sys.stderr)
    return problems.select(short)


def evaluate(settings: Settings, model: str, when: str, checkpoint: Checkpoint, device: torch.device) -> list[Row]:
    """Return a row for each problem of each collection, by `training.evaluate`."""
    data = _data(settings)
    sets = training.held_out_sets(settings, data if data is None or data.is_dir() else None)
    own = replace(settings, model=model)
    # vLLM takes whole models, with the end tokens that their folder names
    by_name = engines.has_vllm(str(device)) and not settings.lora and (not settings.end or when == "after")
    engine = training.engine(own, training.place_of(own) if by_name else training.load_policy(own, device))
    found = training.evaluate(engine, sets, checkpoint, when)
    engine.close()  # the trainer needs the room
    return [{"view": "problem", "when": when, **row} for row in found]


def _data(settings: Settings) -> Path | None:
    return Path(settings.data) if settings.data else None


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
