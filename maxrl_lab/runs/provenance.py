"""Where rows come from: command, commit, versions, device."""

import contextlib
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    *("maxrl-lab", "torch", "numpy", "scipy", "scikit-learn", "pandas", "gymnasium", "minigrid", "safetensors"),
    *("transformers", "trl", "accelerate", "peft", "datasets", "reasoning-gym", "math-verify", "vllm", "verl"),
)
"""The packages whose versions are recorded, those of them that are installed."""


def describe_session(device: str) -> dict[str, Any]:
    """Return what is recorded of this process: the command, the code's commit, the versions and the device."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": _command(),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": _versions(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "threads": torch.get_num_threads(),
        "wall_seconds": None,
    }


def _command() -> str:
    """The command as a shell takes it; with the interpreter unless it is the command `maxrl-lab`."""
    program = Path(sys.argv[0])
    if program.stem == "maxrl-lab":
        return shlex.join([program.stem, *sys.argv[1:]])
    return shlex.join(["python", *sys.orig_argv[1:]])


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _commit() -> str | None:
    """The commit of the source tree, with '+changes' if it has been edited; None outside a git checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=True)
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes.strip() else "")
