"""The programs in examples/ run as a user starts them, from any folder, and print what their docstrings promise."""

import ast
import re
import sys

import pytest
from example_programs import EXAMPLES, printed

PROGRAMS = sorted(EXAMPLES.glob("*.py"))
ALLOWED = {"maxrl_lab", "torch", "numpy", "gymnasium", "pytest", "datasets", "tokenizers", "transformers"}


def test_the_programs_are_these():
    assert [program.stem for program in PROGRAMS] == [
        "audit_mine",
        "masked_diffusion",
        "maxrl_in_one_file",
        "my_own_token_task",
        "tabulate_my_environment",
        "unit_test_mine",
        "with_trl",
    ]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_program_says_how_it_is_started_and_imports_public_names_of_the_library_alone(program):
    tree = ast.parse(program.read_text())
    docstring = ast.get_docstring(tree)
    assert f"examples/{program.name}" in docstring
    if program.stem != "maxrl_in_one_file":
        assert docstring.splitlines()[0].endswith("?")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = [node.module] if isinstance(node, ast.ImportFrom) else names
            assert not [name for name in [*names, *modules] if any(part.startswith("_") for part in name.split("."))]
            packages = {module.partition(".")[0] for module in modules}
            assert packages <= ALLOWED | sys.stdlib_module_names


def test_the_audit_tells_a_pooled_mean_from_a_mean_by_task(tmp_path):
    text = printed(tmp_path, EXAMPLES / "audit_mine.py")
    pooled, by_task = text.split("by_task at N = 8 rollouts")
    last = text.strip().splitlines()[-1]
    assert "optimises no objective that can be named" in pooled
    assert "pooled_groups" in pooled
    assert "optimises truncated_likelihood:order=7, times 1 " in by_task
    assert "pooled_groups" not in by_task
    assert last == "by_task optimises truncated_likelihood:order=7; is that log p? False"


def test_the_unit_test_of_an_advantage_function_passes(tmp_path):
    text = printed(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", EXAMPLES / "unit_test_mine.py")
    assert "4 passed" in text


def chance_to_cross(steps=12, loose=(2, 5), bank=7):
    """Return the chance that a walk by -1, +1 or +2, each a third, from stone 0 reaches the bank and no loose stone."""
    at = [1.0] + [0.0] * bank
    for _ in range(steps):
        after = [0.0] * (bank + 1)
        for stone, chance in enumerate(at):
            if stone == bank or stone in loose:
                after[stone] += chance
                continue
            for move in (-1, 1, 2):
                after[min(bank, max(0, stone + move))] += chance / 3
        at = after
    return at[bank]


def test_the_environment_gets_its_exact_pass_rate_weights_and_noise(tmp_path):
    text = printed(tmp_path, EXAMPLES / "tabulate_my_environment.py")
    rate = chance_to_cross()
    assert f"crosses with probability {rate:.6f}" in text
    table = {
        name: (float(w), float(noise)) for name, w, noise in re.findall(r"^(\w+) +([\d.]+) +([\d.]+)$", text, re.M)
    }
    assert list(table) == ["rloo", "grpo", "maxrl", "maxrl_leave_one_out"]
    assert table["rloo"][0] == 1
    assert table["maxrl"][0] == pytest.approx((1 - (1 - rate) ** 7) / rate, abs=1e-4)
    assert table["maxrl_leave_one_out"][0] == pytest.approx((1 - (1 - rate) ** 8) / rate, abs=1e-4)
    assert all(noise > 1 for _, noise in table.values())
    sampled = float(re.search(r"([\d.]+) crossed", text)[1])
    # 5 standard errors of 100,000 rollouts: a false alarm in 2 million seeds, and the seed is fixed
    assert sampled == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 100_000) ** 0.5 + 5e-5)


def test_the_token_task_is_learnt_on_held_out_problems(tmp_path):
    text = printed(tmp_path, EXAMPLES / "my_own_token_task.py")
    rates = [float(rate) for rate in re.findall(r"pass@1 ([\d.]+) on 20 held-out problems", text)]
    assert len(rates) == 6
    assert rates[0] < 0.02
    assert rates[-1] > 0.5


def test_the_surrogates_of_a_denoised_answer_are_compared_with_its_path(tmp_path):
    text = printed(tmp_path, EXAMPLES / "masked_diffusion.py")
    rows = re.findall(r"^(path|elbo|anchors:count=2|mean_field) +([\d.]+) +([\d.]+)$", text, re.M)
    biases = {name: float(bias) for name, bias, _ in rows}
    assert biases["path"] == 0
    assert 0.1 < biases["anchors:count=2"] < biases["mean_field"] < 1
    assert all(float(noise) > 0 for *_, noise in rows)
    assert float(re.search(r"its bound, on average ([\d.]+) nats", text).group(1)) > 0
