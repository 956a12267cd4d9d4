"""The command `maxrl-lab` of a checkout: it answers at once, from any folder, and says what is missing in one line."""

import json
import subprocess
import sys

import pytest

from maxrl_lab import command, extras
from maxrl_lab.errors import InputError

LARGE = ("torch", "numpy", "scipy", "pandas", "matplotlib", "tqdm", "sklearn", "gymnasium", "transformers")


def python(*arguments, cwd):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("verb", ["--help", "list"])
def test_nothing_large_is_loaded_for_an_answer_that_needs_none(tmp_path, verb):
    script = f"""
import json, sys
from maxrl_lab import command
status = command.main([{verb!r}])
print(json.dumps([status, sorted({{name.partition('.')[0] for name in sys.modules}})]))
"""
    done = python("-c", script, cwd=tmp_path)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert set(modules) & set(LARGE) == set()


def test_every_verb_works_from_a_folder_that_has_packages_of_the_same_names(tmp_path):
    for name in ("envs", "experiments", "figures", "course"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not yours')\n")
    (tmp_path / "own.py").write_text("def advantages(rewards):\n    return rewards\n")
    picture = "picture: figures/out/smoke/weight_functions.png"
    for arguments, answer in (
        (("list",), "weight_functions "),
        (
            ("run", "weight_functions", "--preset", "smoke", "--quiet"),
            "picture: figures/out/smoke/weight_functions.png",
        ),
        (("draw", "weight_functions", "--preset", "smoke"), picture),
        (("reproduce", "--help"), "usage: maxrl-lab reproduce"),
        (("audit", "own:advantages"), "optimises expected_reward, times 1 "),
        (("course", "answers"), "answers: README.md, lesson_1.py"),
    ):
        done = python("-m", "maxrl_lab.command", *arguments, cwd=tmp_path)  # -m: the folder comes first in sys.path
        assert (done.returncode, answer in done.stdout) == (0, True), done.stderr
    assert (tmp_path / "figures/out/smoke/weight_functions.png").exists()


def test_a_module_of_an_extra_is_missing_in_one_line(monkeypatch, capsys):
    def verb(arguments):
        raise ModuleNotFoundError(f"No module named '{arguments[0]}'", name=arguments[0])

    monkeypatch.setitem(command.COMMANDS, "audit", verb)
    assert command.main(["audit", "matplotlib.figure"]) == 2
    wanted = "matplotlib is not installed; it comes with the extra lab: pip install -e '.[lab]'"
    assert capsys.readouterr().err == f"maxrl-lab: error: {wanted}\n"
    # any other module is a fault of the lab, and shows its traceback
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'maxrl_lab\.absent'"):
        command.main(["audit", "maxrl_lab.absent"])


def test_an_extra_is_needed(monkeypatch, refuses):
    extras.need("lab")
    monkeypatch.setitem(extras.EXTRAS, "lab", ("pandas", "no_such_module"))
    message = "no_such_module is not installed; it comes with the extra lab: pip install "
    with refuses(f"{message}-e '.[lab]'"):
        extras.need("lab")
    monkeypatch.setattr(extras, "CHECKOUT", extras.CHECKOUT / "maxrl_lab")  # as in a wheel
    with pytest.raises(InputError, match=r"pip install 'maxrl-lab\[lab\]'\Z"):
        extras.need("lab")
