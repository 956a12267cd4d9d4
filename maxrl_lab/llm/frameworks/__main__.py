"""Print the tables of what frameworks' advantages optimise: TRL and verl as installed, thirteen more as read.

python -m maxrl_lab.llm.frameworks                                                  # a minute on a slow core
python -m maxrl_lab.llm.frameworks --write maxrl_lab/llm/frameworks/FRAMEWORKS.md   # the committed copy
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from maxrl_lab.llm.frameworks import read_table, table
from maxrl_lab.runs.command_line import Parser, guarded

COMMAND = "python -m maxrl_lab.llm.frameworks"


def main(arguments: Sequence[str]) -> int:
    """Print the document, or write it."""
    parser = Parser(
        COMMAND,
        "Which objective do the advantages of frameworks optimise: TRL and verl as installed, thirteen more as read?",
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="Write the document to this file instead of printing it."
    )
    flags = parser.parse_args(list(arguments))
    text = f"{table.document()}\n{read_table.document()}"
    if flags.write:
        flags.write.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
