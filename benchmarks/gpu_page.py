"""What the speed page says of GPUs: the newest results of `benchmarks.gpu` of each card, as Markdown, never typed.

python -m benchmarks.gpu_page        (writes the block between `<!-- gpu -->` and `<!-- /gpu -->` of docs/speed.md)
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.record import records
from maxrl_lab.intervals import paired_difference
from maxrl_lab.rows import Row
from maxrl_lab.runs.files import write_atomically

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
_TIMES: dict[str, Callable[[Row], str]] = {
    "s": lambda row: f"{row['seconds']:.3g}",
    "of it sampling": lambda row: f"{row['seconds_sampling']:.3g}",
    "thousand tokens/s": lambda row: f"{row['tokens_per_second'] / 1e3:.3g}",
}
_CAPTURED = {
    "captured_sampling": "answers, captured",
    "captured_update": "update, captured",
    "captured_table_rollouts": "table rollouts, captured",
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
    for name, title in _CAPTURED.items():
        yield from _captured(title, rows.get(name, []))
    yield from _table(
        [row for row in rows.get("bfloat16_learning", []) if "seed" in row],
        {
            "learning in bfloat16, 9x9 mazes": lambda row: f"pair {row['seed'] + 1}, {row['updates']} updates",
            "pass@1 before": lambda row: f"{row['pass_at_1']:.3f}",
            "after, float32": lambda row: f"{row['pass_at_1_float32']:.3f}",
            "after, bfloat16": lambda row: f"{row['pass_at_1_bfloat16']:.3f}",
            "s an update, float32": lambda row: f"{row['seconds_float32']:.3g}",
            "s an update, bfloat16": lambda row: f"{row['seconds_bfloat16']:.3g}",
        },
    )


def _captured(title: str, rows: list[Row]) -> Iterator[str]:
    """Yield the table of one kind of captured work; what failed is on the page in the summary alone."""
    yield from _table(
        [row for row in rows if "seconds" in row],
        {
            title: _case,
            "captured, s": lambda row: f"{row['seconds']:.3g}",
            "ordinary, s": lambda row: f"{row['ordinary_seconds']:.3g}",
            "times as fast": lambda row: f"{row['ordinary_seconds'] / row['seconds']:.3g}",
            "captured, times the card's floor": _times_floor,
            "s to record": lambda row: f"{row['seconds_recording']:.3g}",
            "largest difference": lambda row: f"{row['difference']:.1g}",
            "the same up to rounding": lambda row: {True: "yes", False: "**no**", None: "-"}[row["passed"]],
        },
    )


def _case(row: Row) -> str:
    """Return which policy, prompts, rollouts and arithmetic a row of captured work is about."""
    if "policy" not in row:
        return f"{row['rollouts']:,} of each"
    return f"{row['policy']} policy, {row['prompts']} x {row['rollouts']}, {row['arithmetic']}"


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
    if pairs := [row for row in rows.get("bfloat16_learning", []) if "pass_at_1_bfloat16" in row]:
        said.append(_difference(pairs))
    failed = [name for name, section in _sections(record) if section["error"]]
    said += [f"These sections failed: {', '.join(failed)}."] if failed else []
    return " ".join(said)


def _difference(pairs: list[Row]) -> str:
    """Return the sentence on how bfloat16 has changed what a small policy learns."""
    ours, theirs = ([row[f"pass_at_1_{name}"] for row in pairs] for name in ("bfloat16", "float32"))
    text = f"After {pairs[0]['updates']} updates in bfloat16 pass@1 of a small policy differs from that in float32 by "
    if len(pairs) == 1:
        return f"{text}{ours[0] - theirs[0]:+.3f} (one pair)."
    mean, low, high = (float(value) for value in paired_difference(ours, theirs))
    return f"{text}{mean:+.3f} [{low:+.3f}, {high:+.3f}] (mean of {len(pairs)} pairs, 95% t interval)."


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
