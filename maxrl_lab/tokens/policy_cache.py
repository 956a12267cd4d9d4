"""Policies on disk by an address, never trusted when damaged: what one experiment has trained, the others only read.

A policy's address is a hash of all it depends on: the key that the caller gives, the words, the versions of torch and
numpy, and the device. The folder opens in `transformers`. Nothing is ever removed: the folder may be deleted at any
time, and its policies are then made again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.rows import Tables
from maxrl_lab.runs.files import cache_folder, write_atomically
from maxrl_lab.tokens import pretrained

_RECORD = "record.json"

Trained = tuple[Transformer, Tables]
"""A policy and what was measured while it learnt."""


def cached(
    kind: str, key: Mapping[str, Any], words: Sequence[str], device: torch.device, make: Callable[[str], Trained]
) -> Trained:
    """Return the policy of `key`, made if it is not there; a damaged one is made again.

    `make` is told the address, which names its checkpoint: what another key has left is never continued.
    """
    described = {"kind": kind, "words": list(words), **key, **_circumstances(device)}
    text = json.dumps(described, sort_keys=True)
    folder = cache_folder() / "policies" / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    kept = _read(folder, text)
    if kept is None:
        policy, tables = make(folder.name)
        pretrained.save(policy.cpu(), folder, words)
        record = {"key": text, "files": _digest(folder), "tables": tables}
        write_atomically(folder / _RECORD, (json.dumps(record) + "\n").encode())
        kept = _read(folder, text) or (policy, tables)
    policy, tables = kept
    return policy.to(device), tables


def _read(folder: Path, key: str) -> Trained | None:
    try:
        record = json.loads((folder / _RECORD).read_text())
        if record["key"] != key or record["files"] != _digest(folder):
            return None
        return pretrained.load(folder), record["tables"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(folder: Path) -> str:
    """Return the hash of the names and contents of a policy's files: not its record, and none that is half written."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.name != _RECORD and file.suffix != ".tmp":
            digest.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _circumstances(device: torch.device) -> dict[str, Any]:
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu {torch.backends.cpu.get_cpu_capability()}"
    )
    return {"torch": torch.__version__, "numpy": np.__version__, "device": name}
