"""The benchmarks of rollouts and of batching run at their smallest sizes, and what they print adds up."""

import copy
import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import classification, curves, gpu, gpu_page, navigation, page, token_peers, tokens
from benchmarks import record as records
from benchmarks.record import Record, Side, value, values
from benchmarks.timing import Stopwatch, medians, profile_of_calls, profile_of_operations
from envs.maze import Maze
from maxrl_lab import captured
from maxrl_lab.policies.transformer import Shape
from maxrl_lab.tokens import captured_writing

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
    record = Record()
    classification.main(((1, 4, 4), (2, 4, 4)), rollouts=8, rounds=1, record=record)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["torch", "4", "8", "w_N(p)"]
    rows = record.content["sections"]["classification"]["rows"]
    for line, row in zip(lines[1:], rows, strict=True):
        ratio = value(row["sides"], list(row["sides"])[1])
        assert float(re.search(r"([\d.]+)x$", line)[1]) == pytest.approx(ratio, abs=0.051)


def test_scipys_weight_is_the_labs():
    p = classification.torch.linspace(0.01, 0.99, 7, dtype=classification.torch.float64)
    wanted = classification.exact.weight("maxrl", rollouts=16, pass_rate=p)
    assert classification._scipy_weight(16, p).tolist() == pytest.approx(wanted.tolist(), rel=1e-12)


def test_rollouts_are_timed_against_every_peer(capsys):
    sizes = navigation.Sizes((8,), (8,), 1, "smoke", (2, 4), ((("rloo", "maxrl"), 2, 1),), 1)
    record = Record()
    navigation.main(sizes, record)
    out = capsys.readouterr().out
    for name in ("lab, Empty-8x8, 8 rollouts", "lab, FrozenLake, 8", "MiniGrid, Empty-8x8, sync", "FrozenLake, sync"):
        assert f"\n  {name}" in out
    updates = re.findall(r"^ +([24]) +\d+ +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", out, re.M)
    assert [row[0] for row in updates] == ["2", "4"]
    for _, *parts, total in updates:
        assert sum(map(float, parts)) == pytest.approx(float(total), abs=0.3)  # each is rounded to 0.1 ms
    assert "  2 runs, N = 2: " in out
    rows = record.content["sections"]["navigation"]["rows"]
    assert [row.get("title", row.get("update")) for row in rows] == [
        *("random policy", "network policy (two layers of 64 units)"),
        *(2, 4, "an update of 2 runs on mazes, N = 2"),
    ]
    for side, shown in re.findall(r"^  (.{58}) +([\d.]+)   1/", out.split("network policy")[0], re.M):
        speed = value({"side": rows[0]["sides"][side.strip()] | {"base": None}}, "side")
        assert float(shown) == pytest.approx(speed / 1e6, abs=0.00051)


SMALL = tokens.Case(5, 3, 2, Shape(width=16, layers=1, heads=2, kv_heads=1, mlp=16))


def test_token_tasks_are_timed(capsys, monkeypatch):
    monkeypatch.setattr(token_peers, "fast_bfloat16", lambda: False)
    monkeypatch.setattr(token_peers, "installed", lambda: False)
    record = Record()
    tokens._compare("default", 1, [SMALL], [SMALL], record)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("sampling", "gradient", "RL step"))] == [
        f"{what}, 8 x 2 answers, 34 + 3 tokens, float32" for what in ("sampling", "gradient", "RL step")
    ]
    times = [float(line.split()[line.split().index("s") - 1]) for line in lines if line.startswith("  lab")]
    assert len(times) == 4
    assert min(times) >= 0
    assert (
        len(record.content["sections"]["tokens, default memory settings"]["rows"]) == 2
    )  # a step has a peer or no row


def test_what_comes_between_two_steps_of_a_trainer_is_not_counted():
    pytest.importorskip("transformers")
    clock = token_peers.make_clock(lambda: time.sleep(0.05))
    clock.on_train_begin()
    for _ in range(3):
        clock.on_step_end()
    assert len(clock.seconds) == 3
    assert max(clock.seconds) < 0.05


def sides(**others):
    """A lab's side of 2, 1 and 4 seconds for 8 units of work, and a peer that does 2 in 3, 2 and 5 seconds."""
    lab = {"seconds": [2.0, 1.0, 4.0], "work": 8.0, "base": None, "target": None}
    return {"lab": lab | others, "peer": {"seconds": [3.0, 2.0, 5.0], "work": 2.0, "base": "lab", "target": 5.0}}


class TestRecord:
    """What a file of results holds."""

    def test_a_ratio_is_that_of_the_same_round_for_the_same_work(self):
        assert values(sides(), "peer") == [6.0, 8.0, 5.0]
        assert value(sides(), "peer") == 6.0
        assert values(sides(), "lab") == [4.0, 8.0, 2.0]

    def test_what_falls_short_comes_with_its_profile(self, tmp_path):
        record = Record.of_machine(tmp_path / "machine.json")
        compared = {
            "lab": Side(lambda: sorted(range(1000))),
            "slow": Side(lambda: sum(range(10)), base="lab", target=1e9),
            "quick": Side(lambda: sum(range(10)), base="lab", target=0.0),
            "fast lab": Side(lambda: None, work=1.0, target=1e-9),
        }
        record.compare("one", "title", compared, 2, profile=profile_of_calls)
        (row,) = json.loads((tmp_path / "machine.json").read_text())["sections"]["one"]["rows"]
        assert {name for name, side in row["sides"].items() if "profile" in side} == {"lab"}
        assert any("sorted" in name for name, _ in row["sides"]["lab"]["profile"])
        assert [len(side["seconds"]) for side in row["sides"].values()] == [2] * 4

    def test_a_section_measured_again_is_new_and_the_others_stay(self, tmp_path):
        path = tmp_path / "machine.json"
        first = Record.of_machine(path, "Something else ran.")
        first.add("one", {"a": 1})
        first.add("two", {"b": 1})
        again = Record.of_machine(path)
        again.begin("one")
        again.add("one", {"a": 2})
        content = json.loads(path.read_text())
        assert {name: section["rows"] for name, section in content["sections"].items()} == {
            "one": [{"a": 2}],
            "two": [{"b": 1}],
        }
        assert content["note"] == "Something else ran."
        assert content["threads"] >= 1

    @pytest.mark.parametrize("profile", [profile_of_calls, profile_of_operations])
    def test_a_profile_names_where_the_time_goes(self, profile):
        matrix = classification.torch.ones(300, 300)
        shares = profile(lambda: [matrix.matmul(matrix) for _ in range(20)])
        assert max(shares, key=lambda entry: entry[1])[0].endswith(("mm", "matmul' of 'torch._C.TensorBase' objects"))
        assert 0 < sum(share for _, share in shares) <= 1.001


class TestPage:
    """What the speed page says of processors."""

    def test_the_page_says_what_the_committed_results_say(self):
        text = page.PAGE.read_text(encoding="utf-8")
        assert page.rendered(text) == text

    def test_ratios_have_their_spread_and_targets_their_verdict(self, tmp_path, monkeypatch):
        profile = [["torch.rand", 0.75]]
        rows = [
            {"title": "sampling", "unit": "million steps/s", "sides": sides(target=3e6, profile=profile)},
            {"update": 4, "rollouts": 120, "seconds": {"network": 0.001, "Adam": 0.0005}},
            {"cost": "N", "at": 4, "sampling": [0.5], "gradient": [1.0]},
        ]
        record = {"machine": "A, 2 cores", "threads": 2, "versions": {"torch": "2.13"}, "note": "Quiet."}
        sections = {"navigation": {"load": 0.25, "rows": rows}}
        (tmp_path / "a.json").write_text(json.dumps({**record, "sections": sections}))
        monkeypatch.setattr(records, "RESULTS", tmp_path)
        lines = page.rendered("<!-- cpu -->\nold\n<!-- /cpu -->\n<!-- gpu -->\n<!-- /gpu -->").splitlines()
        assert lines[:4] == ["<!-- cpu -->", "### A, 2 cores", "", "2 threads; torch 2.13. Quiet."]
        for line in (
            "**Navigation** (3 rounds; load before it 0.2)",
            "| sampling | lab | 4e-06 [2e-06, 8e-06] million steps/s |  | 3: missed |",
            "|  | peer | 6.67e-07 [4e-07, 1e-06] million steps/s | 6 [5, 8] | 5: reached |",
            "| one update on 30 mazes | network | Adam | all |",
            "| N = 4 | 1.0 | 0.5 | 1.5 ms |",
            "- sampling, lab: `torch.rand` 75%.",
        ):
            assert line in lines
        assert lines[-5].startswith("![Seconds of sampling")
        assert lines[-2:] == ["No GPU has run it yet.", "<!-- /gpu -->"]
        (axes, *_) = curves.plot(rows[2:], "A, 2 cores").axes
        assert [line.get_ydata().tolist() for line in axes.lines] == [[0.5], [1.0]]

    def test_without_results_of_a_processor_its_block_stays(self, tmp_path, monkeypatch):
        monkeypatch.setattr(records, "RESULTS", tmp_path)
        text = "<!-- cpu -->\nold\n<!-- /cpu -->"
        assert page.rendered(text) == text


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

    def test_what_is_measured_has_a_floor(self, record):
        speeds = {row["arithmetic"]: row for row in record["sections"]["card"]["rows"] if "arithmetic" in row}
        bandwidth = record["sections"]["card"]["rows"][0]["bandwidth_bytes_per_second"]
        row = record["sections"]["paper_step"]["rows"][0]
        # each of 15 tokens: the weights, and for 2 prompts keys and values of 8 numbers of 34 tokens and 4 x 7.5
        assert row["parameters"] == 16 * (16 + 16 + 16 + 48) + 32 * 16 + 16 * 3 + 32  # norms, and biases of the heads
        moved = 4 * 15 * (row["parameters"] + 2 * (34 + 4 * 7.5) * 2 * 8)
        flops, speed = row["model_flops"], speeds["float32"]["flops_per_second"]
        assert row["floor_seconds_sampling"] == pytest.approx(max(moved / bandwidth, flops / 4 / speed))
        assert row["floor_seconds"] == pytest.approx(row["floor_seconds_sampling"] + 0.75 * flops / speed)
        for name in ("paper_step", "small_step", "table_rollouts"):
            assert all(0 < row["floor_seconds"] < row["seconds"] for row in record["sections"][name]["rows"])

    def test_training_is_measured_before_and_after(self, record):
        rows = record["sections"]["maze_scaling"]["rows"]
        assert [row["update"] for row in rows[1:]] == [0, 1, 2, 2]
        assert {"pass_at_1", "pass_at_4"} <= rows[1].keys() & rows[-1].keys()
        assert "signal" in rows[2]

    def test_captured_work_is_the_ordinary_work(self, record):
        """On the CPU nothing is captured: the same functions are called on the buffers of a capture."""
        sections = {name: part["rows"] for name, part in record["sections"].items() if name.startswith("captured")}
        steps = [("small", 2, 2, "float32"), ("paper", 2, 4, "float32"), ("paper", 2, 4, "bfloat16")]
        for name in ("captured_sampling", "captured_update"):
            rows = sections[name]
            assert [tuple(row[key] for key in ("policy", "prompts", "rollouts", "arithmetic")) for row in rows] == steps
            assert [row["passed"] for row in rows] == [True, True, None]
        rows = [row for section in sections.values() for row in section]
        assert [(row["rollouts"], row["passed"]) for row in rows[6:]] == [(8, True), (16, True)]
        for row in rows:
            assert 0 < row["floor_seconds"] < row["seconds"]
            assert min(row["ordinary_seconds"], row["seconds_recording"]) > 0
            assert row["difference"] < (0.5 if row["passed"] is None else 1e-5)
        assert all(row["difference_of_moves"] < 1e-2 for row in sections["captured_update"])

    def test_captured_work_that_differs_is_a_failure_and_the_other_cases_go_on(self, tmp_path, monkeypatch):
        pick = captured_writing.pick
        monkeypatch.setattr(captured_writing, "pick", lambda log_probs, numbers: pick(log_probs, 1 - numbers))
        path = tmp_path / "card.json"
        sections = ["captured_sampling", "captured_table_rollouts"]
        assert gpu.main(["--tiny", "--out", str(path), "--sections", *sections]) == 1
        sampling, tables = json.loads(path.read_text())["sections"].values()
        assert [row["passed"] for row in sampling["rows"]] == [False, False, None]
        assert all(row["different_answers"] > 0.5 for row in sampling["rows"][:2])
        assert "captured work that failed or differs: small, 2, 2, float32; paper, 2, 4, float32" in sampling["error"]
        assert tables["error"] is None

    def test_a_card_that_cannot_capture_still_gives_the_other_rows(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise captured.CaptureError("operation not permitted when stream is capturing")

        monkeypatch.setattr(captured, "_record_call", refuse)
        path = tmp_path / "card.json"
        sections = ["captured_sampling", "captured_update", "captured_table_rollouts", "table_rollouts"]
        assert gpu.main(["--tiny", "--out", str(path), "--sections", *sections]) == 1
        *refused, tables = json.loads(path.read_text())["sections"].values()
        assert [len(section["rows"]) for section in refused] == [3, 3, 2]
        for row in (row for section in refused for row in section["rows"]):
            assert row["passed"] is False
            assert re.search("CaptureError: .* cannot be captured for .*: operation not permitted", row["error"])
        assert tables["error"] is None
        assert all("seconds" in row for row in tables["rows"])

    def test_bfloat16_learns_beside_float32(self, record):
        base, *pairs = record["sections"]["bfloat16_learning"]["rows"]
        assert base["most_pretraining_updates"] == 12
        assert [(row["seed"], row["updates"]) for row in pairs] == [(0, 2), (1, 2)]
        for row in pairs:
            assert all(0 <= row[name] <= 1 for name in ("pass_at_1", "pass_at_1_float32", "pass_at_1_bfloat16"))
            assert min(row["seconds_float32"], row["seconds_bfloat16"]) > 0

    def test_pairs_are_as_long_as_time_allows(self):
        learning = gpu.gpu_learning
        work = gpu.Work(gpu.TINY, torch.device("cpu"), time.monotonic() + 60, {"sections": {}})
        study, base, _ = learning._pretrained(work, "smoke", 20.0)
        assert learning._affordable(dataclasses.replace(work, end=time.monotonic() + 600), study, base) == 2
        assert learning._affordable(dataclasses.replace(work, end=time.monotonic()), study, base) == 0

    def test_the_two_of_a_pair_differ_in_precision_alone(self, monkeypatch):
        """Twice the same precision gives the same policy twice; every other answer is right, so that it learns."""
        monkeypatch.setattr(Maze, "verify", lambda _, content, written, lengths: written.sum(-1) % 2 == 1)
        learning = gpu.gpu_learning
        work = gpu.Work(gpu.TINY, torch.device("cpu"), time.monotonic() + 60, {"sections": {}})
        study, base, _ = learning._pretrained(work, "smoke", 20.0)
        before = {name: value.clone() for name, value in base.state_dict().items()}

        def learnt(precision):
            policy = copy.deepcopy(base)
            update_once = learning._learn_in(work, study, policy, precision)
            seen = [update_once(3, step) for step in range(2)]
            return seen, policy.state_dict()

        (seen, once), (again_seen, again), (_, other) = map(learnt, ("float32", "float32", "bfloat16"))
        assert seen == again_seen
        assert all(torch.equal(once[name], again[name]) for name in once)
        assert any(not torch.equal(once[name], other[name]) for name in once)
        assert any(not torch.equal(once[name], before[name]) for name in once)
        assert all(torch.equal(before[name], value) for name, value in base.state_dict().items())

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
        late = ["captured_sampling", "captured_update", "captured_table_rollouts"]
        sections = ["paper_step", "table_rollouts", "maze_scaling", "bfloat16_learning", *late]
        assert gpu.main(["--tiny", "--minutes", "0", "--out", str(path), "--sections", *sections]) == 0
        rows = [row for section in json.loads(path.read_text())["sections"].values() for row in section["rows"]]
        assert len(rows) == 6 + 2 + 1 + 1 + 3 + 3 + 2
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
        monkeypatch.setattr(records, "RESULTS", tmp_path)
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
        assert sum(" of each |" in line for line in lines) == 2 + 2
        for name in ("sampling", "update"):
            for row in record["sections"][f"captured_{name}"]["rows"]:
                head = f"| {row['policy']} policy, {row['prompts']} x {row['rollouts']}, {row['arithmetic']} "
                ratio = row["ordinary_seconds"] / row["seconds"]
                times = f"| {row['seconds']:.3g} | {row['ordinary_seconds']:.3g} | {ratio:.3g} "
                floor = f"| {row['seconds'] / row['floor_seconds']:.3g} |"
                (line,) = (line for line in lines if line.startswith(head + times + floor))
                assert line.endswith("| yes |" if row["passed"] else "| - |")

    def test_what_bfloat16_did_is_said_with_its_interval(self, record, tmp_path, monkeypatch):
        monkeypatch.setattr(records, "RESULTS", tmp_path)
        text = "After 100 updates in bfloat16 pass@1 of a small policy differs from that in float32 by "
        ways = [
            ([(0.3, 0.25)], "-0.050 (one pair)."),
            # differences 0.02, -0.04 and -0.01: mean -0.01, deviation 0.03, times 4.303 / sqrt(3)
            ([(0.3, 0.32), (0.3, 0.26), (0.2, 0.19)], "-0.010 [-0.085, +0.065] (mean of 3 pairs, 95% t interval)."),
        ]
        for pairs, wanted in ways:
            rows = [
                {"seed": seed, "updates": 100, "pass_at_1": 0.03, "seconds_float32": 0.25, "seconds_bfloat16": 0.2}
                | {"pass_at_1_float32": exact, "pass_at_1_bfloat16": rounded}
                for seed, (exact, rounded) in enumerate(pairs)
            ]
            section = {"error": None, "rows": [{"pretraining_seconds": 1.0}, *rows]}
            content = record | {"sections": record["sections"] | {"bfloat16_learning": section}}
            (tmp_path / "card.json").write_text(json.dumps(content))
            page_text = gpu_page.rendered("<!-- gpu -->\n<!-- /gpu -->")
            assert text + wanted in page_text
            assert f"| pair 1, 100 updates | 0.030 | 0.300 | {pairs[0][1]:.3f} | 0.25 | 0.2 |" in page_text

    def test_what_failed_is_said(self, record, tmp_path, monkeypatch):
        monkeypatch.setattr(records, "RESULTS", tmp_path)
        broken = record | {"sections": record["sections"] | {"card": {"error": "it broke", "rows": []}}}
        (tmp_path / "card.json").write_text(json.dumps(broken))
        assert "These sections failed: card." in gpu_page.rendered("<!-- gpu -->\n<!-- /gpu -->")
