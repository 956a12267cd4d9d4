"""`maxrl-lab explore`: open the explorer page in a browser, or say where it lies."""

import webbrowser
from collections.abc import Sequence

from course.explorer.build import PAGE
from maxrl_lab.runs.command_line import Parser


def main(arguments: Sequence[str]) -> int:
    """Open the page and print its path; the page needs no server and no network."""
    parser = Parser(
        prog="maxrl-lab explore",
        description="Open the explorer: which objective does a table of advantages optimise, a maze that is learnt by "
        "several methods side by side, and coverage. It is one file that needs no network.",
    )
    parser.add_argument("--path", action="store_true", help="Print where the page lies, and open nothing.")
    flags = parser.parse_args(list(arguments))
    if not flags.path and not webbrowser.open(PAGE.as_uri()):
        print(f"no browser could be opened; open this file in one: {PAGE}")
        return 0
    print(PAGE)
    return 0
