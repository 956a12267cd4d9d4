"""Answers in texts, which need no extra: where they stand, how votes count them, which numbers are equal."""

import time
from fractions import Fraction

import numpy as np
import pytest

from maxrl_lab.llm.problems import equality, rewards, verifier
from maxrl_lab.llm.problems.rewards import boxed, decoded, extract, is_right


@pytest.fixture(autouse=True)
def without_math_verify(monkeypatch):
    """Nothing here is left to the process of math-verify."""
    monkeypatch.setattr(verifier, "matches", lambda *texts: pytest.fail(f"math-verify was asked about {texts}"))


def problem(answer, extraction="boxed"):
    return {"answer": answer, "source": "gsm8k", "entry": "", "extraction": extraction}


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{12}.", "12"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}} }", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{}", ""),
        (r"\boxed{1} and \boxed{2", None),
        (r"\boxed{1\}", None),
        (r"\boxed{1\\", None),
        ("12", None),
        ("", None),
        (r"\boxed{" + "1" * 1000 + "}", "1" * 1000),
        (r"\boxed{" + "1" * 1001 + "}", None),
        (r"$\boxed 4$.", "4"),
        (r"\boxed 42, as asked", "42"),
        (r"\(\boxed -7\)", "-7"),
        (r"\boxed\frac{1}{2}$", r"\frac{1}{2}"),
        ("\\boxed \n {4}", "4"),
        (r"\boxed{1} or \fbox{2}", "2"),
        (r"\fbox 3", "3"),
        (r"\boxedly{4}", None),
        (r"\boxed", None),
        (r"\boxed $", None),
    ],
)
def test_boxed_is_the_last_balanced_box(text, content):
    assert boxed(text) == content


@pytest.mark.parametrize(
    ("how", "text", "answer"),
    [
        ("line", "\n \n 12. \n13", "12"),
        ("line", "  \n", None),
        ("line", "a.b", "a.b"),
        ("tag", "<answer>1</answer> <answer> 2\n</answer> x", "2"),
        ("tag", "<answer>1</answer> <answer>2", "1"),
        ("tag", "</answer><answer>2", None),
        ("tag", "<answer> </answer>", None),
        ("number", "from 3 to 1,234,567.50 apples", "1,234,567.50"),
        ("number", "it is -4", "-4"),
        ("number", "5-3", "3"),
        ("number", "x = (2)-3", "3"),
        ("number", "so 3/4.", "3/4"),
        ("number", "1,2345", "2345"),
        ("number", "about .5", ".5"),
        ("number", "none", None),
        ("number", "it is \u221242", "-42"),
        ("number", "it is \u201342", "-42"),
        ("number", "from 3\u20135", "5"),  # a dash between numbers is a range
        ("number", "a loss of -$42.", "-$42"),
        ("number", r"x = - 42", "- 42"),
        ("number", "- 42 is an entry of a list", "42"),
        # GSM8K's own mark comes first, and a model that runs on begins another problem
        ("number", "#### 18\n\nQuestion: 3 boxes of 25? 3 x 25 = 75", "18"),
        ("number", "6 x 3 = 18\n#### $1,800\n#### 75", "1,800"),
        ("number", "#### \u22125", "-5"),
        ("number", "#### 1. Count\n3 + 4 = 7\n#### 2) Answer\nIt is 8", "8"),
        ("number", "#### Step 1\nIt is 7", "7"),
        ("boxed", r"\boxed{ }", None),
    ],
)
def test_extract(how, text, answer):
    assert extract(text, how) == answer


def test_an_unknown_extraction_is_named():
    with pytest.raises(ValueError, match=r"unknown extraction 'regex'; choose one of: boxed, line, tag, number"):
        extract("1", "regex")


LONG = 10**6


@pytest.mark.parametrize("how", rewards.EXTRACTIONS)
@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * (LONG // 7),
        "\\boxed{" + "{" * LONG,
        "\\boxed{" + "\\" * LONG,
        "<answer>" * (LONG // 8),
        "</answer>" * (LONG // 9),
        "1" * LONG,
        "1," * (LONG // 2),
        "1,111" + ",111" * (LONG // 4) + "1",
        "-" * LONG,
        "." * LONG,
        " " * LONG,
        "\n" * LONG,
        "1/" * (LONG // 2),
        "\\boxed " + "1" * LONG,
        "\\boxed" + " " * LONG + "1" * 1001,
        "= - " * (LONG // 4),
        "#### " * (LONG // 5),
        "####" + " " * LONG + "1" * 1001,
        "####$" + "$" * LONG + "1" * 1001,
    ],
    ids=lambda text: text[:9].strip() or "blank",
)
def test_a_million_characters_take_no_time_and_are_wrong(how, text):
    start = time.perf_counter()
    assert not is_right(text, problem("77", how))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("texts", "vote"),
    [
        ([r"\boxed{1,234}", r"\boxed{$1234$}", r"\boxed{ 1234. }"], "1234"),
        ([r"\boxed{x = 5}", r"\boxed{x=5}"], "x=5"),
        ([r"\boxed{(1, 2)}", r"\boxed{\left(1,2\right)}"], "(1,2)"),
        ([r"\boxed{0.50}"], "0.50"),
        ([r"\boxed{1/2}"], "1/2"),
        ([r"\boxed{1 1/2}"], "1 1/2"),
        (["no box", r"\boxed{}", r"\boxed{$}"], None),
    ],
)
def test_decoded_merges_only_typography(texts, vote):
    assert {decoded(text, problem("1")) for text in texts} == {vote}


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("18", "18", True),
        ("18.00", "18", True),
        ("$1,800$", "1800", True),
        (r"\$1{,}800", "1800", True),
        ("-18", "18", False),
        ("0.5", "1/2", True),
        (r"\frac{1}{2}", "0.50", True),
        (r"-\dfrac{1}{2}", "-1/2", True),
        ("(1, 2)", "(1,2)", True),
        # a percentage is its number, as the question "how many per cent?" asks, and its value
        (r"50\%", "50", True),
        (r"50\%", "0.5", True),
        (r"50\%", r"\frac{1}{2}", True),
        ("12.5%.", "0.125", True),
        (r"$50\%$", "0.50", True),
        (r"50\%", r"50.0\%", True),
        (r"50\%", "5", False),
        (r"50\%", "5000", False),
        # whatever sign a minus is written with
        ("\u221218", "-18", True),
        ("\uff0d18", "-18", True),
        ("\u221218", "18", False),
        ("\u2013\\frac{1}{2}", "-0.5", True),
        ("-$18", "-18", True),
        ("", "5", False),
        ("5", " ", False),
    ],
)
def test_equality_of_numbers(answer, reference, equal):
    assert equality.matches(answer, reference) is equal
    assert equality.matches(reference, answer) is equal


def test_what_is_too_long_matches_nothing():
    assert equality.matches("1" * 1000, "1" * 1000)
    assert not equality.matches("1" * 1001, "1" * 1001)


@pytest.mark.parametrize("reference", [4, 4.0, np.int64(4), np.float32(4), Fraction(4)])
def test_a_reference_may_be_a_number(reference):
    assert is_right(r"\boxed{4}", problem(reference))
    assert rewards.compute_score("gsm8k", r"\boxed{5}", reference) == 0.0


@pytest.mark.parametrize("reference", [["4"], None, {"target": "4"}, True, float("nan"), float("inf")])
def test_another_reference_is_refused_by_name(reference):
    with pytest.raises(ValueError, match="a reference answer must be a text or a number, got ") as error:
        is_right(r"\boxed{4}", problem(reference))
    assert repr(reference) in str(error.value)


MESSAGES = {
    "calls of tools only": ([{"role": "assistant", "tool_calls": [{"function": {"name": "multiply"}}]}], 0.0),
    "no content": ([{"role": "assistant", "content": None}], 0.0),
    "parts": ([{"content": [{"type": "text", "text": r"\boxed{\fr"}, {"type": "text", "text": "ac{8}{2}}"}]}], 1.0),
    "a picture": ([{"content": [{"type": "image", "image": "4"}, {"type": "text", "text": r"\boxed{4}"}]}], 1.0),
    "a part": ([{"content": {"type": "text", "text": r"\boxed{4}"}}], 1.0),
    "texts": ([{"content": ["It is ", r"\boxed{4}"]}], 1.0),
    "the last message": ([{"content": r"\boxed{4}"}, {"content": r"\boxed{5}"}], 0.0),
    "no message": ([], 0.0),
}


@pytest.mark.parametrize(("completion", "reward"), MESSAGES.values(), ids=MESSAGES)
def test_messages_in_any_form(completion, reward):
    columns = {"answer": ["4"], "source": ["gsm8k"], "entry": [""], "extraction": ["boxed"]}
    assert rewards.correct(completions=[completion], **columns) == [reward]
