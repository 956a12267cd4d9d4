"""Run a recipe with TRL: evaluate the model, train it with one estimator, save it, evaluate it again.

    maxrl-lab recipe smollm2_135m_offline --estimator maxrl    (or: python -m maxrl_lab.llm.jobs.train ...)
    maxrl-lab recipe qwen3_1p7b_polaris --describe             (what it takes, and its commands)
    maxrl-lab recipe qwen3_1p7b_polaris --dry-run              (all of it, tiny, on a CPU, a minute)
    accelerate launch --config_file maxrl_lab/llm/jobs/accelerate/eight_gpus.yaml \
        -m maxrl_lab.llm.jobs.train smollm2_360m_gsm8k --estimator pkpo:k=16

OUT holds the tables as every run of the lab does (`maxrl_lab.runs`), and the trained policy as safetensors in
OUT/policy. A killed run continues with the same command from its last checkpoint; with other settings it is refused. If
accelerate has started several processes, the first one decides, evaluates (by vLLM where there is one, else by
transformers) and writes; all of them train.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs import describe, dry_run
from maxrl_lab.llm.jobs.processes import process_count
from maxrl_lab.llm.jobs.recipes import RECIPES, Job, job_of
from maxrl_lab.llm.jobs.run import POLICY, run
from maxrl_lab.runs.command_line import Parser, add_settings, first_name, guarded, read_settings
from maxrl_lab.runs.files import file_name


def main(arguments: Sequence[str]) -> int:
    """Run, describe or try a recipe as the command line says; raise `InputError` for what it cannot mean."""
    name, job, flags = read(arguments)
    if flags.describe:
        print(describe.text(name, job))
        return 0
    if flags.dry_run:
        if process_count() > 1:
            raise InputError("a dry run is one process; start it without accelerate launch")
        for line in dry_run.check(name, job):
            print(f"ok: {line}", flush=True)
        return 0
    out = flags.out or Path("results/recipes") / name / file_name(f"{job.estimator}-{job.seed}")
    tables = run(name, job, out, flags.device, force=flags.force, stale=flags.stale)
    if tables is not None:
        print(describe.results(tables["problems"], job.samples))
        print(f"rows: {out / 'problems.csv'}, {out / 'training.csv'}\npolicy: {out / POLICY}")
    return 0


def read(arguments: Sequence[str]) -> tuple[str, Job, Any]:
    """Return the recipe's name, the job with the settings that the command line changes, and the other flags."""
    name = first_name("recipe", RECIPES, arguments)
    parser = Parser(f"maxrl-lab recipe {name}", (__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--describe", action="store_true", help="Print what the recipe takes and its commands.")
    what.add_argument("--dry-run", action="store_true", help="Run all of it with a tiny random model, on the CPU.")
    parser.add_argument("--out", type=Path, help="Folder of the run (default: results/recipes/NAME/ESTIMATOR-SEED).")
    parser.add_argument("--device", default="auto", metavar="DEVICE", help="Device: auto, cpu, cuda or cuda:1.")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--force", action="store_true", help="Make the run anew, and then replace the one that is there.")
    way.add_argument("--stale", action="store_true", help="Show a run that other code has made.")
    defaults = job_of(name)
    add_settings(parser, defaults)
    flags = parser.parse_args(list(arguments[1:]))
    return name, read_settings(flags, defaults), flags


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
