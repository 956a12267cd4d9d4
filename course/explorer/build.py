"""Put the page's parts into one file, `explorer.html`, which needs no network and no library.

    python -m course.explorer.build

The page forbids itself every request, and every script and style but the two in it, by their hashes (its content
security policy).
"""

import base64
import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER / "explorer.html"
SCRIPTS = (
    *("theory.js", "estimators.js", "formula.js", "coverage.js", "maze.js"),  # computation, without the page
    *("plot.js", "state.js", "view_table.js", "view_maze.js", "view_coverage.js", "start.js"),
)
"""The scripts in the order in which they run, all in one scope."""


_COMMENT = re.compile(r"^\s*//.*$|\s//\s[^\"'`]*$")
"""A comment on a line of its own, or at the end of one unless it holds a quotation mark."""


def page() -> str:
    """Return the page made of template, style and scripts."""
    style = _read("style.css")
    script = '\n"use strict";\n(() => {\n' + "\n".join(without_comments(_read(name)) for name in SCRIPTS) + "\n})();\n"
    text = _read("template.html")
    for mark, part in (
        ("STYLE HASH", _hash(style)),
        ("SCRIPT HASH", _hash(script)),
        ("STYLE", style),
        ("SCRIPT", script),
    ):
        text = text.replace(f"/*{mark}*/", part)
    return text


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def without_comments(script: str) -> str:
    """Return a script without its comments and indentation, a seventh of its size; no string of ours spans lines."""
    lines = (_COMMENT.sub("", line).strip() for line in script.splitlines())
    return "\n".join(filter(None, lines))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"{PAGE}: {PAGE.stat().st_size} bytes")
