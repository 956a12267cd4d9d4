"""What the speed page says: the committed results of processors and of GPUs, as Markdown, never typed.

    python -m benchmarks.page        (writes the blocks `<!-- cpu -->` and `<!-- gpu -->` of docs/speed.md)

Of a ratio the page shows the median over the rounds, and the smallest and the largest: with n rounds these two enclose
the median of all possible rounds with a probability of 1 - 2^(1 - n).
"""

import re
import statistics
from collections.abc import Iterator

from benchmarks import gpu_page
from benchmarks.record import records, values
from maxrl_lab.rows import Row
from maxrl_lab.runs.files import write_atomically

PAGE = gpu_page.PAGE
PICTURE = "speed.png"
_BLOCK = re.compile(r"<!-- cpu -->\n.*?<!-- /cpu -->", re.S)


def main() -> None:
    """Write the blocks of the page."""
    write_atomically(PAGE, rendered(PAGE.read_text(encoding="utf-8")).encode())


def rendered(text: str) -> str:
    """Return the page with what the files of results say; without results of a processor its block stays."""
    if of_processors := records("machine"):
        body = "\n\n".join("\n".join(_machine(record)) for record in of_processors)
        text = _BLOCK.sub(lambda _: f"<!-- cpu -->\n{body}\n<!-- /cpu -->", text)
    return gpu_page.rendered(text)


def _machine(record: Row) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    yield f"### {record['machine']}"
    yield ""
    yield f"{record['threads']} threads; {versions}. {record['note']}".rstrip()
    for section, content in record["sections"].items():
        comparisons = [row for row in content["rows"] if "sides" in row]
        if comparisons:
            rounds = sorted({len(side["seconds"]) for row in comparisons for side in row["sides"].values()})
            yield ""
            yield f"**{section.capitalize()}** ({_words(rounds)} rounds; load before it {content['load']:.1f})"
            yield ""
            yield "| work | side | median of a round | times the lab's | target |"
            yield "|---|---|---|---|---|"
            for row in comparisons:
                yield from _lines(row)
        yield from _updates([row for row in content["rows"] if "update" in row])
        yield from _profiles(comparisons)
    if any("cost" in row for content in record["sections"].values() for row in content["rows"]):
        yield ""
        yield f"![Seconds of sampling and gradient against N, grid size and model size]({PICTURE})"


def _lines(row: Row) -> Iterator[str]:
    """Yield a line of the table for each side."""
    sides = row["sides"]
    for number, (name, side) in enumerate(sides.items()):
        amounts = values(sides, name)
        ratio = "" if side["base"] is None else f"{_number(statistics.median(amounts))} {_spread(amounts)}"
        if side["work"]:
            speeds = [side["work"] / seconds / 1e6 for seconds in side["seconds"]]
            median = f"{_number(statistics.median(speeds))} {_spread(speeds)} {row['unit']}"
        else:
            median = f"{_number(statistics.median(side['seconds']))} s"
        yield f"| {row['title'] if number == 0 else ''} | {name} | {median} | {ratio} | {_target(side, amounts)} |"


def _target(side: Row, amounts: list[float]) -> str:
    """Return the target, and whether it was reached."""
    if side["target"] is None:
        return ""
    least = side["target"] if side["base"] else side["target"] / 1e6
    return f"{least:g}: {'reached' if statistics.median(amounts) >= side['target'] else 'missed'}"


def _updates(rows: list[Row]) -> Iterator[str]:
    """Yield the table of one update's milliseconds against N."""
    if not rows:
        return
    yield ""
    yield f"| one update on {rows[0]['rollouts'] // rows[0]['update']} mazes | {' | '.join(rows[0]['seconds'])} | all |"
    yield "|---" * (len(rows[0]["seconds"]) + 2) + "|"
    for row in rows:
        times = [1e3 * seconds for seconds in row["seconds"].values()]
        yield f"| N = {row['update']} | {' | '.join(f'{time:.1f}' for time in times)} | {sum(times):.1f} ms |"


def _profiles(comparisons: list[Row]) -> Iterator[str]:
    """Yield where the time goes in what falls short of a target."""
    profiled = [(row, name, side) for row in comparisons for name, side in row["sides"].items() if "profile" in side]
    if profiled:
        yield ""
        yield "Where the time goes in what falls short of a target:"
        yield ""
    for row, name, side in profiled:
        parts = ", ".join(f"`{what}` {share:.0%}" for what, share in side["profile"])
        yield f"- {row['title']}, {name}: {parts}."


def _spread(amounts: list[float]) -> str:
    return f"[{_number(min(amounts))}, {_number(max(amounts))}]"


def _number(amount: float) -> str:
    """Return a number with three digits, or all digits before the point."""
    return f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:.3g}"


def _words(counts: list[int]) -> str:
    return " or ".join(map(str, counts))


if __name__ == "__main__":
    main()
