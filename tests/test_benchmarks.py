"""The benchmarks of rollouts and of batching run at their smallest sizes, and what they print adds up."""

import re

import pytest

from benchmarks import classification, navigation, token_peers, tokens
from benchmarks.timing import Stopwatch, medians
from maxrl_lab.policies.transformer import Shape


def test_medians_leave_out_the_first_round_and_interleave():
    calls = []
    seconds = medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert list(seconds) == ["a", "b"]
    assert min(seconds.values()) >= 0


def test_a_stopwatch_adds_up_the_time_of_a_method():
    class Sleeper:
        def nap(self):
            return "rested"

    watch = Stopwatch()
    watch.watch(Sleeper, "nap")
    assert Sleeper().nap() == "rested"
    assert watch.seconds[Sleeper, "nap"] > 0


def test_batching_prints_a_ratio_for_every_sweep(capsys):
    classification.main(((1, 4, 4), (2, 4, 4)), rollouts=8, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["torch", "4", "8", "w_N(p)"]
    for line in lines[1:]:
        assert float(re.search(r"([\d.]+)x$", line)[1]) > 0


def test_scipys_weight_is_the_labs():
    p = classification.torch.linspace(0.01, 0.99, 7, dtype=classification.torch.float64)
    wanted = classification.exact.weight("maxrl", rollouts=16, pass_rate=p)
    assert classification._scipy_weight(16, p).tolist() == pytest.approx(wanted.tolist(), rel=1e-12)


def test_rollouts_are_timed_against_every_peer(capsys):
    sizes = navigation.Sizes((8,), (8,), 1, "smoke", (2, 4), ((("rloo", "maxrl"), 2, 1),), 1)
    navigation.main(sizes)
    out = capsys.readouterr().out
    for name in ("lab, Empty-8x8, 8 rollouts", "lab, FrozenLake, 8", "MiniGrid, Empty-8x8, sync", "FrozenLake, sync"):
        assert f"\n  {name}" in out
    updates = re.findall(r"^ +([24]) +\d+ +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", out, re.M)
    assert [row[0] for row in updates] == ["2", "4"]
    for _, *parts, total in updates:
        assert sum(map(float, parts)) == pytest.approx(float(total), abs=0.3)  # each is rounded to 0.1 ms
    assert "  2 runs, N = 2: " in out


SMALL = tokens.Case(5, 3, 2, Shape(width=16, layers=1, heads=2, kv_heads=1, mlp=16))


def test_token_tasks_are_timed(capsys, monkeypatch):
    monkeypatch.setattr(token_peers, "fast_bfloat16", lambda: False)
    monkeypatch.setattr(token_peers, "installed", lambda: False)
    tokens._compare("default", 1, [SMALL], [SMALL])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("sampling", "gradient", "RL step"))] == [
        f"{what}, 8 x 2 answers, 34 + 3 tokens, float32" for what in ("sampling", "gradient", "RL step")
    ]
    times = [float(line.split()[line.split().index("s") - 1]) for line in lines if line.startswith("  lab")]
    assert len(times) == 4
    assert min(times) >= 0
