"""What the speed page says of GPUs: the newest results of `benchmarks.gpu` of each card, as Markdown, never typed.

python -m benchmarks.gpu_page        (writes the block between `<!-- gpu -->` and `<!-- /gpu -->` of docs/speed.md)
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.record import records
from maxrl_lab.rows import Row
from maxrl_lab.runs.files import write_atomically

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
_TIMES: dict[str, Callable[[Row], str]] = {
    "s": lambda row: f"{row['seconds']:.3g}",
    "of it sampling": lambda row: f"{row['seconds_sampling']:.3g}",
    "thousand tokens/s": lambda row: f"{row['tokens_per_second'] / 1e3:.3g}",
}
_BLOCK = re.compile(r"<!-- gpu -->\n.*?<!-- /gpu -->", re.S)


def main() -> None:
    """Write the block of the page."""
    write_atomically(PAGE, rendered(PAGE.read_text(encoding="utf-8")).encode())


def rendered(text: str) -> str:
    """Return the page with what the files of results say."""
    body = "\n\n".join("\n".join(_card(record)) for record in records("card")) or "No GPU has run it yet."
    return _BLOCK.sub(lambda _: f"<!-- gpu -->\n{body}\n<!-- /gpu -->", text)


def _card(record: Row) -> Iterator[str]:
    """Yield the lines on one card, an empty one between paragraphs and tables."""
    rows = {name: [row for row in section["rows"] if "left_out" not in row] for name, section in _sections(record)}
    yield f"### {record['card']}"
    yield ""
    yield f"torch {record['torch']}, Python {record['python']}. {_summary(record, rows)}"
    yield from _table(
        rows.get("paper_step", []),
        {
            "paper's step, 17x17 mazes": lambda row: f"{row['prompts']} x {row['rollouts']}, {row['arithmetic']}",
            **_TIMES,
            "TFLOP/s of the model": lambda row: f"{row['model_flops'] / row['seconds'] / 1e12:.3g}",
            "share of the card's matrix product": lambda row: _percent(row["share_of_matrix_speed"]),
            "GiB": lambda row: f"{row['peak_memory_gib']:.3g}" if row["peak_memory_gib"] else "-",
            **_floors(rows.get("paper_step", [])),
        },
    )
    yield from _table(
        rows.get("small_step", []),
        {
            "step of a small policy, 9x9 mazes": lambda row: f"{row['prompts']} x {row['rollouts']}, {row['device']}",
            **_TIMES,
            **_floors(rows.get("small_step", [])),
        },
    )
    yield from _table(
        rows.get("launches", []),
        {
            "kernels of a step": lambda row: f"{row['policy']} policy, {row['prompts']} x {row['rollouts']}",
            "s": lambda row: f"{row['seconds']:.3g}",
            "kernels": lambda row: f"{row['kernels']:,}",
            "share of the time in kernels": lambda row: _percent(row["share_busy"]),
        },
    )
    yield from _table(
        rows.get("table_rollouts", []),
        {
            "table rollouts, 32 mazes": lambda row: f"{row['rollouts']:,} of each",
            "s": lambda row: f"{row['seconds']:.3g}",
            "million steps/s": lambda row: f"{row['steps_per_second'] / 1e6:,.0f}",
            **_floors(rows.get("table_rollouts", [])),
        },
    )


def _floors(rows: list[Row]) -> dict[str, Callable[[Row], str]]:
    """Return the column of how many times the card's floor a row takes, if any row of the table has one."""
    text = "times the card's floor, of it sampling" if any("floor_seconds_sampling" in row for row in rows) else ""
    text = text or ("times the card's floor" if any("floor_seconds" in row for row in rows) else "")
    return {text: _times_floor} if text else {}


def _times_floor(row: Row) -> str:
    """Return how many times as long as the card must take, at least, a row took: all of it, and its sampling."""
    parts = [row[name] / row[f"floor_{name}"] for name in ("seconds", "seconds_sampling") if f"floor_{name}" in row]
    return ", ".join(f"{part:.3g}" for part in parts) or "-"


def _summary(record: Row, rows: dict[str, list[Row]]) -> str:
    """Return the sentences on the card, the checks and the training."""
    said = [record["note"]] if record.get("note") else []
    speeds = {row["arithmetic"]: row["flops_per_second"] / 1e12 for row in rows.get("card", []) if "arithmetic" in row}
    if speeds:
        text = ", ".join(f"{speed:.0f} TFLOP/s in {name}" for name, speed in speeds.items())
        size = record["sizes"]["matrix"]
        said.append(f"A product of {size} x {size} matrices runs at {text}.")
    if checks := rows.get("checks"):
        said.append(f"{sum(row['passed'] for row in checks)} of {len(checks)} checks against the CPU passed.")
    if tests := rows.get("tests"):
        said.append(f"{sum(row.get('status') == 0 for row in tests)} of {len(tests)} files of GPU tests passed.")
    training = rows.get("maze_scaling", [])
    updates = [row["seconds"] for row in training if "seconds" in row]
    measured = [row for row in training if "pass_at_1" in row]
    if updates and len(measured) == 2:
        before, after = (f"{row['pass_at_1']:.3f}" for row in measured)
        sizes, middle = record["sizes"], sorted(updates)[len(updates) // 2]
        said.append(
            f"An update of `maze_scaling --preset {sizes['preset']}` took {middle:.2f} s "
            f"at N = {sizes['training_rollouts']}; "
            f"{len(updates)} updates moved pass@1 from {before} to {after}."
        )
    failed = [name for name, section in _sections(record) if section["error"]]
    said += [f"These sections failed: {', '.join(failed)}."] if failed else []
    return " ".join(said)


def _sections(record: Row) -> list[tuple[str, Row]]:
    return list(record["sections"].items())


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2g}%"


def _table(rows: Sequence[Row], columns: dict[str, Callable[[Row], str]]) -> Iterator[str]:
    """Yield a Markdown table with an empty line before it, nothing if there are no rows."""
    if not rows:
        return
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(column(row) for column in columns.values())} |"


if __name__ == "__main__":
    main()
