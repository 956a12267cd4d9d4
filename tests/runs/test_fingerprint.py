"""Fingerprints: any change of the code that a module depends on changes them, and a change of prose does not."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from experiments.catalogue import EXPERIMENTS
from maxrl_lab.runs import fingerprint as fingerprints
from maxrl_lab.runs.fingerprint import changed_files, fingerprint, hash_of_source, name_files

FILES = {
    "experiments/__init__.py": '"""Experiments."""\n',
    "experiments/exact/__init__.py": "",
    "experiments/exact/sweep.py": """
        '''Which estimator is best?'''
        from dataclasses import dataclass
        import numpy as np
        from envs import maze
        from maxrl_lab.training.step import take_step

        @dataclass
        class Settings:
            '''What is compared.'''
            rate: float = 0.1
            '''Learning rate of all.'''

        def run(settings):
            '''Return the rows.'''
            from maxrl_lab.training import late  # imported when it is needed
            return take_step(settings.rate) + late.rows(f"{settings!r:>8}")
        """,
    "envs/__init__.py": "",
    "envs/maze.py": "from . import walls\nfrom .walls import WALL as BORDER\n",
    "envs/walls.py": "WALL = 1\n",
    "maxrl_lab/__init__.py": "",
    "maxrl_lab/training/__init__.py": "import maxrl_lab.specs as specs\n",
    "maxrl_lab/training/step.py": "from ..exact import weight\ndef take_step(rate):\n    return weight(rate)\n",
    "maxrl_lab/training/late.py": "def rows(text):\n    return [text]\n",
    "maxrl_lab/specs.py": "if True:\n    from maxrl_lab.probe import *\n",
    "maxrl_lab/probe.py": "",
    "maxrl_lab/exact.py": "def weight(p):\n    return 1 - p\n",
    "maxrl_lab/unused.py": "",
    "figures/__init__.py": "",
    "figures/sweep.py": "import maxrl_lab.unused\n",
}
DEPENDS_ON = set(FILES) - {"maxrl_lab/unused.py", "figures/__init__.py", "figures/sweep.py"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.setattr(fingerprints, "ROOT", tmp_path)
    return tmp_path


def taken():
    return fingerprint("experiments.exact.sweep")


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_every_import_is_followed_within_the_packages(root):
    """Of modules, of names, relative, inside functions, with a star, and the packages on the way."""
    assert taken().keys() == DEPENDS_ON
    assert list(taken()) == sorted(DEPENDS_ON)


@pytest.mark.parametrize("name", sorted(DEPENDS_ON))
def test_a_change_anywhere_is_found_and_named(root, name):
    before = taken()
    with (root / name).open("a") as file:
        file.write("\nADDED = 1\n")
    assert changed_files(before, taken()) == [name]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.1", "0.2"),
        ("0.1", "1e-1 + 0"),
        ("run(settings)", "run(settings=None)"),
        ("!r:>8", "!s:>8"),
        ("!r:>8", "!r:>9"),
        ("@dataclass\n", ""),
        ("rate: float", "rate: int"),
        ("+ late", "- late"),
    ],
)
def test_a_change_of_code_is_found(root, before, after):
    taken_before = taken()
    edit(root / "experiments/exact/sweep.py", before, after)
    assert changed_files(taken_before, taken()) == ["experiments/exact/sweep.py"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("'''Which estimator is best?'''", "'''Which estimator\n\nis the best of all?'''"),
        ("'''Which estimator is best?'''", ""),
        ("'''Learning rate of all.'''", "'''Learning rate of every method.'''"),
        ("'''Return the rows.'''", ""),
        ("  # imported when it is needed", ""),
        ("return take", "# why\n\n    return take"),
        ("0.1", "1e-1"),
        ("take_step(settings.rate) + ", "(take_step(settings.rate)\n        ) + "),
    ],
)
def test_a_change_of_prose_or_layout_is_not(root, before, after):
    taken_before = taken()
    edit(root / "experiments/exact/sweep.py", before, after)
    assert taken() == taken_before


def test_files_that_come_and_go_are_named(root):
    before = taken()
    (root / "envs/walls.py").unlink()
    (root / "envs/walls").mkdir()
    (root / "envs/walls/__init__.py").write_text("WALL = 1\n")
    after = taken()
    assert changed_files(before, after) == ["envs/walls.py", "envs/walls/__init__.py"]
    assert changed_files(before, {}) == sorted(DEPENDS_ON)


def test_a_few_files_are_named():
    assert name_files(["a.py"]) == "a.py"
    assert name_files(["a.py", "b.py", "c.py"]) == "a.py, b.py, c.py"
    assert name_files(["a.py", "b.py", "c.py", "d.py", "e.py"]) == "a.py, b.py, c.py and 2 more"


def test_source_of_a_users_own_is_hashed_alike():
    assert hash_of_source("a = 1  # why\n") == hash_of_source('"""About."""\na = 1')
    assert hash_of_source("a = 1") != hash_of_source("a = 2")


def test_all_that_an_experiment_has_imported_is_in_its_fingerprint():
    """The control: what Python has really loaded of the packages, in another process, is what was read statically."""
    entry = EXPERIMENTS["navigation"]
    code = (
        f"import sys, {entry.module}\n"
        "for module in list(sys.modules.values()):\n"
        "    if module.__name__.partition('.')[0] in ('maxrl_lab', 'envs', 'experiments'):\n"
        "        print(module.__file__)\n"
    )
    root = fingerprints.ROOT
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    loaded = {Path(line).relative_to(root).as_posix() for line in shown.splitlines()}
    assert len(loaded) > 20
    assert loaded <= fingerprint(entry.module).keys()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_file_is_read_once(name, monkeypatch):
    """The speed of a fingerprint: every file is parsed once, and a second fingerprint parses none."""
    fingerprints._read.cache_clear()
    parsed, hashed = [], fingerprints._hash_of_tree
    monkeypatch.setattr(fingerprints, "_hash_of_tree", lambda tree: parsed.append(tree) or hashed(tree))
    files = fingerprint(EXPERIMENTS[name].module)
    assert f"experiments/{EXPERIMENTS[name].room}/{name}.py" in files
    assert len(parsed) == len(files)
    assert fingerprint(EXPERIMENTS[name].module) == files
    assert len(parsed) == len(files)
