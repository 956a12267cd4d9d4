"""The code that a result depends on: every file that a module imports, hashed without comments and docstrings.

Imports are read from the source, also those inside functions, and followed within the packages of the repository. What
lies outside of them is not followed: installed packages are recorded by their versions (`maxrl_lab.runs.provenance`).
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGES = ("maxrl_lab", "envs", "experiments")
"""The packages that are followed; figures only show what these have computed."""
ROOT = Path(__file__).parents[2]
"""The folder of the packages."""


def fingerprint(module: str) -> dict[str, str]:
    """Return each file that `module` depends on, by its path in the repository, with the hash of its syntax tree.

    The hash changes with the code and not with comments, docstrings, blank lines or the version of Python.
    """
    seen: set[str] = set()
    hashes = {}
    waiting = list(_with_parents(module))
    while waiting:
        name = waiting.pop()
        file = None if name in seen else _file(ROOT, name)
        seen.add(name)
        if file is None:
            continue
        stat = file.stat()
        digest, imported = _read(file, name, stat.st_mtime_ns, stat.st_size)
        hashes[file.relative_to(ROOT).as_posix()] = digest
        waiting += imported
    return dict(sorted(hashes.items()))


def changed_files(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the files that are not the same in two fingerprints, those that only one of them has included."""
    return sorted(file for file in before.keys() | after.keys() if before.get(file) != after.get(file))


def name_files(files: Sequence[str], shown: int = 3) -> str:
    """Return a few of the files as text, and how many more there are."""
    more = len(files) - shown
    return ", ".join(files[:shown]) + (f" and {more} more" if more > 0 else "")


def hash_of_source(source: str) -> str:
    """Return the hash of Python source that does not belong to the followed packages, without its prose."""
    return _hash_of_tree(ast.parse(source))


def _hash_of_tree(tree: ast.AST) -> str:
    words: list[str] = []
    _spell(tree, words)
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def _with_parents(module: str) -> Iterator[str]:
    """Names of the packages that hold a module, whose `__init__` files run before it, and the module's own."""
    parts = module.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _file(root: Path, module: str) -> Path | None:
    """The source of a module of the followed packages, None for a name that is none."""
    if module.partition(".")[0] not in PACKAGES:
        return None
    stem = root.joinpath(*module.split("."))
    return next((file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


@lru_cache(maxsize=1024)
def _read(file: Path, module: str, *_stamp: int) -> tuple[str, tuple[str, ...]]:
    """The hash of a file and what it imports; the stamp of the file makes it read again when it has changed."""
    tree = ast.parse(file.read_bytes())
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    imported = {name for node in ast.walk(tree) for named in _imports(node, package) for name in _with_parents(named)}
    return _hash_of_tree(tree), tuple(sorted(imported))


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    """Names that an import statement may load: of `from a import b` both `a` and `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *filter(None, [node.module])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _spell(node: Any, words: list[str]) -> None:
    """Append the syntax tree to the words, without positions and without statements that are only a text.

    Fields that are empty are left out: versions of Python differ in which of them they have.
    """
    if isinstance(node, list):
        words.append("[")
        for item in node:
            _spell(item, words)
        words.append("]")
    elif not isinstance(node, ast.AST):
        words.append(repr(node))
    elif not (isinstance(node, ast.Expr) and _is_text(node.value)):
        words.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name != "ctx":
                words.append(name)
                _spell(value, words)
        words.append(")")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
