"""The tables of a report as lines of text."""

from collections.abc import Sequence

SHOWN_SUCCESSES = 8
"""Up to this K every column of the coefficients is shown, beyond it a few."""


def coefficient_lines(success: Sequence[float], failure: Sequence[float]) -> list[str]:
    """Return a(K) and b(K) as two rows under K; entries that no group can reach are dashes."""
    rollouts = len(success) - 1
    shown = [*range(min(SHOWN_SUCCESSES, rollouts) + 1)]
    quarters = (rollouts // 4, rollouts // 2, 3 * rollouts // 4, rollouts - 1, rollouts)
    shown += [count for count in quarters if count > shown[-1]]
    return aligned(
        [
            ["K successes", *map(str, shown)],
            ["a(K) success", *("-" if count == 0 else f"{success[count]:.4g}" for count in shown)],
            ["b(K) failure", *("-" if count == rollouts else f"{failure[count]:.4g}" for count in shown)],
        ]
    )


def aligned(rows: list[list[str]]) -> list[str]:
    """Return rows of cells as indented lines: the first column on the left, the others on the right."""
    head = max(len(row[0]) for row in rows)
    width = max(len(cell) for row in rows for cell in row[1:]) + 2
    return ["  " + row[0].ljust(head) + "".join(cell.rjust(width) for cell in row[1:]) for row in rows]
