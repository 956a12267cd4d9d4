"""The verdicts of a quick experiment do not depend on the processor: rounding differs, and training amplifies it."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from maxrl_lab.extras import CHECKOUT

PROCESSORS = {
    "as it is, two threads": {"OMP_NUM_THREADS": "2"},
    "without vector instructions, one thread": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"},
}
"""Variables that make this machine's processor behave like another one."""


def on(processor, folder, *arguments):
    """Run the lab on a processor, with policies of its own; return what it prints."""
    variables = {**os.environ, **PROCESSORS[processor], "MAXRL_LAB_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "experiments", *arguments, "--preset", "quick", "--out", str(folder / "rows")]
    done = subprocess.run(command, cwd=CHECKOUT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def flipped(verdicts):
    """The claims, a row each, that hold on one processor and fail on another; undecided is the opposite of neither."""
    pairs = pd.DataFrame(verdicts)
    return pairs[[{"holds", "fails"} <= set(pair) for pair in pairs.to_numpy()]]


def test_what_counts_as_flipped():
    first = {"leads": "holds", "falls": "fails", "keeps": "holds", "peaks": "undecided", "trails": "fails"}
    second = {"leads": "fails", "falls": "fails", "keeps": "undecided", "peaks": "fails", "trails": "holds"}
    assert list(flipped({"a": first, "b": second}).index) == ["leads", "trails"]


@pytest.mark.slow
def test_no_verdict_flips(tmp_path):
    """Eight minutes on two cores."""
    verdicts, bases = {}, {}
    for number, processor in enumerate(PROCESSORS):
        folder = tmp_path / str(number)
        device = ("--device", "cpu", "--pictures", str(folder / "pictures"), "--quiet", "--processes", "2")
        on(processor, folder, "run", "data_scarce", *device)
        claims = json.loads(on(processor, folder, "claims", "data_scarce", "--json"))["claims"]
        verdicts[processor] = {claim["name"]: claim["verdict"] for claim in claims}
        bases[processor] = pd.read_csv(folder / "rows" / "quick" / "data_scarce" / "base.csv")
    first, second = bases.values()
    assert not first.equals(second)  # rounding differs, so the policies do
    assert flipped(verdicts).empty, pd.DataFrame(verdicts).to_string()
    assert (pd.DataFrame(verdicts) == "holds").all(axis=1).any()
