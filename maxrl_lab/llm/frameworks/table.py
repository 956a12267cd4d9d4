"""Which objective do the advantages of TRL and verl optimise, as installed? A table, by auditing their own code.

`calls` runs the installed code, `maxrl_lab.audit` questions it. A row whose framework is missing, or whose call fails,
says so. `python -m maxrl_lab.llm.frameworks` prints the table.
"""

import importlib.metadata
import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maxrl_lab import audit
from maxrl_lab.audit import identify
from maxrl_lab.errors import InputError
from maxrl_lab.llm.frameworks.entries import ENTRIES, Entry

ROLLOUTS = (2, 4, 8, 16, 64)
"""Group sizes N of the table's columns."""
EDGE_ROLLOUTS = 8
"""Group size at which advantages without success and with only successes are shown."""
_ZERO = 1e-6


PREFACE = """\
# What the advantages of TRL and verl optimise

{versions}. Written by `python -m maxrl_lab.llm.frameworks --write maxrl_lab/llm/frameworks/FRAMEWORKS.md`.

How to read it: each row is an advantage function of a framework, run as installed on groups of N rollouts with rewards
0 and 1. A cell names the objective whose gradient its expected estimate is, at every pass rate p: RL is the expected
reward p, order T is MaxRL's series -sum (1-p)^k / k up to k = T (T = 1 is RL, T to infinity is log p), pass@k is
1 - (1-p)^k, GRPO's limit is 2 arcsin(sqrt p). "x 0.5" is a constant factor, which a learning rate absorbs; "~" means
no known objective: the nearest one, and by how much the gradient differs from it at worst (relative, over pass rates
from 0.001 to 0.999). The last columns show advantages: of a success / of a failure alone in its group (N = 1), of every
rollout in a group without success (K = 0) and with only successes (K = N), both at N = {edge}.

A loss that divides by a number of tokens, as GRPOTrainer's and verl's do by default, changes the objective once more,
whatever the advantages are: `maxrl-lab run length_bias`. Not listed: verl's gae, optimal_token_baseline and
tir_optimal_token_baseline, which need a critic or token probabilities, and gdpo, which is for several rewards.
{binary}
"""
VERSION_LINE = 2
"""The line of the document, from 0, with the frameworks' versions."""


Line = list[str]
"""A line of the table: the function, its objective at each N, advantages at N = 1, K = 0 and K = N, and remarks."""


def table_lines(entry: Entry, counts: Sequence[int] = ROLLOUTS) -> list[Line]:
    """Return an entry's line and, if groups of a batch depend on each other, one more for batches of one group."""
    name = inspect.getdoc(entry.function) or entry.function.__name__
    try:
        reports = [audit.audit(entry.function, rollouts=count) for count in counts]
    except InputError as error:
        return [[name, *["fails"] * len(counts), "", "", "", first_line(error)]]
    edges, reasons = _edges(entry.function)
    if not any(trap.name == "pooled_groups" for report in reports for trap in report.traps):
        return [[name, *map(objective, reports), *edges, _joined(entry.remark, *_remarks(reports), *reasons)]]
    alone = [audit.audit(entry.function, rollouts=count, batched=False) for count in counts]
    remark = _joined("A group's advantages depend on the other groups.", entry.remark)
    return [
        [name, *["none"] * len(counts), "", "", "", remark],
        ["... in a batch of one group", *map(objective, alone), *edges, _joined(*_remarks(alone), *reasons)],
    ]


def _remarks(reports: Sequence[audit.Report]) -> list[str]:
    """Return a sentence on every trap that has no column of its own, at the smallest N that shows it."""
    sentences: dict[str, str] = {}
    for report in reports:
        for trap in report.traps:
            if trap.name in _REMARKED:
                sentences.setdefault(trap.name, f"{trap.message[0].upper()}{trap.message[1:]} (N = {report.rollouts}).")
    return list(sentences.values())


_REMARKED = (
    "random",
    "order_dependent",
    "raises",
    "not_finite",
    "explosion",
    "explosion_at_N=1",
    "own_reward_baseline",
)


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences)).replace("truncated_likelihood:order=", "order ").replace("|", "/")


def _edges(function: Callable[[Tensor], Tensor]) -> tuple[list[str], list[str]]:
    """Return the cells for N = 1, K = 0 and K = N, and the reasons of those that fail."""
    groups = torch.ones(1), torch.zeros(1), torch.zeros(EDGE_ROLLOUTS), torch.ones(EDGE_ROLLOUTS)
    shown, reasons = zip(*(_advantage(function, rewards) for rewards in groups), strict=True)
    right, wrong, *both = shown
    return [right if right == wrong else f"{right} / {wrong}", *both], list(dict.fromkeys(filter(None, reasons)))


def _advantage(function: Callable[[Tensor], Tensor], rewards: Tensor) -> tuple[str, str]:
    """Return the first rollout's advantage as a cell, and why there is none."""
    try:
        advantage = float(function(rewards)[0])
    except Exception as error:  # a framework may raise anything
        return "refuses", f"{type(error).__name__} at N = {len(rewards)}: {first_line(error)}"
    return "0" if abs(advantage) < _ZERO else f"{advantage:.3g}", ""


def objective(report: audit.Report) -> str:
    """Return a cell: `RL x 0.5`, `order 7`, or `~ RL x 1.45 (3.5% off)`."""
    if not report.valid:
        return "none"
    if report.nearest is None:
        return "nothing"
    scaled = times(short_name(report.nearest.objective), report.nearest.scale)
    return scaled if report.objective else f"~ {scaled} ({100 * report.nearest.residual:.2g}% off)"


def times(name: str, scale: float) -> str:
    """Return `name`, with a factor that is not 1: `RL x 0.5`."""
    return name if abs(scale - 1) < identify.TOLERANCE else f"{name} x {scale:.3g}"


def short_name(text: str) -> str:
    """Return an objective's name for a narrow column: `order 7`, `pass@4`, `RL`, `ML`, `GRPO's limit`."""
    for prefix, short in (("truncated_likelihood:order=", "order "), ("pass_at_k:k=", "pass@")):
        if text.startswith(prefix):
            return short + text.removeprefix(prefix)
    return {"expected_reward": "RL", "maximum_likelihood": "ML", "grpo_limit": "GRPO's limit"}.get(text, text)


def first_line(error: Exception) -> str:
    """Return an error's first line, fit for a cell."""
    return (str(error).splitlines() or [type(error).__name__])[0].replace("|", "/")


def document(entries: Sequence[Entry] = ENTRIES) -> str:
    """Return the whole document, Markdown."""
    head = ["function", *(f"N = {count}" for count in ROLLOUTS), "N = 1", "K = 0", "K = N", "remarks"]
    lines: list[Sequence[str]] = [head]
    for entry in entries:
        lines += table_lines(entry)
    return PREFACE.format(versions=versions(), edge=EDGE_ROLLOUTS, binary=_binary(entries)) + "\n" + markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, whose first line is its head."""
    head, *rest = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *rest))


def versions() -> str:
    """Return the installed frameworks with their versions."""
    installed = []
    for package in ("trl", "verl", "torch"):
        try:
            installed.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            installed.append(f"{package} (not installed)")
    return ", ".join(installed)


def _binary(entries: Sequence[Entry]) -> str:
    """Return a sentence on how many functions take a reward of one half, for which the table does not hold."""
    taken = 0
    for entry in entries:
        try:
            entry.function(torch.tensor([0.5, 0.0]))
            taken += 1
        except Exception:  # refusing is right; other failures have a row
            continue
    return (
        f"{taken} of the {len(entries)} functions take a reward of 0.5 without an error; the table holds for 0 and 1."
    )
