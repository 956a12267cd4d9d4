"""The modules of the house as syntax trees, and who imports whom: read from the files, nothing is imported."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("maxrl_lab", "envs", "experiments", "figures", "benchmarks", "course")


class Module(NamedTuple):
    """One file."""

    name: str
    path: Path
    tree: ast.Module


@cache
def modules():
    """Return every module by its name; a package is named as its `__init__` file's folder is."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path, ast.parse(path.read_text(), filename=str(path)))
    return found


def imports(module, known):
    """Return the known modules that a module imports anywhere: in functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.path}:{node.lineno}: an import says the whole name of a module"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in known else node.module)
    return {name for name in names if name in known and name != module.name}


def import_graph():
    """Return {module name: names of the modules it imports}."""
    known = modules()
    return {name: imports(module, known) for name, module in known.items()}


def at_import(module):
    """Yield every node that is executed when a module is imported: all but the bodies of functions."""
    waiting = list(module.tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
            waiting += node.orelse
            continue
        yield node
        skipped = node.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
        skipped = [node.body] if isinstance(node, ast.Lambda) else skipped
        waiting += [child for child in ast.iter_child_nodes(node) if child not in skipped]


def where(module, node):
    """Return file:line of a node."""
    return f"{module.path.relative_to(ROOT)}:{node.lineno}"


def names_of(module):
    """Return the names that a module defines or imports at its top."""
    names = set()
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))
    return names
