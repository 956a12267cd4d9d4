"""The policies of a study, each trained once: every experiment that asks for the same one reads it from disk.

A policy is addressed by the study's task, by every setting that is not declared to change nothing about it
(`maxrl_lab.tokens.settings`), by its run, and by the code that trains it: a comment or a docstring changes no address,
an edited, renamed or removed file does, from the next process on. All policies are trained on one thread, side by side.
"""

import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.estimators import Estimator
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.rows import Tables
from maxrl_lab.runs.fingerprint import fingerprint, hash_of_source
from maxrl_lab.runs.workers import in_parallel
from maxrl_lab.threads import one_thread
from maxrl_lab.tokens import pretraining, training
from maxrl_lab.tokens.policy_cache import Trained, cached
from maxrl_lab.tokens.settings import CHANGE_NO_BASE, CHANGE_NO_RUN
from maxrl_lab.tokens.study import Study
from maxrl_lab.tokens.tasks import TokenTask
from maxrl_lab.training.sweep import Run


def base(study: Study, seed: int) -> Transformer:
    """Return the policy that a seed has pretrained on solutions, where every method of that seed starts."""
    return _base(study, seed)[0]


def base_tables(study: Study, seed: int) -> Tables:
    """Return the table `bases`: how many updates a seed's pretraining took, and the pass@1 at which it ended."""
    return _base(study, seed)[1]


def _base(study: Study, seed: int) -> Trained:
    def make(address: str) -> Trained:
        return pretraining.pretrain(study, seed, study.context.checkpoint.stage(address))

    return _cached("base", study, address_of_base(study, seed), make)


def trained(study: Study, run: Run, stage: training.Stage) -> Trained:
    """Return the base policy trained by a run, and the tables of its training."""

    def make(address: str) -> Trained:
        policy = base(study, run.seed)
        return policy, training.train(study, policy, run, stage, study.context.checkpoint.stage(address))

    return _cached("run", study, address_of_run(study, run, stage), make)


def train_all(study: Study, runs: Sequence[Run], stage: training.Stage) -> list[Tables]:
    """Train all runs, side by side; return the tables of each. The policies are then there for `trained`."""
    quiet = replace(study, context=replace(study.context, quiet=True))
    processes = 1 if study.context.device.type == "cuda" else study.settings.processes
    seeds = sorted({run.seed for run in runs})
    progress = study.context.progress(f"{study.task.name}: {len(seeds)} pretrainings, {stage}")
    in_parallel(_pretrain_job, [(quiet, seed) for seed in seeds], processes, progress)
    progress = study.context.progress(f"{study.task.name}: {len(runs)} runs, {stage}")
    longest_first = sorted(range(len(runs)), key=lambda index: -(runs[index].method.rollouts or 0))
    tables = in_parallel(_train_job, [(quiet, runs[index], stage) for index in longest_first], processes, progress)
    return [tables for _, tables in sorted(zip(longest_first, tables, strict=True), key=lambda pair: pair[0])]


def _pretrain_job(job: tuple[Study, int]) -> None:
    base(*job)


def _train_job(job: tuple[Study, Run, training.Stage]) -> Tables:
    return trained(*job)[1]


def address_of_base(study: Study, seed: int) -> dict[str, Any]:
    """Return all that a seed's pretrained policy depends on."""
    settings = {name: value for name, value in asdict(study.settings).items() if name not in CHANGE_NO_BASE}
    return {"task": _task(study.task), "settings": settings, "seed": seed, "code": _code(study.task, pretraining)}


def address_of_run(study: Study, run: Run, stage: training.Stage) -> dict[str, Any]:
    """Return all that a trained policy depends on; `InputError` for a method that no name describes."""
    method = run.method
    estimator = getattr(method, "estimator", None)
    if estimator is not None and not isinstance(estimator, Estimator):
        raise InputError(f"a trained policy is kept by the name of its estimator, got a function: {method.name}")
    settings = {name: value for name, value in asdict(study.settings).items() if name not in CHANGE_NO_RUN}
    return {
        "task": _task(study.task),
        "settings": settings,
        "training_set": study.training_set,
        "stage": stage,
        "run": {"kind": method.kind, "method": method.name, "rollouts": method.rollouts}
        | {"learning_rate": run.learning_rate, "seed": run.seed},
        "code": _code(study.task, pretraining, training),
    }


def _cached(kind: str, study: Study, key: dict[str, Any], make: Callable[[str], Trained]) -> Trained:
    with one_thread():
        return cached(kind, key, study.task.vocabulary.words, study.context.device, make)


def _task(task: TokenTask) -> dict[str, Any]:
    """Return the task's key and all its attributes by content, but the vocabulary, whose words the cache adds.

    What a task keeps for itself does not count: attributes that begin with `_`, and cached properties.
    """
    attributes = {}
    for name, value in vars(task).items():
        is_cached = isinstance(inspect.getattr_static(type(task), name, None), cached_property)
        if name == "vocabulary" or name.startswith("_") or is_cached:
            continue
        try:
            attributes[name] = _described(value)
        except (TypeError, RecursionError):
            raise InputError(
                f"a trained policy is kept by the attributes of its task, and {name} of {task.name} cannot be "
                f"described: {type(value).__name__}; hold numbers, texts, arrays, lists, dicts or dataclasses of them, "
                f"or call it _{name} if policies do not depend on it"
            ) from None
    return {"key": task.key, "answer_length": task.answer_length, "attributes": attributes}


def _described(value: Any) -> Any:
    """Return what JSON holds of a value, which tells it from values of other content; `TypeError` for other objects."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return [_described(item) for item in value]
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, set | frozenset):
        return {"set": _in_order(_described(item) for item in value)}
    if isinstance(value, Mapping):
        return {"dict": _in_order([_described(key), _described(item)] for key, item in value.items())}
    if isinstance(value, Tensor):
        return {"tensor": str(value.dtype), "shape": list(value.shape), "holds": value.tolist()}
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        kind = {"array": array.dtype.str, "fields": str(array.dtype.descr), "shape": list(array.shape)}
        if array.dtype.hasobject:
            return kind | {"holds": _described(array.tolist())}
        return kind | {"sha256": hashlib.sha256(array.tobytes()).hexdigest()}
    if is_dataclass(value) and not isinstance(value, type):
        held = {field.name: _described(getattr(value, field.name)) for field in fields(value)}
        return {"dataclass": type(value).__qualname__, "fields": held}
    raise TypeError(type(value).__name__)


def _in_order(described: Iterable[Any]) -> list[Any]:
    return sorted(described, key=json.dumps)


def _code(task: TokenTask, *modules: ModuleType) -> dict[str, str]:
    """Return the hash of every file of the lab that the modules and the task depend on, and of the task's own file."""
    code: dict[str, str] = {}
    for module in modules:
        code |= _loaded(module.__name__)
    for kind in type(task).__mro__:
        if issubclass(kind, TokenTask):
            code |= _loaded(kind.__module__) or {f"{kind.__module__}.{kind.__qualname__}": _source(kind)}
    return code


@cache
def _loaded(module: str) -> dict[str, str]:
    """Return the fingerprint at the first call: files that are edited later are not the code that runs here."""
    return fingerprint(module)


def _source(kind: type) -> str:
    """Return the hash of the file of a class outside the lab, or of the class alone; empty where no file holds it."""
    for holder in (sys.modules.get(kind.__module__), kind):
        try:
            return hash_of_source(textwrap.dedent(inspect.getsource(holder)))  # type: ignore[arg-type]
        except (OSError, TypeError):  # no module, or no file
            continue
    return ""
