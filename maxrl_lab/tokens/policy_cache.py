"""Trained policies on disk, shared by the experiments: what one of them has trained, the others only read.

A policy is addressed by what it depends on: its settings, the sources that train it, the versions of torch and numpy,
the device. The folder opens in `transformers`. All are trained on one thread, side by side (`workers`). Nothing is ever
removed: the folder may be deleted at any time, and is then made again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import envs
import experiments
import maxrl_lab
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.rows import Row
from maxrl_lab.runs.files import cache_folder, write_atomically
from maxrl_lab.tokens import pretrained

_TRAINING = ("context.py", "policy_cache.py", "sweep.py", "token_*.py", "workers.py")
"""The files of this folder that a trained policy depends on."""
Trained = tuple[Transformer, list[Row]]
"""A policy and what was measured while it learnt."""


def cached(
    kind: str, key: Mapping[str, Any], words: Sequence[str], device: torch.device, make: Callable[[str], Trained]
) -> Trained:
    """Return the policy of `key`, made if it is not there; a damaged one is made again.

    `make` is told the address, which names its checkpoint: what other sources or settings left is never continued.
    """
    described = {"kind": kind, "words": list(words), **key, **_circumstances(device)}
    text = json.dumps(described, sort_keys=True)
    folder = cache_folder() / "policies" / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    found = _read(folder, text)
    if found is None:
        policy, rows = make(folder.name)
        pretrained.save(policy.cpu(), folder, words)
        record = {"key": text, "weights": _digest(folder), "rows": rows}
        write_atomically(folder / "record.json", (json.dumps(record) + "\n").encode())
        found = _read(folder, text) or (policy, rows)
    policy, rows = found
    return policy.to(device), rows


def _read(folder: Path, key: str) -> Trained | None:
    try:
        record = json.loads((folder / "record.json").read_text())
        if record["key"] != key or record["weights"] != _digest(folder):
            return None
        return pretrained.load(folder), record["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def _circumstances(device: torch.device) -> dict[str, Any]:
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu {torch.backends.cpu.get_cpu_capability()}"
    )
    return {"sources": _sources(), "torch": torch.__version__, "numpy": np.__version__, "device": name}


@lru_cache(maxsize=1)
def _sources() -> str:
    """A hash of the code that trains: any change of it makes new policies."""
    digest = hashlib.sha256()
    for package, pattern in ((maxrl_lab, "**/*.py"), (envs, "**/*.py"), *((experiments, name) for name in _TRAINING)):
        root = Path(package.__path__[0])
        for file in sorted(file for file in root.glob(pattern) if "llm" not in file.relative_to(root).parts):
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()
