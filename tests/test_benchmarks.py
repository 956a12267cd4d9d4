"""The benchmarks of rollouts and of batching run at their smallest sizes, and what they print adds up."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import classification, gpu, gpu_page, navigation, token_peers, tokens
from benchmarks.timing import Stopwatch, medians
from maxrl_lab.policies.transformer import Shape

ROOT = Path(__file__).parents[1]


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


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "card.json"
    assert gpu.main(["--tiny", "--out", str(path)]) == 0
    return json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN


class TestGpu:
    """The script for a GPU, at its smallest on the CPU."""

    def test_every_section_has_rows_and_no_error(self, record):
        assert list(record["sections"]) == list(gpu.SECTIONS)
        for section in record["sections"].values():
            assert section["error"] is None
            assert section["rows"]
        assert all(row["passed"] for row in record["sections"]["checks"]["rows"])

    def test_the_step_counts_the_models_operations(self, record):
        rows = record["sections"]["paper_step"]["rows"]
        assert [(row["arithmetic"], row["prompts"]) for row in rows] == [
            (name, prompts) for prompts in (2, 4) for name in ("float32", "tf32", "bfloat16")
        ]
        # one layer of width 16, MLP 16, one key-value head of 8, 32 words: 16 (32 + 16 + 16 + 3 x 16) + 32 x 16 weights
        weights, width, prompt, answer = 16 * (16 + 16 + 16 + 48) + 32 * 16, 16, 34, 15
        read = prompt * (2 * weights + 4 * width * prompt / 2)
        written = 4 * answer * (2 * weights + 4 * width * (prompt + answer / 2))
        assert [row["model_flops"] for row in rows] == [4 * row["prompts"] * (read + written) for row in rows]
        for row in rows:
            tokens = row["prompts"] * row["rollouts"] * row["answer_tokens"]
            assert row["tokens_per_second"] == pytest.approx(tokens / row["seconds"])

    def test_training_is_measured_before_and_after(self, record):
        rows = record["sections"]["maze_scaling"]["rows"]
        assert [row["update"] for row in rows[1:]] == [0, 1, 2, 2]
        assert {"pass_at_1", "pass_at_4"} <= rows[1].keys() & rows[-1].keys()
        assert "signal" in rows[2]

    def test_a_section_that_fails_is_recorded_and_the_next_goes_on(self, tmp_path, monkeypatch, capsys):
        def broken(work):
            yield {"seconds": 1.0}
            raise RuntimeError("the card is on fire")

        sections = {"card": (broken, 0.5), "checks": gpu.SECTIONS["checks"]}
        monkeypatch.setattr(gpu, "SECTIONS", sections)
        path = tmp_path / "card.json"
        assert gpu.main(["--tiny", "--out", str(path), "--sections", "card", "checks"]) == 1
        card, checks = json.loads(path.read_text())["sections"].values()
        assert "the card is on fire" in card["error"]
        assert card["rows"] == [{"seconds": 1.0}]
        assert checks["error"] is None
        assert "2 sections, failed: card" in capsys.readouterr().out

    def test_a_check_that_fails_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(gpu.gpu_checks, "_weights", lambda work: (1.0, 0.1))
        path = tmp_path / "card.json"
        assert gpu.main(["--tiny", "--out", str(path), "--sections", "checks"]) == 1
        section = json.loads(path.read_text())["sections"]["checks"]
        assert [row["passed"] for row in section["rows"]].count(False) == 1
        assert section["error"].rstrip().endswith("checks that failed: <lambda>")

    def test_no_work_is_started_for_which_there_is_no_time(self, tmp_path):
        path = tmp_path / "card.json"
        sections = ["paper_step", "table_rollouts", "maze_scaling"]
        assert gpu.main(["--tiny", "--minutes", "0", "--out", str(path), "--sections", *sections]) == 0
        rows = [row for section in json.loads(path.read_text())["sections"].values() for row in section["rows"]]
        assert len(rows) == 6 + 2 + 1
        assert all("left_out" in row for row in rows)

    def test_only_base_dependencies_are_needed(self, tmp_path):
        blocked = "('tqdm', 'pandas', 'sklearn', 'matplotlib', 'gymnasium', 'minigrid', 'pytest')"
        program = (
            "import importlib.util, sys\n"
            f"for name in {blocked}: sys.modules[name] = None\n"
            "find = importlib.util.find_spec\n"
            f"importlib.util.find_spec = lambda name, *rest: None if name in {blocked} else find(name, *rest)\n"
            "from benchmarks import gpu\n"
            "sys.exit(gpu.main(['--tiny', '--out', sys.argv[1]]))"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "card.json")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


class TestGpuPage:
    """What the speed page says of GPUs."""

    def test_the_page_says_what_the_committed_results_say(self):
        text = gpu_page.PAGE.read_text(encoding="utf-8")
        assert gpu_page.rendered(text) == text

    def test_every_row_is_on_the_page(self, record, tmp_path, monkeypatch):
        monkeypatch.setattr(gpu_page, "RESULTS", tmp_path)
        (tmp_path / "card.json").write_text(json.dumps(record))
        lines = gpu_page.rendered("<!-- gpu -->\nold\n<!-- /gpu -->\nend").splitlines()
        assert "### cpu" in lines
        assert "old" not in lines
        assert lines[-1] == "end"
        assert any(
            "6 of 6 checks against the CPU passed" in line and "2 updates moved pass@1" in line for line in lines
        )
        row = record["sections"]["paper_step"]["rows"][0]
        assert sum(line.startswith(f"| 2 x 4, float32 | {row['seconds']:.3g} |") for line in lines) == 1
        assert sum(line.startswith("| 2 x 2, cpu |") for line in lines) == 1
        assert sum(" of each |" in line for line in lines) == 2

    def test_what_failed_is_said(self, record, tmp_path, monkeypatch):
        monkeypatch.setattr(gpu_page, "RESULTS", tmp_path)
        broken = record | {"sections": record["sections"] | {"card": {"error": "it broke", "rows": []}}}
        (tmp_path / "card.json").write_text(json.dumps(broken))
        assert "These sections failed: card." in gpu_page.rendered("<!-- gpu -->\n<!-- /gpu -->")
