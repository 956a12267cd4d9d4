"""The claims of finished runs with their verdicts, as text, JSON and Markdown."""

import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from experiments._runs import Made, aligned
from maxrl_lab.claims import Claim, number, wrong_by_chance

WIDTH = 100
"""Columns of the text."""
_SIGNS = {"above": ">", "below": "<", "within": "|.| <"}


@dataclass(frozen=True)
class Judged:
    """One claim of one experiment."""

    experiment: str
    claim: Claim

    @property
    def address(self) -> str:
        """The claim's name among all: `experiment/claim`."""
        return f"{self.experiment}/{self.claim.name}"

    @property
    def expected(self) -> str:
        """What the claim says of the estimate: `> 0`."""
        return f"{_SIGNS[self.claim.direction]} {number(self.claim.boundary)}"

    def plain(self) -> dict[str, Any]:
        """Return the claim as JSON has it: null for what is not a number."""
        values = {name: _or_null(value) for name, value in vars(self.claim).items()}
        return {"experiment": self.experiment, **values, "verdict": self.claim.verdict}


@dataclass(frozen=True)
class Verdicts:
    """The claims of all runs that are there, and why others are not."""

    judged: list[Judged]
    missing: dict[str, str]
    """Experiment to the reason why its claims are not judged."""
    notes: dict[str, str]
    """Experiment to what a reader must know of its run."""


def judge(made: Iterable[Made], missing: Mapping[str, str] = MappingProxyType({})) -> Verdicts:
    """Return the claims of finished runs, in their order; `missing` says of other experiments why they have no run."""
    verdicts = Verdicts([], dict(missing), {})
    for run, tables in made:
        claims, name = run.entry.claims(tables, run.settings), run.entry.name
        counts = Counter(claim.name for claim in claims)
        if repeated := [claim for claim, count in counts.items() if count > 1]:
            raise RuntimeError(f"{name} has several claims called {', '.join(repeated)}")
        verdicts.judged.extend(Judged(name, claim) for claim in claims)
        if note := run.note():
            verdicts.notes[name] = note
    return verdicts


def as_text(verdicts: Verdicts) -> str:
    """Return two lines or more a claim: verdict, estimate and place, and below them the sentence."""
    heads = [
        (
            item.claim.verdict,
            item.claim.paper or "(ours)",
            item.address,
            item.claim.text(),
            f"(claimed: {item.expected})",
        )
        for item in verdicts.judged
    ]
    lines = aligned(heads).splitlines() if heads else []
    sentences = [textwrap.indent(textwrap.fill(item.claim.sentence, WIDTH - 4), "    ") for item in verdicts.judged]
    body = "\n".join(line for pair in zip(lines, sentences, strict=True) for line in pair)
    parts = [body, summary([item.claim for item in verdicts.judged]), "\n".join(remarks(verdicts))]
    return "\n\n".join(filter(None, parts))


def remarks(verdicts: Verdicts) -> list[str]:
    """Return what must be known of the runs, and why others are missing: a line a reason, with its experiments."""
    named: dict[str, list[str]] = {}
    for name, reason in [*verdicts.notes.items(), *verdicts.missing.items()]:
        named.setdefault(reason, []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in named.items()]


def as_json(verdicts: Verdicts) -> str:
    """Return the claims, how many verdicts may be wrong by chance, and what is missing, as one JSON object."""
    measured, wrong = wrong_by_chance([item.claim for item in verdicts.judged])
    content = {
        "claims": [item.plain() for item in verdicts.judged],
        "measured": measured,
        "wrong_by_chance_at_most": round(wrong, 4),
        "notes": verdicts.notes,
        "missing": verdicts.missing,
    }
    return json.dumps(content, indent=2, allow_nan=False)


def as_markdown(verdicts: Verdicts) -> str:
    """Return a table of all claims, and what it rests on."""
    cells = [("verdict", "claim", "estimate", "claimed", "paper", "experiment"), *[("---",) * 6]]
    cells += [
        (
            f"*{item.claim.verdict}*",
            item.claim.sentence.replace("|", "\\|"),
            item.claim.text(),
            item.expected.replace("|", "\\|"),
            item.claim.paper or "(ours)",
            f"`{item.experiment}`",
        )
        for item in verdicts.judged
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return f"{table}\n\n{summary([item.claim for item in verdicts.judged])}"


def summary(claims: Sequence[Claim]) -> str:
    """Return how often each verdict is given, and how many may be wrong by chance."""
    counts = Counter(claim.verdict for claim in claims)
    measured, wrong = wrong_by_chance(claims)
    return (
        f"{len(claims)} claims: holds {counts['holds']}, fails {counts['fails']}, undecided {counts['undecided']}. "
        f"{measured} of the verdicts rest on 95% intervals, and at most {number(wrong)} of these would be expected "
        "to be wrong by chance; the others need no interval."
    )


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
