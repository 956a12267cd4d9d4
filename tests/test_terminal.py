"""A command in a terminal: interrupts, readers that leave, strange encodings, sizes that no memory holds, ~."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from maxrl_lab import terminal
from maxrl_lab.errors import InputError
from maxrl_lab.extras import CHECKOUT

COMMAND = [sys.executable, "-m", "maxrl_lab.command"]


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)


SLOW_IMPORT = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may have been started in the background
from maxrl_lab.terminal import importing
with importing():
    print("importing", flush=True)
    try:
        time.sleep(60)
    except BaseException:  # as some packages swallow what is raised while they are imported
        pass
"""


def test_an_interrupt_during_imports_ends_in_silence_and_is_never_swallowed():
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_IMPORT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=50)
    assert (process.returncode, said) == (-signal.SIGINT, "")


WATCHED_IMPORTS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
LARGE = {"torch", "numpy", "scipy", "pandas", "matplotlib", "matplotlib.pyplot", "PIL", "gymnasium", "sklearn"}
begun, open_to_interrupts = [], []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in LARGE:
            begun.append(name)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
                open_to_interrupts.append(name)
sys.meta_path.insert(0, Watch())
from maxrl_lab.command import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:  # of --help
    status = end.code
print(status, bool(begun), open_to_interrupts, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        "run weight_functions --help",
        "draw weight_functions --reference --pictures .",
        "claims weight_functions --reference",
        "report weight_functions --reference --file report.html",
        "reproduce --help",
        "rates --help",
        "audit maxrl --rollouts 4 --plot curve.png",
        "course exercises",
        "grade --help",
    ],
)
def test_every_verb_imports_what_is_large_where_an_interrupt_ends_it_in_silence(arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_IMPORTS, *arguments.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1:] == ["0 True []"]


def test_the_way_to_handle_an_interrupt_is_the_one_before():
    def check(before):
        with terminal.importing():
            pass
        assert signal.getsignal(signal.SIGINT) is before

    check(signal.getsignal(signal.SIGINT))
    thread = threading.Thread(target=check, args=(signal.getsignal(signal.SIGINT),))
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a command in the background is not interrupted
    try:
        with terminal.importing():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_goes_on_when_its_reader_has_left(stream, tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from maxrl_lab.terminal import lasting_streams
with lasting_streams():
    for _ in range(2000):
        print("a bar" * 100, file=sys.{stream})
    Path("done").touch()
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, **{stream: subprocess.PIPE})
    getattr(process, stream).read(10)
    getattr(process, stream).close()
    assert process.wait(timeout=50) == 0
    assert (tmp_path / "done").exists()


def test_a_reader_that_never_comes_leaves_no_word(tmp_path):
    said = subprocess.run(
        ["bash", "-c", '"$0" -m maxrl_lab.command list | true; exit ${PIPESTATUS[0]}', sys.executable],
        capture_output=True,
        text=True,
    )
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
def test_a_character_that_the_terminal_lacks_is_written_as_its_number(encoding):
    code = "from maxrl_lab.terminal import lasting_streams\nwith lasting_streams(): print('caf\\udce9')"
    done = python(code, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stdout) == (0, "caf\\udce9\n")


def test_streams_are_the_ones_before_and_may_be_absent(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    before = sys.stderr
    with terminal.lasting_streams():
        assert sys.stdout is None
        sys.stderr.write("")
    assert (sys.stdout, sys.stderr) == (None, before)


TOO_LARGE = {
    "a float": lambda: float(10**400),
    "a tensor": lambda: torch.zeros(2**60),
    "sizes of a tensor": lambda: torch.zeros(2**40, 2**40),
    "an array": lambda: np.zeros(2**58),
    "an index": lambda: [0] * 2**62,
}


@pytest.mark.parametrize("make", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_size_that_no_memory_holds_is_one_line(make):
    with (
        pytest.raises(InputError, match=r"\Aa number or a size is too large for this machine \(.*\)\Z"),
        terminal.within_memory(),
    ):
        make()


@pytest.mark.parametrize(
    "error", [RuntimeError("a fault"), ValueError("another"), InputError("memory overflow"), KeyError("k")]
)
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as raised, terminal.within_memory():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("~", "HOME"),
        ("~/rows", "HOME/rows"),
        ("--out=~/rows", "HOME/rows"),
        ("--out=rows~", "rows~"),
        ("--set", "--set"),
        ("a=~/rows", "a=~/rows"),
        ("pkpo:k=4", "pkpo:k=4"),
        ("", ""),
    ],
)
def test_the_home_folder(argument, path, monkeypatch):
    monkeypatch.setenv("HOME", "HOME")
    flag = "--out=" if argument.startswith("--out") else ""
    assert terminal.with_home(argument) == flag + path


@pytest.mark.parametrize(
    "variables",
    [{"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, {"MPLBACKEND": "none"}, {"PYTHONOPTIMIZE": "2"}],
)
def test_a_run_of_a_notebook_or_of_a_container(variables, tmp_path):
    arguments = ["run", "weight_functions", "--preset", "smoke", "--quiet", "--device", "cpu", "--out=~/rows"]
    fonts = {"MPLCONFIGDIR": matplotlib.get_cachedir()}  # or they would be listed anew in this home
    environment = {**os.environ, **variables, **fonts, "HOME": str(tmp_path)}
    done = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(tmp_path / "rows/smoke/weight_functions/rows.csv").exists()
