"""What is recorded of a session: enough to run it again, and on what it ran."""

import re
import shlex
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
from small_runs import Sweep, finish, read

from maxrl_lab.runs import provenance


def session_of(folder, **settings):
    finish(folder, Sweep(**settings))
    (session,) = read(folder, "provenance.json")["sessions"]
    return session


def test_a_session_says_what_ran_on_what(tmp_path):
    session = session_of(tmp_path, seeds=5)
    assert session["python"] == sys.version.split()[0]
    assert session["packages"]["torch"] == metadata.version("torch")
    assert session["packages"].keys() >= {"maxrl-lab", "numpy", "scipy", "pandas", "gymnasium", "safetensors"}
    assert session["device"] == "cpu"
    assert session["threads"] == torch.get_num_threads()
    assert session["seeds"] == 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", session["started"])
    assert session["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", session["commit"])


ARGUMENTS = ["run", "--methods", "grpo | greedy_gate", "--end", "\n", "it's $HOME", "*", ""]


@pytest.mark.parametrize("program", ["/usr/local/bin/maxrl-lab", "C:/Scripts/maxrl-lab.exe"])
def test_the_command_can_be_typed_again(tmp_path, monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program, *ARGUMENTS])
    command = session_of(tmp_path)["command"]
    assert command.startswith("maxrl-lab run --methods 'grpo | greedy_gate' --end ")
    assert shlex.split(command) == ["maxrl-lab", *ARGUMENTS]


def test_a_shell_reads_the_command_as_it_was_given(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["maxrl-lab", *ARGUMENTS])
    typed = provenance.describe_session("cpu")["command"].removeprefix("maxrl-lab")
    show = [sys.executable, "-c", "import sys; print(sys.argv[1:])"]
    shown = subprocess.run(["sh", "-c", shlex.join(show) + typed], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(ARGUMENTS)


def test_the_command_of_a_module_names_the_interpreter(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/someone/maxrl_lab/command.py", "run", "a b"])
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3.11", "-X", "dev", "-m", "maxrl_lab.command", "run", "a b"])
    assert session_of(tmp_path)["command"] == "python -X dev -m maxrl_lab.command run 'a b'"


def test_versions_of_extras_are_recorded_where_they_are_installed(tmp_path, monkeypatch):
    def version(name):
        if name in ("trl", "vllm"):
            raise metadata.PackageNotFoundError(name)
        return f"{name} 1.2"

    monkeypatch.setattr(provenance.metadata, "version", version)
    expected = {"maxrl-lab", "torch", "numpy", "scipy", "scikit-learn", "pandas", "gymnasium", "minigrid"}
    expected |= {"safetensors", "transformers", "accelerate", "peft", "datasets", "reasoning-gym", "math-verify"}
    assert session_of(tmp_path)["packages"] == {name: f"{name} 1.2" for name in expected | {"verl"}}


@pytest.mark.parametrize(("changes", "expected"), [("", "abc"), (" M maxrl_lab/exact.py\n", "abc+changes")])
def test_the_commit_says_whether_the_tree_was_edited(tmp_path, monkeypatch, changes, expected):
    outputs = {"ls-files": "provenance.py\n", "rev-parse": "abc\n", "status": changes}
    answer = lambda command, **_: SimpleNamespace(stdout=outputs[command[3]])  # noqa: E731
    monkeypatch.setattr(provenance.subprocess, "run", answer)
    assert session_of(tmp_path)["commit"] == expected


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_without_git_the_commit_is_null(tmp_path, monkeypatch, error):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(provenance.subprocess, "run", fail)
    assert session_of(tmp_path)["commit"] is None
