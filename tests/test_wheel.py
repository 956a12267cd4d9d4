"""The built wheel in an environment of its own, used from a project whose packages have the names of ours.

The environment holds the wheel, what pip would install with it (the base dependencies and theirs), and pytest: nothing
else of the environment that the tests run in, whose packages are linked.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SOURCES = ("maxrl_lab", "pyproject.toml", "README.md", "LICENSE")
ADVANTAGES = """
def advantages(rewards):
    mean = rewards.mean(-1, keepdim=True)
    return (rewards - mean) / (mean + 1e-6)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def installed_with(requirements):
    """The distributions that pip installs for these requirements."""
    waiting, distributions = [Requirement(text) for text in requirements], {}
    while waiting:
        requirement = waiting.pop()
        key = (requirement.name.lower(), frozenset(requirement.extras))
        extras = ("", *requirement.extras)
        if key not in distributions and applies(requirement, ("",)):
            distributions[key] = metadata.distribution(requirement.name)
            needed = map(Requirement, distributions[key].requires or ())
            waiting += [item for item in needed if applies(item, extras)]
    return distributions.values()


def applies(requirement, extras):
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory):
    """The folder of the commands of an environment with the wheel and its base dependencies."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    python = ["--python", str(environment / "bin/python")]
    pip = [sys.executable, "-m", "pip", *python, "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True)
    (described,) = packages.glob("maxrl_lab-*.dist-info")
    base = [text for text in metadata.Distribution.at(described).requires if "extra ==" not in text]
    for distribution in installed_with([*base, "pytest"]):
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(distribution.locate_file(top))
    return environment / "bin"


@pytest.fixture
def project(tmp_path):
    """Somebody's project, with packages of its own that are called as the lab's folders and estimators are."""
    for name in ("envs", "experiments", "figures"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"NAME = 'our own {name}'\n")
    (tmp_path / "experiments/catalogue.py").write_text("raise SystemExit('not yours')\n")
    (tmp_path / "own.py").write_text(
        "import envs, experiments, figures\n"
        "assert envs.NAME + experiments.NAME + figures.NAME == 'our own envsour own experimentsour own figures'\n"
        + ADVANTAGES
    )
    (tmp_path / "grpo.py").write_text(ADVANTAGES)
    (tmp_path / "test_own.py").write_text(
        "import own\n"
        "def test_right(assert_optimises):\n"
        "    assert_optimises(own.advantages, 'truncated_likelihood:order=N-1', rollouts=8)\n"
        "def test_wrong(assert_optimises):\n"
        "    assert_optimises(own.advantages, 'truncated_likelihood:order=N', rollouts=8)\n"
    )
    return tmp_path


@pytest.fixture
def call(scripts, project):
    """Call a command of the environment in the project's folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def called(command, *arguments):
        return subprocess.run(
            [str(scripts / command), *arguments], cwd=project, env=environment, capture_output=True, text=True
        )

    return called


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names} == {"maxrl_lab", wheel.name.rpartition("-py3")[0] + ".dist-info"}
    library = {str(path.relative_to(ROOT)) for path in (ROOT / "maxrl_lab").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("maxrl_lab/")} == {n for n in library if "__pycache__" not in n}


def test_the_base_is_small(scripts, call):
    script = "import importlib.util; print([n for n in ('pandas', 'gymnasium', 'trl') if importlib.util.find_spec(n)])"
    assert call("python", "-c", script).stdout == "[]\n"


@pytest.mark.parametrize(
    ("target", "objective"),
    [
        (
            "own:advantages",
            "truncated_likelihood:order=7",
        ),  # beside packages called envs, experiments, figures
        ("grpo:advantages", "truncated_likelihood:order=7"),  # a module of the name of an estimator
        ("grpo", None),
        ("grpo:ddof=1", None),
        ("maxrl_leave_one_out", "truncated_likelihood:order=8"),
    ],
)
def test_audit(call, target, objective):
    done = call("maxrl-lab", "audit", target, "--rollouts", "8", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["objective"] == objective
    assert report["name"] == ("advantages" if target.endswith("advantages") else target)


def test_audit_of_a_picture_needs_the_extra(call, project):
    done = call("maxrl-lab", "audit", "own:advantages", "--plot", "curve.png")
    assert done.returncode == 2
    wanted = "matplotlib is not installed; it comes with the extra lab: pip install 'maxrl-lab[lab]'"
    assert done.stderr == f"maxrl-lab: error: {wanted}\n"
    assert not (project / "curve.png").exists()


@pytest.mark.parametrize(
    ("verb", "folder"),
    [
        *((verb, "experiments") for verb in ("list", "run", "draw", "reproduce")),
        *((verb, "course") for verb in ("course", "grade", "lesson", "explore")),
    ],
)
def test_the_other_verbs_say_where_their_folder_is(call, verb, folder):
    done = call("maxrl-lab", verb, *(["weight_functions"] if verb in ("run", "draw") else []))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"maxrl-lab: error: `maxrl-lab {verb}` needs the folder {folder}/ of the repository, which a wheel does not "
        "hold: clone the repository, and in the clone `pip install -e '.[lab]'`\n"
    )


def test_a_recipe_needs_the_extra(call):
    done = call("maxrl-lab", "recipe", "smollm2_135m_offline", "--describe")
    assert (done.returncode, done.stdout) == (2, "")
    wanted = "transformers is not installed; it comes with the extra llm: pip install 'maxrl-lab[llm]'"
    assert done.stderr == f"maxrl-lab: error: {wanted}\n"


def test_help(call):
    done = call("maxrl-lab", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "audit FUNCTION" in done.stdout


def test_the_fixture_of_pytest(call):
    done = call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "expected truncated_likelihood:order=8, times any" in done.stdout


def test_the_library_needs_only_the_base(call):
    script = (
        "import torch\n"
        "from maxrl_lab import audit, estimators, exact, intervals, objectives\n"
        "import maxrl_lab.training.step, maxrl_lab.classification, maxrl_lab.tabular.batch, maxrl_lab.tokens.batch\n"
        "assert float(exact.weight('maxrl', rollouts=2, pass_rate=0.5)) == 1\n"
        "assert intervals.bootstrap_interval([1.0, 2.0]) == (1.5, 1.0, 2.0)\n"
        "print(estimators.make('maxrl')(torch.tensor([1, 0, 0, 0])).tolist())\n"
    )
    done = call("python", "-c", script)
    assert (done.stdout, done.stderr) == ("[3.0, -1.0, -1.0, -1.0]\n", "")
