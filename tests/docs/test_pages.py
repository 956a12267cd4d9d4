"""Every Python block of the pages runs, prints what stands below it, and every command and link leads somewhere."""

import ast
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys

import documentation
import pytest
from documentation import PAGES, ROOT

from experiments.catalogue import EXPERIMENTS
from maxrl_lab import command, specs
from maxrl_lab.errors import InputError
from maxrl_lab.extras import EXTRAS

README = ROOT / "README.md"
LONGEST_README = 150
RUN = [page for page in PAGES if any(block.language in ("python", "console") for block in documentation.blocks(page))]


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """An empty folder that is current and searched for modules; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[module]


@pytest.mark.parametrize("page", RUN, ids=documentation.name)
def test_blocks_run_and_print_what_stands_below(page, own_folder):
    names = {"__name__": "a page"}
    printed = ""
    for block in documentation.blocks(page):
        where = f"{documentation.name(page)}:{block.line}"
        if block.language == "python" and block.reason:
            _check_unrun(block.text, where)
        elif block.language == "python" and block.title:
            (own_folder / block.title).write_text(block.text, encoding="utf-8")
            if block.title.startswith("test_"):
                _run_tests(block.title, where)
        elif block.language == "python":
            code = compile("\n" * block.line + block.text, where, "exec")
            printed = _printed(lambda code=code: exec(code, names))
        elif block.language == "text" and block.title == "output":
            assert printed == block.text, where
        elif block.language == "console" and not block.reason:
            _check_console(block.text, where)


def _printed(call):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        call()
    return output.getvalue()


def _check_unrun(code, where):
    """A block that is not run still compiles, and imports what exists wherever its extra is installed."""
    for statement in ast.walk(ast.parse(code, where)):
        if isinstance(statement, ast.ImportFrom) and statement.module.partition(".")[0] in ("maxrl_lab", "envs"):
            module = _imported(statement.module)
            assert module is None or all(hasattr(module, alias.name) for alias in statement.names), where


def _imported(name):
    """The module, or None if the extra that it needs is not installed."""
    try:
        return importlib.import_module(name)
    except InputError as error:
        if "pip install" not in str(error):
            raise
        return None


def _run_tests(file, where):
    command_line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    ended = subprocess.run(command_line, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, f"{where}: {ended.stdout}"


def _check_console(text, where):
    """Each `$ maxrl-lab ...` prints exactly the lines below it; a line `...` stands for any number of lines."""
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, flags=re.M)
    assert commands, where
    for line, expected in commands:
        program, *arguments = shlex.split(line)
        assert program == "maxrl-lab", where
        printed = _printed(lambda arguments=arguments: command.main(arguments))
        pattern = "(?:.*\n)*?".join(re.escape(part) for part in re.split(r"^\.\.\.\n", expected, flags=re.M))
        assert re.fullmatch(pattern, printed), f"{where}: {printed}"


def test_what_is_not_run_says_why():
    reasons = [block.reason for page in PAGES for block in documentation.blocks(page) if block.reason]
    assert all(len(reason.split()) >= 3 for reason in reasons)


@pytest.mark.parametrize("page", PAGES, ids=documentation.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(((?!https?://|#)[^)\s#]+)(?:#[^)]*)?\)", documentation.prose(page)):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=documentation.name)
def test_commands_exist(page):
    source = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for target in re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", source, flags=re.M):
        assert "".join(target) in targets, target
    for verb, name in re.findall(r"maxrl-lab (\w+)(?: ([a-z_]+))?", source):
        if verb.islower() and verb != "version":
            specs.lookup(command.COMMANDS, "command", verb)
        if verb in ("run", "draw") and name:
            specs.lookup(EXPERIMENTS, "experiment", name)
    for module in re.findall(r"python -m ([a-z_.]+[a-z_])", source):
        assert _is_there(module), module


def _is_there(module):
    """Whether a module exists; of a package that only an extra brings, whether the extra is said to bring it."""
    package = module.partition(".")[0]
    if any(package in modules for modules in EXTRAS.values()) and importlib.util.find_spec(package) is None:
        return True
    return importlib.util.find_spec(module) is not None


def test_the_readme_fits_one_sitting():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST_README


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"[\w/-]+\.md", navigation)
    assert sorted(listed) == sorted(
        page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")
    )


def test_every_trap_has_its_example():
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "maxrl_lab" / "audit").glob("*.py")]
    known = {name for source in sources for name in re.findall(r'Trap\(\s*"([^"]+)"', source)}
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "traps.md").read_text(encoding="utf-8"), flags=re.M)
    assert known
    assert {name for heading in headings for name in heading.split(" and ")} == known


def test_every_estimator_and_objective_is_in_the_reference_of_names():
    from maxrl_lab.estimators import ESTIMATORS
    from maxrl_lab.objectives import OBJECTIVES

    page = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    assert [name for name in [*ESTIMATORS, *OBJECTIVES] if f"`{name}" not in page] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_results(name):
    pages = (page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "results").glob("*.md"))
    assert any(f"gallery/{name}.png" in page or f"`{name}` (no rows" in page for page in pages)


def test_the_citation_names_this_version():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.M)[1]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
