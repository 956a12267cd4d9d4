"""The programs in examples/, started as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed(folder, *command):
    """Return what a Python command prints, started in a folder on one thread and without a network."""
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MAXRL_LAB_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
