"""The table of thirteen more frameworks: the formulas of `readings`, audited and tried at the edges of a group."""

from collections.abc import Sequence
from functools import partial

from maxrl_lab import audit
from maxrl_lab.llm.frameworks import edges
from maxrl_lab.llm.frameworks.reading import Method, Reading
from maxrl_lab.llm.frameworks.readings import READINGS
from maxrl_lab.llm.frameworks.table import markdown, objective, short_name, times

ROLLOUTS = (2, 4, 8)
"""Group sizes N of the table's columns."""
HEAD = (
    "framework",
    "its name for it",
    *(f"N = {count}" for count in ROLLOUTS),
    "as N grows",
    "in the lab",
    "order",
    "pools prompts",
    "N = 1",
    "constant",
    "ragged",
    "nearly constant",
    "remarks",
)


def line(reading: Reading, method: Method) -> list[str]:
    """Return a method's line: its objective at every N, its order, whether it pools, and the edges of a group."""
    function = partial(edges.audited, method.formula)
    reports = [audit.audit(function, rollouts=count) for count in ROLLOUTS]
    pools = any(trap.name == "pooled_groups" for trap in reports[-1].traps)
    if pools:
        reports = [audit.audit(function, rollouts=count, batched=False) for count in ROLLOUTS]
    return [
        reading.framework,
        method.name,
        *map(objective, reports),
        limit(reports[-1]),
        in_the_lab(reports[-1]),
        order(reports),
        "yes" if pools else "no",
        edges.single(method.formula),
        edges.constant(method.formula),
        "pools" if pools else edges.ragged(method.formula),
        "pools" if pools else edges.nearly_constant(method.formula),
        method.remark,
    ]


def limit(report: audit.Report) -> str:
    """Return the objective that the function tends to as its groups grow, or `-`."""
    return short_name(report.limit.objective) if report.limit else "-"


def in_the_lab(report: audit.Report) -> str:
    """Return the estimator of the lab that has the function's table, as `rloo` or `maxrl x 0.125`, or `-`."""
    return times(report.known.names[0], report.known.scale) if report.known else "-"


def order(reports: Sequence[audit.Report]) -> str:
    """Return the order of MaxRL's series that all reports share: `1` for RL, `N`, `N-1` or a number; else `-`."""
    orders = [_order(report) for report in reports[1:]]  # N - 1 is 1 at N = 2
    counts = [report.rollouts for report in reports[1:]]
    if orders == counts:
        return "N"
    if orders == [count - 1 for count in counts]:
        return "N-1"
    return str(orders[0]) if orders[0] and len(set(orders)) == 1 else "-"


def _order(report: audit.Report) -> int:
    """Return the order of the series in a report, 0 if it has none."""
    name, _, size = (report.objective or "").partition(":order=")
    return {"expected_reward": 1, "truncated_likelihood": int(size or 0)}.get(name, 0)


def lines(readings: Sequence[Reading] = READINGS) -> list[list[str]]:
    """Return the lines of all methods, framework by framework."""
    return [line(reading, method) for reading in readings for method in reading.methods]


def sources(readings: Sequence[Reading] = READINGS) -> list[list[str]]:
    """Return a line a framework: where its source is, which version, and whether a test runs it."""
    return [
        [
            reading.framework,
            f"{reading.repository}, `{reading.path}`",
            reading.version,
            reading.date,
            reading.status,
        ]
        for reading in readings
    ]


def document() -> str:
    """Return the second half of the document, Markdown."""
    return f"{PREFACE}\n{markdown([HEAD, *lines()])}\n{SOURCES}\n{markdown([SOURCE_HEAD, *sources()])}"


TITLE = "## Thirteen more frameworks"
_FULL, _RAGGED = edges.ROLLOUTS, " or ".join(map(str, edges.RAGGED))
PREFACE = f"""\
{TITLE}

Nothing of these frameworks is installed: each row is a formula in the lab's own words, written from the framework's
source and audited like the functions above. A cell below an N names the objective for batches of one prompt; "pools
prompts" says whether other prompts of a batch change it. "as N grows" is the objective in the limit, if one is known,
"in the lab" the estimator with the same table at N = {_FULL}, "order" that of MaxRL's series; 1 is RL. The other
columns show advantages at the edges:

- N = 1: of a success / of a failure;
- constant: in a group without success / of successes only, N = {_FULL}, beside a group that is half right;
- ragged: whether prompts that lost rollouts, so that {_RAGGED} of {edges.RAGGED_ROLLOUTS} came back, are taken at their
  "own n"; "mixes" means that the rollouts of one prompt change the advantages of another;
- nearly constant: the largest in a group of {_FULL} rewards that are 0 but for one of {edges.NEAR} / and for one of 1.
"""
SOURCES = """\
What was read. "Run by a test": `tests/llm/test_llm_frameworks_of_the_index.py` fetches the release and runs its
function beside the formula. "Compared once": this was done by hand with the function at that commit. "Read, not run":
the code stands inside a loop and cannot be run alone.
"""
SOURCE_HEAD = ("framework", "source", "version", "date", "checked")
