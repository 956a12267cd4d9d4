"""Rewards of text answers: hand-worked tables, hostile and endless texts, every task of reasoning-gym, TRL and verl."""

import inspect
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import math_verify
import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS

from maxrl_lab.llm import bounded
from maxrl_lab.llm.problems import equality, rewards, tasks, verifier
from maxrl_lab.llm.problems.rewards import is_right


def problem(answer, source="gsm8k", entry="", extraction="boxed"):
    return {"answer": answer, "source": source, "entry": entry, "extraction": extraction}


def puzzle(task, answer, metadata=None, extraction="boxed"):
    entry = json.dumps({"answer": answer, "metadata": metadata or {}})
    return problem(answer, tasks.PREFIX + task, entry, extraction)


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("1,80", "180", False),
        ("1 1/2", "11/2", False),  # a space between digits carries meaning
        ("1/0", "1", False),
        (r"50\%", r"0.5\%", False),
        ("x>1", r"(1,\infty)", True),
        ("x>1", "(1,2)", False),
        (r"1 < x \le 3", "(1,3]", True),
        (r"x \le 2", r"(-\infty, 2]", True),
        ("(2, 1)", "(1,2)", False),
        (r"\{2, 1\}", r"\{1,2\}", True),
        ("x = 5", "5", True),
        ("x = 5", "y = 5", False),
        ("y = 2x + 3", "2x + 3", True),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        (r"2\sqrt{3}", r"\sqrt{13}", False),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})", True),
        (r"\text{Monday}", r"\text{monday}", True),
        ("banana", "5", False),
        ("5 or 7", "5", False),
    ],
)
def test_equality_of_mathematics(answer, reference, equal):
    """Whichever of the two is the answer."""
    assert equality.matches(answer, reference) is equal
    assert equality.matches(reference, answer) is equal


@pytest.mark.parametrize(("equation", "side"), [("2x + y = 7", "7"), ("2 + 3 = 5", "5"), ("3x - 4y + 5 = 0", "0")])
def test_an_answer_may_repeat_the_question_but_not_leave_half_of_an_equation_out(equation, side):
    assert equality.matches(equation, side)
    assert not equality.matches(side, equation)


def test_one_box_does_not_hold_two_answers():
    assert not equality.matches(r"5} \boxed{7", "7")
    assert not equality.matches(r"5} \boxed{7", "5")


@pytest.mark.parametrize("endless", ["9^{9^{9^9}}", pytest.param(r"\binom{10000000}{5000000}", marks=pytest.mark.slow)])
def test_a_comparison_that_does_not_end_is_wrong_and_the_next_one_is_right(endless):
    start = time.perf_counter()
    assert not is_right(rf"\boxed{{{endless}}}", problem("5"))
    assert time.perf_counter() - start < bounded.PATIENCE / 2  # its CPU time is over long before
    assert equality.matches(rf"\frac{{\sqrt{{2}}}}{{{len(endless)}}}", rf"\frac{{2}}{{{len(endless)}\sqrt{{2}}}}")


def test_any_thread_may_ask():
    def ask(number):
        return equality.matches(rf"\frac{{{number}}}{{\sqrt{{7}}}}", rf"\frac{{{number + number % 2}\sqrt{{7}}}}{{7}}")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(2, 14))) == [True, False] * 6


def test_a_killed_process_is_started_again():
    assert equality.matches(r"\sqrt{18}", r"3\sqrt{2}")
    process = verifier._process_of(os.getpid())._process
    process.kill()
    process.wait()
    assert equality.matches(r"\sqrt{50}", r"5\sqrt{2}")


def test_a_process_that_stood_still_answers_as_one_that_did_not(monkeypatch):
    """A suspended machine, or a busy one: the limit is one of CPU time."""
    monkeypatch.setattr(bounded, "SECONDS", 0.2)  # in this process: no clock here may count for the other one
    assert equality.matches(r"\sqrt{98}", r"7\sqrt{2}")
    process = verifier._process_of(os.getpid())._process
    os.kill(process.pid, signal.SIGSTOP)
    timer = threading.Timer(bounded.SECONDS + 3.5, os.kill, (process.pid, signal.SIGCONT))
    timer.start()
    assert equality.matches(r"\sqrt{162}", r"9\sqrt{2}")
    timer.join()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="the system has no limit on memory")
@pytest.mark.parametrize("change", ["resource.setrlimit(resource.RLIMIT_AS, (limit, limit))", "refuse()"])
def test_without_leave_to_set_the_limit_on_memory_it_compares_all_the_same(change):
    """A container may hold a lower limit, and macOS refuses one."""
    code = (
        "import resource\nlimit = 3 * 2**30\n"
        "def refuse():\n    def setrlimit(*_): raise ValueError('no')\n    resource.setrlimit = setrlimit\n"
        f"{change}\nfrom maxrl_lab.llm import bounded\nbounded._limit_memory()\n"
        r"from maxrl_lab.llm.problems import equality; print(equality.matches('\\sqrt{12}', '2\\sqrt{3}'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def hostile(path):
    return f"__import__('pathlib').Path({str(path)!r}).touch()"


def test_the_hostile_text_is_one(tmp_path):
    """The control: what this lab refuses to call does execute the text."""
    refused = reasoning_gym.create_dataset("string_insertion", seed=0, size=1)
    refused.score_answer(hostile(tmp_path / "ran"), {"answer": "x"})
    assert (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def one_of_each():
    """A problem of every supported task: (source, answer, entry)."""
    items = {task: tasks.make(task, {}, seed=3, size=1)[0] for task in tasks.TASKS}
    return [(tasks.PREFIX + task, item["answer"], tasks.entry_text(item, {})) for task, item in items.items()]


@pytest.mark.parametrize("how", rewards.EXTRACTIONS)
def test_no_text_is_executed(how, one_of_each, tmp_path):
    code = hostile(tmp_path / "ran")
    forms = [code, f"\\boxed{{{code}}}", f"<answer>{code}</answer>", f"\\boxed{{1 + {code}}}", f"\\boxed{{$${code}$$}}"]
    problems = [problem("5", extraction=how)]
    problems += [problem(answer, source, entry, how) for source, answer, entry in one_of_each]
    right = [each["source"] for each in problems for form in forms if is_right(form, each)]
    # the last number of these texts is part of the path, and may be the answer by chance
    assert not right or how == "number"
    assert not (tmp_path / "ran").exists()


def test_math_verify_never_reaches_parse_expr(monkeypatch):
    seen = []
    monkeypatch.setattr("math_verify.parser.parse_expr", lambda text, **_: seen.append(text))
    for text in ("1+1", "(1+2)*3", "answer: 3*4", "1/2 and 3-4", "final answer is 1+1. I hope"):
        verifier._math_verify(text, "5")
    assert not seen
    math_verify.parse("1+1", extraction_config=[math_verify.ExprExtractionConfig()])
    assert seen == ["1+1"]  # the control: the other extraction does


def test_every_task_of_reasoning_gym_is_supported_or_refused():
    assert set(tasks.TASKS) | set(tasks.REFUSED) == set(DATASETS)
    assert not set(tasks.TASKS) & set(tasks.REFUSED)
    assert set(tasks.TASKS.values()) == {"score", "number", "ratio", "text"}


TAILS = ("12", " or 9", " + 5", " weeks", "/7", "10^8!", r"\frac{1}{2}", "\n3", " zzz")


@pytest.mark.parametrize("task", tasks.TASKS)
def test_no_tail_is_passed_over(task):
    made = tasks.make(task, {}, seed=11, size=4)
    for index in range(4):
        entry = tasks.entry_text(made[index], {})
        passed = [tail for tail in TAILS if tasks.is_right(task, made[index]["answer"] + tail, entry)]
        assert set(passed) <= MEANT.get(task, set())


_ROUNDED = {"12"}  # further decimal places, within the accuracy that the task asks for
MEANT = {
    **dict.fromkeys(("decimal_arithmetic", "decimal_chain_sum", "number_format", "power_function"), _ROUNDED),
    "advanced_geometry": _ROUNDED,
    "knights_knaves": set(TAILS),  # pairs of a name and a role are read, and a further pair makes it wrong
}
"""Task to the tails that do not change what was answered."""


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_task_accepts_its_own_answer_and_nothing_that_scores_less(task):
    made = tasks.make(task, {}, seed=5, size=2)
    for index in range(2):
        item = made[index]
        reference = item["answer"]
        each = problem(reference, tasks.PREFIX + task, tasks.entry_text(item, {}))
        assert is_right(f"It is \\boxed{{{reference}}}.", each)
        others = (f"x{reference}", f"{reference}7", reference[1:], "zzz", "nan", "-999999", "9" * 900, "[" * 900)
        for other in others:
            if tasks._score(made, other, item) != 1 and equality.canonical(other) != equality.canonical(reference):
                assert not is_right(f"\\boxed{{{other}}}", each), other
        assert not is_right("\\boxed{zzz}", each)
        assert not is_right("", each)


@pytest.mark.parametrize("task", tasks.REFUSED)
def test_a_refused_task_says_why(task):
    with pytest.raises(ValueError, match=f"'{task}' is not scored here: ") as error:
        is_right(r"\boxed{1}", puzzle(task, "1"))
    assert tasks.REFUSED[task] in str(error.value)


@pytest.mark.parametrize(
    ("task", "reference", "metadata", "right", "wrong"),
    [
        ("chain_sum", "1000", {}, ["1,000", "$1000$", "+1000.0"], ["1000 or 1001", "-1000", "100"]),
        (
            "fraction_simplification",
            "1/2",
            {"numerator": 2, "denominator": 4, "simplified_numerator": 1, "simplified_denominator": 2},
            ["1/2", r"\frac{1}{2}", r"$\dfrac{1}{2}$"],
            ["2/4", "1/3", "0.5", r"\frac{1}{2}12", r"\frac{1}{2} + 5"],
        ),
        ("prime_factorization", "2 × 2 × 3", {}, ["3 × 2 × 2"], ["4 × 3", "12"]),
        ("gsm_symbolic", "12", {}, ["12", "12.0"], ["-12", "12 or 13"]),  # its score drops the sign
        # its score is exp(-5 |a - r| / r): more than 1 for every wrong answer if the reference is negative
        ("calendar_arithmetic", "-1", {"task": "recurring_event_day"}, ["-1"], ["5", "0"]),
        ("calendar_arithmetic", "100", {"task": "count_days"}, ["100"], ["101"]),
        ("time_intervals", "10:00", {"task_type": "time"}, ["10:00"], ["10:01"]),
        ("word_sorting", "a, b", {"sorted_words": ["a", "b"]}, ["a,b", "a, b"], ["a, b, c", "b, a"]),
        ("letter_jumble", "to be", {}, ["To be"], ["to be or", "to"]),
        ("spell_backward", "a" * 9, {}, ["A" * 9], ["a" * 9 + "b", "a" * 8]),  # 9 times 1/9 exceeds 1 in floats
        ("figlet_font", "ABCDEFGHIJK", {}, ["abcdefghijk"], ["ABCDEFGHIJX"]),  # ten right letters score 1
        ("decimal_chain_sum", "2.50", {}, ["2.5"], ["2.51"]),
        ("game_of_life_halting", "True", {}, ["True", "true"], ["False", "maybe"]),  # any text scores 1
        ("gcd", "14", {}, ["14"], ["14 I think", "7"]),
        ("syllogism", "Yes", {}, ["Yes"], ["Yes and No"]),
        ("base_conversion", "1f", {}, ["1f"], ["1f0"]),
    ],
)
def test_only_a_full_score_is_right(task, reference, metadata, right, wrong):
    each = puzzle(task, reference, metadata)
    for answer in right:
        assert is_right(f"\\boxed{{{answer}}}", each), answer
    for answer in wrong:
        assert not is_right(f"\\boxed{{{answer}}}", each), answer


def test_the_config_of_a_problem_scores_it():
    """decimal_arithmetic accepts an error of 10^-max_num_decimal_places, 0.001 by default."""
    entry = {"answer": "1.5", "metadata": {}}
    coarse = json.dumps({**entry, "config": {"max_num_decimal_places": 4}})
    for text, right in ((json.dumps(entry), True), (coarse, False)):
        each = problem("1.5", tasks.PREFIX + "decimal_arithmetic", text)
        assert is_right(r"\boxed{1.5005}", each) is right


@pytest.mark.parametrize("entry", ["", "[]", "{", '{"answer": "1"}', '{"answer": 1, "metadata": {}}'])
def test_a_broken_entry_is_an_error_not_a_wrong_answer(entry):
    with pytest.raises(ValueError, match="a problem of reasoning_gym/gcd needs an entry"):
        is_right(r"\boxed{1}", problem("1", "reasoning_gym/gcd", entry))


def test_a_problem_without_reference_is_an_error():
    with pytest.raises(ValueError, match="a problem of 'gsm8k' has no reference answer"):
        is_right(r"\boxed{1}", problem(" "))


def test_the_reward_function_of_trl_takes_texts_and_conversations():
    columns = {
        "answer": ["3", "3", "4"],
        "source": ["gsm8k", "gsm8k", "reasoning_gym/gcd"],
        "entry": ["", "", json.dumps({"answer": "4", "metadata": {}})],
        "extraction": ["boxed", "line", "tag"],
    }
    completions = [r"\boxed{3}", [{"role": "assistant", "content": "4"}], "<answer>4</answer>"]
    found = rewards.correct(prompts=["a", "b", "c"], completions=completions, completion_ids=[[1]] * 3, **columns)
    assert found == [1.0, 0.0, 1.0]
    assert all(type(reward) is float for reward in found)
    assert rewards.correct(completions=[[]], **{name: values[:1] for name, values in columns.items()}) == [0.0]


def test_the_reward_function_of_verl():
    names = list(inspect.signature(rewards.compute_score).parameters)
    assert names[:4] == ["data_source", "solution_str", "ground_truth", "extra_info"]
    asked = {"data_source": "gsm8k", "solution_str": r"\boxed{3}", "ground_truth": "3"}
    assert rewards.compute_score(**asked) == 1.0
    assert rewards.compute_score(**asked, extra_info={"num_turns": 1}, reward_router_address=None) == 1.0
    assert rewards.compute_score(**asked, extra_info={"extraction": "tag"}) == 0.0
    entry = json.dumps({"answer": "4", "metadata": {}})
    info = {"entry": entry, "extraction": "line"}
    assert rewards.compute_score("reasoning_gym/gcd", "4\n", "4", info) == 1.0
