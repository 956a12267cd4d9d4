"""The rooms of the house: arrows of imports, what happens at import, what the wheel holds, one word for one thing."""

import ast
import fnmatch
import graphlib
import re
import subprocess
import sys

import pytest
from house import PACKAGES, ROOT, Module, at_import, import_graph, imports, modules, names_of, where

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

LIBRARY = "maxrl_lab"
BESIDE_THE_LIBRARY = {"envs", "experiments", "figures", "benchmarks", "course", "examples", "tests"}
HEAVY = ("pandas", "matplotlib", "gymnasium", "minigrid", "sklearn", "transformers", "trl")


def names_beside_the_library(module):
    """Yield (node, name) where a module imports a folder that the wheel does not install."""
    for node in ast.walk(module.tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        yield from ((node, name) for name in names if name.partition(".")[0] in BESIDE_THE_LIBRARY)


def test_no_circle_of_imports():
    graph = import_graph()
    assert len(graph) > 150  # the whole house was read
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}", pytrace=False)


def test_a_circle_would_be_noticed_wherever_it_hides(tmp_path):
    sources = {
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.b import B\n",
        "b": "def late():\n    import pack.a\n",
        "c": "x = 1\n",
    }
    known = {f"pack.{name}": Module(f"pack.{name}", tmp_path, ast.parse(text)) for name, text in sources.items()}
    graph = {name: imports(module, known) for name, module in known.items()}
    assert graph == {"pack.a": {"pack.b"}, "pack.b": {"pack.a"}, "pack.c": set()}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


def test_the_library_imports_nothing_that_the_wheel_lacks():
    library = [module for name, module in modules().items() if name.partition(".")[0] == LIBRARY]
    assert not [f"{where(m, node)}: {name}" for m in library for node, name in names_beside_the_library(m)]


def test_the_wheel_installs_the_library_alone():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(setuptools) == {"packages", "package-data"}
    (patterns,) = setuptools["packages"]["find"].values()
    packages = [name for name, module in modules().items() if module.path.name == "__init__.py"]
    installed = {name for name in packages if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}
    assert installed == {name for name in packages if name.partition(".")[0] == LIBRARY}
    folders = {path.parent for name, module in modules().items() if name.startswith(LIBRARY) for path in [module.path]}
    assert all((folder / "__init__.py").exists() for folder in folders)  # setuptools leaves other folders out


TOUCHED = ("environ", "rcParams", "manual_seed", "set_num_threads", "set_default_dtype", "filterwarnings", "putenv")
"""What a module must leave alone while it is imported: the process belongs to its user."""


def changes_of_the_process(module):
    """Yield the nodes executed at import that change the environment, matplotlib, torch or warnings for everybody."""
    for node in at_import(module):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
            targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
            changed = " ".join(ast.unparse(target) for target in targets if isinstance(target, ast.Subscript))
        elif isinstance(node, ast.Call):
            changed = "" if ast.unparse(node.func).endswith((".get", "getenv")) else ast.unparse(node.func)
        else:
            continue
        if any(name in changed.split("[")[0].split(".") for name in TOUCHED) or changed.endswith("style.use"):
            yield node


def test_importing_a_module_changes_nothing_for_the_process():
    assert not [where(module, node) for module in modules().values() for node in changes_of_the_process(module)]


@pytest.mark.parametrize(
    ("line", "is_change"),
    [
        ("os.environ['A'] = '1'", True),
        ("os.environ.setdefault('A', '1')", True),
        ("del os.environ['A']", True),
        ("mpl.rcParams.update({})", True),
        ("plt.style.use('ggplot')", True),
        ("torch.manual_seed(0)", True),
        ("class A:\n    torch.set_num_threads(1)", True),
        ("def f(x=os.environ.setdefault('A', '1')): pass", True),
        ("def f(): os.environ['A'] = '1'", False),
        ("HOME = os.environ.get('HOME')", False),
        ("if __name__ == '__main__':\n    os.environ['A'] = '1'", False),
    ],
)
def test_what_counts_as_a_change(line, is_change):
    module = Module("m", ROOT, ast.parse(line))
    assert bool(list(changes_of_the_process(module))) == is_change


NEEDS_NO_TORCH = ("maxrl_lab", "maxrl_lab.pytest_plugin", "maxrl_lab.command", "experiments.catalogue")
NEEDS_NOTHING_HEAVY = (
    "maxrl_lab.estimators",
    "maxrl_lab.audit",
    "maxrl_lab.training.fit",
    "maxrl_lab.classification",
    "maxrl_lab.tabular.batch",
    "maxrl_lab.tokens.batch",
    "envs.gridworld.tables",
    "envs.maze",
)


def test_importing_a_module_loads_only_what_it_needs():
    """One interpreter imports them in turn, from the lightest on."""
    names = (*NEEDS_NO_TORCH, *NEEDS_NOTHING_HEAVY)
    script = f"import importlib, sys\nfor name in {names}:\n    importlib.import_module(name)\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert name in line.split()
        loaded = {module.partition(".")[0] for module in line.split()}
        assert {name: loaded & {"torch", *HEAVY}} == {name: set() if name in NEEDS_NO_TORCH else {"torch"}}


def functions(module):
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_nothing_is_called_draw_but_the_command():
    """`sample` random things, `render` text, `plot` figures."""
    wrong = [
        f"{where(module, node)}: {node.name}"
        for module in modules().values()
        for node in functions(module)
        if node.name.strip("_") == "draw" or node.name.strip("_").startswith("draw_")
    ]
    assert [name for name in wrong if not name.endswith(": draw_experiment")] == []


RIDDLES = ("each", "found", "place", "own", "chosen")
"""Names that do not say what a variable holds: `row`, `task`, `index`, or what the result is."""


def riddles():
    """Return file:line and name of every variable and argument with such a name."""
    wrong = []
    for module in modules().values():
        for node in ast.walk(module.tree):
            name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else None
            is_set = isinstance(node, ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
            if is_set and name in RIDDLES:
                wrong.append(f"{where(module, node)}: {name}")
    return wrong


def test_no_variable_has_a_name_that_says_nothing():
    assert riddles() == []


def test_no_table_has_the_columns_view_and_stage():
    """What was a view or a stage is a table of its own. (A trained policy is kept by the stage it is trained in.)"""
    wrong = []
    for name, module in modules().items():
        if name.startswith(("experiments", "figures", "maxrl_lab")) and name != "maxrl_lab.tokens.trained":
            for node in ast.walk(module.tree):
                keys = node.keys if isinstance(node, ast.Dict) else []
                wrong += [where(module, key) for key in keys if getattr(key, "value", None) in ("view", "stage")]
    assert wrong == []


NAMED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)")
"""A name between backticks, from one of the house's packages on."""


def test_what_a_docstring_names_is_there():
    """A module that has moved leaves no old name behind."""
    known, wrong = modules(), []
    for path in sorted(file for folder in (*PACKAGES, "tests", "examples") for file in (ROOT / folder).rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for name in NAMED.findall(line):
                parts = name.split(".")
                depth = max(count for count in range(1, len(parts) + 1) if ".".join(parts[:count]) in known)
                if parts[depth:] and parts[depth] not in names_of(known[".".join(parts[:depth])]):
                    wrong.append(f"{path.relative_to(ROOT)}:{number}: {name}")
    assert wrong == []
