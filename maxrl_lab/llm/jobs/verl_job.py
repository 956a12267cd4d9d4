"""Run a recipe with verl 0.9 on a cluster: write the job's files, print its command or start it.

    python -m maxrl_lab.llm.jobs.verl_job qwen3_4b_polaris --estimator maxrl --nodes 4 --gpus 8     # write and print
    python -m maxrl_lab.llm.jobs.verl_job qwen3_4b_polaris --estimator pkpo:k=8 --nodes 4 --gpus 8 --run
    python -m maxrl_lab.llm.jobs.verl_job qwen3_4b_polaris --dry-run                                # no GPU, no Ray

`--run` starts verl in this environment, on the head of a Ray cluster with the GPUs (`ray start --head`, then `ray start
--address=HEAD:6379` on the others); OUT must be on a disk that all nodes see, and the lab installed on all of them.
The 4 nodes of 8 H200s are the paper's. The dry run checks all that verl can check on a CPU: its configuration, its data
set, its reward function and its advantages. It does not check verl's workers: sampling by vLLM and training under Ray
need GPUs.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs import verl_dry_run, verl_files
from maxrl_lab.llm.jobs.recipes import RECIPES, job_of
from maxrl_lab.llm.jobs.verl_overrides import overrides
from maxrl_lab.llm.verl import config as verl_config
from maxrl_lab.runs.command_line import Parser, add_settings, guarded, read_settings
from maxrl_lab.runs.files import file_name

COMMAND = "python -m maxrl_lab.llm.jobs.verl_job"
MODULE = "verl.trainer.main_ppo"


def main(arguments: Sequence[str]) -> int:
    """Write the job's files and print its command, run it, or check all of it."""
    if not arguments or arguments[0].startswith("-"):
        raise InputError(f"usage: {COMMAND} RECIPE [flags]; RECIPE is one of: {', '.join(RECIPES)}")
    name = arguments[0]
    parser = Parser(f"{COMMAND} {name}", (__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1, help="Number of machines in the Ray cluster (default: 1).")
    parser.add_argument("--gpus", type=int, default=8, help="Number of GPUs in each machine (default: 8).")
    parser.add_argument("--out", type=Path, help="Folder of the job (default: results/verl/NAME/ESTIMATOR-SEED).")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--run", action="store_true", help="Start verl, instead of printing the command.")
    what.add_argument("--dry-run", action="store_true", help="Check all of it on the CPU, with a tiny model.")
    defaults = job_of(name)
    add_settings(parser, defaults)
    flags = parser.parse_args(list(arguments[1:]))
    job = read_settings(flags, defaults)
    if flags.dry_run:
        for line in verl_dry_run.check(job, flags.nodes, flags.gpus):
            print(line)
        return 0
    folder = (flags.out or Path("results/verl") / name / file_name(f"{job.estimator}-{job.seed}")).absolute()
    asked = overrides(job, folder, flags.nodes, flags.gpus)
    verl_config.check_config(verl_config.compose(asked))
    verl_files.refuse_other_job(folder, job)
    verl_files.write(job, folder)
    verl_files.write_settings(job, folder)
    command = [sys.executable, "-m", MODULE, *asked]
    if flags.run:
        return subprocess.run(command).returncode
    print(shlex.join(["python", *command[1:]]))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
