"""What `make mutation` mutates and runs is there, its samples can be drawn again, and its score is counted by hand."""

import ast
import sys

import mutation
import pytest


@pytest.fixture(params=mutation.PARTS)
def copied(request, tmp_path):
    """A part by name, and the scratch folder that it is copied to."""
    mutation.copy_project(tmp_path, mutation.PARTS[request.param])
    return mutation.PARTS[request.param], tmp_path


def test_everything_that_is_mutated_and_everything_that_notices_it_is_copied(copied):
    part, folder = copied
    for pattern in part.mutated:
        assert list((folder / "maxrl_lab").glob(pattern))
        assert f'"maxrl_lab/{pattern}"' in (folder / "pyproject.toml").read_text()
    for pattern in part.tests:
        assert list((folder / "tests").glob(pattern))
    assert (folder / "tests" / "conftest.py").exists()
    assert (folder / "tests" / "golden" / "estimator_moments.json").exists()


def test_the_whole_of_training_and_tabular_is_mutated():
    for room, part in (("training", "training"), ("tabular", "tabular"), ("estimators", "core")):
        assert f"{room}/*.py" in mutation.PARTS[part].mutated
        assert len(list((mutation.ROOT / "maxrl_lab" / room).glob("*.py"))) > 5


@pytest.mark.parametrize("test", mutation.LEFT_OUT)
def test_tests_that_are_left_out_exist(test):
    file, *names = test.split("::")
    body = ast.parse((mutation.ROOT / "tests" / file).read_text()).body
    for name in names:
        (node,) = [node for node in body if getattr(node, "name", None) == name.partition("[")[0]]
        body = node.body


def test_a_sample_can_be_drawn_again():
    mutants = [f"mutant_{index}" for index in range(100)]
    sample = mutation.choose(mutants, 30, 1)
    assert len(set(sample)) == 30
    assert set(sample) < set(mutants)
    assert mutation.choose(mutants, 30, 1) == sample != mutation.choose(mutants, 30, 2)
    assert mutation.choose(mutants, None, 1) == mutation.choose(mutants, 100, 1) == mutants


def test_a_score_by_hand():
    # Wilson's bounds of 8/10 at z = 1.96: (0.8 + z^2/20 -+ z sqrt(0.016 + z^2/400)) / (1 + z^2/10)
    outcomes = dict(enumerate(["killed"] * 6 + ["timeout", "segfault", "survived", "no tests"]))
    assert mutation.Score(outcomes, 10).line("core") == (
        "core: 8 of 10 mutants noticed, 80.0%: 6 killed, 1 timeout, 1 segfault, 1 survived, 1 no tests"
    )
    assert (
        mutation.Score(outcomes, 50)
        .line("core")
        .startswith("core: 8 of 10 mutants noticed, 80.0% (95% interval 49.0% to 94.3%; a sample of 50): 6 killed")
    )


def test_a_sample_fails_where_its_whole_interval_is_too_low():
    # 114 of 120 may be a share of 98%; 108 of 120 is at most one of 94.2%, and 114 of all 120 is one of 95% exactly.
    for noticed, mutants, enough in ((114, 900, True), (108, 900, False), (114, 120, True), (113, 120, False)):
        score = mutation.Score(dict(enumerate(["killed"] * noticed + ["survived"] * (120 - noticed))), mutants)
        assert (score.bounds[1] >= mutation.WANTED) is enough


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        mutation.main(["core", "tokens"])
    assert "unknown parts tokens; choose from core, training, tabular" in capsys.readouterr().err


PAIR = {
    "maxrl_lab/pair.py": "def larger(a, b):\n    return a if a > b else b\n\n\ndef twice(a):\n    return 2 * a\n",
    "tests/test_pair.py": (
        "import time\n\nfrom maxrl_lab.pair import larger\n\n\n"
        "def test_it():\n    assert (larger(1, 2), larger(4, 3)) == (2, 4)\n\n\n"
        "def test_slowly():\n    time.sleep(9)\n    assert False\n"
    ),
}
"""A library of two functions, of which one has a test, and a test that fails."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="mutmut needs a system that can fork")
def test_a_small_project_from_end_to_end(tmp_path, monkeypatch, capfd):
    pytest.importorskip("mutmut")
    for name, text in PAIR.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for folder in ("experiments", "envs", "tests/golden", "tests/support"):
        (tmp_path / folder).mkdir()
    (tmp_path / "maxrl_lab" / "__init__.py").touch()
    (tmp_path / "tests" / "conftest.py").touch()
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "PARTS", {"pair": mutation.Part(("pair.py",), ("test_pair.py",))})
    monkeypatch.setattr(mutation, "LEFT_OUT", ("test_pair.py::test_slowly",))
    assert mutation.main(["pair", "--only", "*x_larger__*", "*x_twice__mutmut_1", "--children", "1"]) == 1
    # `larger`: a > b becomes a >= b, which no pair of different numbers shows, and each branch is forced once; `twice`
    # becomes 2 / a, and no test calls it. `test_slowly` would notice all.
    printed = capfd.readouterr().out
    assert printed.endswith("pair: 2 of 4 mutants noticed, 50.0%: 2 killed, 1 survived, 1 no tests\n")
    assert "+    return a if a >= b else b" in printed
    assert "+    return a if (a > b)" not in printed
