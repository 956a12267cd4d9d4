"""A report of all finished runs in one HTML file, which needs no network: verdicts, pictures, tables, provenance."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments import _verdicts
from experiments._runs import Made, Run
from experiments._times import duration
from experiments._verdicts import Verdicts
from maxrl_lab.runs.files import read_json
from maxrl_lab.runs.folder import wall_seconds
from maxrl_lab.runs.record import Record

if TYPE_CHECKING:
    import pandas as pd

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1.5rem; }
table { border-collapse: collapse; font-size: 0.85rem; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { padding: 0.25rem 0.6rem; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; }
img { max-width: 100%; height: auto; } code { font-size: 0.85em; overflow-wrap: anywhere; }
.holds { color: #00663d; } .fails { color: #b00020; } .undecided { color: #6b5200; } .note { color: #b00020; }
td.verdict { font-weight: bold; } .quiet { color: #555; } summary { cursor: pointer; }
"""


def write(made: Sequence[Made], verdicts: Verdicts, title: str) -> str:
    """Return the report: the claims first, then every experiment with picture, numbers, settings and provenance."""
    seconds = sum(wall_seconds(run.folder) for run, _ in made)
    contents = " · ".join(f'<a href="#{run.entry.name}">{run.entry.name}</a>' for run, _ in made)
    body = [
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text(_verdicts.summary([item.claim for item in verdicts.judged]))} "
        f"The runs took {duration(seconds)} in all.</p>",
        f"<p>{contents}</p>",
        "<h2>Claims</h2>",
        _claims(verdicts),
        *(f'<p class="quiet">{_text(line)}</p>' for line in _verdicts.remarks(verdicts)),
        *(_experiment(run, tables) for run, tables in made),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _claims(verdicts: Verdicts) -> str:
    lines = []
    for item in verdicts.judged:
        claim = item.claim
        cells = [_text(text) for text in (claim.sentence, claim.text(), item.expected, claim.paper or "(ours)")]
        cells.append(f'<a href="#{item.experiment}">{item.experiment}</a>')
        verdict = f'<td class="verdict {claim.verdict}">{claim.verdict}</td>'
        lines.append(f"<tr>{verdict}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    names = ("verdict", "claim", "estimate", "claimed", "paper", "experiment")
    return _table(f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>", lines)


def _experiment(run: Run, tables: "Mapping[str, pd.DataFrame]") -> str:
    """One experiment: its question, its picture, the numbers behind it, and folded up what it was made with."""
    if not run.picture.exists():
        run.save(tables)
    numbers = run.entry.figure().summarise(tables, run.settings)
    shown = numbers.to_html(float_format=lambda value: f"{value:.4g}", border=0, escape=True)
    name, note, took = run.entry.name, run.note(), duration(wall_seconds(run.folder))
    picture = base64.b64encode(run.picture.read_bytes()).decode()
    parts = [
        f'<h2 id="{name}">{name}</h2>',
        f"<p>{_text(run.entry.question())} "
        f'<span class="quiet">({_text(run.entry.paper)}; the run took {took})</span></p>',
        f'<p class="note">{_text(note)}</p>' if note else "",
        f'<img alt="The figure of {name}" src="data:image/png;base64,{picture}">',
        _folded("Numbers behind the picture", shown),
        _folded("Settings", _pairs(read_json(run.folder / "settings.json", "settings")["settings"])),
        _folded("Provenance", "".join(map(_pairs, _sessions(run)))),
    ]
    return "\n".join(filter(None, parts))


def _sessions(run: Run) -> Iterable[dict[str, Any]]:
    """What is recorded of each session of a run, and of its tables."""
    provenance = Record(run.folder).read_provenance("sessions", "tables")
    for session in provenance["sessions"]:
        packages = ", ".join(f"{name} {version}" for name, version in session.get("packages", {}).items())
        yield {**session, "packages": packages}
    yield {f"SHA-256 of {name}": digest for name, digest in provenance["tables"].items()}


def _pairs(values: Mapping[str, Any]) -> str:
    lines = [
        f"<tr><td>{_text(name)}</td><td><code>{_text(_plain(value))}</code></td></tr>" for name, value in values.items()
    ]
    return _table("", lines)


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(head: str, lines: Sequence[str]) -> str:
    return f"<table>{f'<thead>{head}</thead>' if head else ''}<tbody>{''.join(lines)}</tbody></table>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def _text(value: str) -> str:
    return html.escape(value)
