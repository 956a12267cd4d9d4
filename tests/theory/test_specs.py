"""The text form of estimators and objectives: reading, writing, and what is refused by name."""

from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxrl_lab import specs
from maxrl_lab.settings import Whole


def with_options(values, rollouts, *, order, scale=1.0):
    return values, rollouts, order, scale


def without_options(values, rollouts):
    return values, rollouts


def test_lookup_returns_the_entry_or_lists_the_choices(refuses):
    table = {"apple": 1, "pear": 2}
    assert specs.lookup(table, "fruit", "pear") == 2
    with refuses("unknown fruit 'kiwi'; choose one of: apple, pear"):
        specs.lookup(table, "fruit", "kiwi")


def test_options_must_be_keyword_only_ones_of_the_function(refuses):
    specs.check_options(with_options, "estimator", "mine", {"order": 2})
    specs.check_options(with_options, "estimator", "mine", {"scale": 2.0, "order": 2})
    specs.check_options(without_options, "estimator", "plain", {})
    with refuses("estimator 'mine' has no option 'k'; its options: order, scale"):
        specs.check_options(with_options, "estimator", "mine", {"order": 2, "k": 3})
    with refuses("estimator 'mine' has no option 'rollouts'; its options: order, scale"):
        specs.check_options(with_options, "estimator", "mine", {"order": 2, "rollouts": 3})
    with refuses("objective 'plain' has no option 'k'; its options: none"):
        specs.check_options(without_options, "objective", "plain", {"k": 3})


def test_a_missing_option_is_named(refuses):
    with refuses("estimator 'mine' needs the option 'order', as in 'mine:order=4'"):
        specs.check_options(with_options, "estimator", "mine", {})
    with refuses("estimator 'mine' needs the option 'order', as in 'mine:order=4'"):
        specs.check_options(with_options, "estimator", "mine", {"scale": 2.0})


def with_bounds(values, rollouts, *, order: Annotated[int, Whole(1, 9)]):
    return values, rollouts, order


def test_an_option_s_bound_stands_in_its_type(refuses):
    specs.check_options(with_bounds, "estimator", "mine", {"order": 9})
    with refuses("order must be at most 9, got 10"):
        specs.check_options(with_bounds, "estimator", "mine", {"order": 10})


def test_check_count_returns_whole_numbers_from_the_minimum_on():
    assert specs.check_count("order", 1) == 1
    assert specs.check_count("order", 7) == 7
    assert specs.check_count("steps", 0, minimum=0) == 0


@pytest.mark.parametrize("value", [0, -3, 1.0, True, "3", None, float("nan")])
def test_check_count_refuses_everything_else(refuses, value):
    with refuses(f"order must be a whole number >= 1, got {value!r}"):
        specs.check_count("order", value)


def test_check_count_names_its_minimum(refuses):
    with refuses("seeds must be a whole number >= 2, got 1"):
        specs.check_count("seeds", 1, minimum=2)


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("maxrl", "maxrl", {}),
        ("pkpo:k=4", "pkpo", {"k": 4}),
        ("grpo:ddof=1,epsilon=1e-06", "grpo", {"ddof": 1, "epsilon": 1e-6}),
        ("x:low=-3,high=+5,mid=-0.5", "x", {"low": -3, "high": 5, "mid": -0.5}),
        (" x : a = 2 , b = .5 ", "x", {"a": 2, "b": 0.5}),
        ("x:", "x", {}),
        ("x:a=1,", "x", {"a": 1}),
        ("x:a=2.0", "x", {"a": 2.0}),
        ("x:a=12", "x", {"a": 12}),
    ],
)
def test_parse(text, name, options):
    found_name, found = specs.parse(text)
    assert (found_name, found) == (name, options)
    assert [type(value) for value in found.values()] == [type(value) for value in options.values()]


@pytest.mark.parametrize(
    ("text", "value"),
    # at N = 12: N itself, one less, two more, times three, a quarter, and the same with blanks
    [("N", 12), ("N-1", 11), ("N+2", 14), ("N*3", 36), ("N/4", 3), ("N / 3", 4), ("N -10", 2), ("12", 12)],
)
def test_a_value_may_be_relative_to_the_number_of_rollouts(text, value):
    assert specs.parse(f"pkpo:k={text}", rollouts=12) == ("pkpo", {"k": value})
    assert type(specs.parse(f"pkpo:k={text}", rollouts=12)[1]["k"]) is int


@pytest.mark.parametrize("text", ["N/5", "N/0", "N / 24"])
def test_a_share_of_the_rollouts_must_be_whole(refuses, text):
    with refuses(f"'{text}' is not a whole number at N = 12"):
        specs.parse(f"pkpo:k={text}", rollouts=12)


@pytest.mark.parametrize("text", ["four", "N^2", "N-", "2N", "N-1.5", "", "1-2", "1=2"])
def test_a_value_must_be_a_number_or_an_expression_in_n(refuses, text):
    with refuses(f"expected a number or an expression in N such as 'N-1', got '{text}'"):
        specs.parse(f"pkpo:k={text}", rollouts=12)


def test_n_means_nothing_without_a_number_of_rollouts(refuses):
    with refuses("expected a number or an expression in N such as 'N-1', got 'N-1'"):
        specs.parse("pkpo:k=N-1")


@pytest.mark.parametrize("text", ["pkpo:4", "pkpo:k=1,4", "pkpo:k"])
def test_an_option_needs_its_name(refuses, text):
    with refuses(f"expected 'name:option=value', got '{text}'"):
        specs.parse(text)


def test_format_spec():
    assert specs.format_spec("maxrl", {}) == "maxrl"
    assert specs.format_spec("pkpo", {"k": 4}) == "pkpo:k=4"
    assert specs.format_spec("grpo", {"ddof": 1, "epsilon": 1e-6}) == "grpo:ddof=1,epsilon=1e-06"


def test_format_at_gives_n_its_value(refuses):
    assert specs.format_at("pkpo:k=N/2", 8) == "pkpo:k=4"
    assert specs.format_at("grpo:ddof=1,epsilon=0.5", 8) == "grpo:ddof=1,epsilon=0.5"
    assert specs.format_at("maxrl", 8) == "maxrl"
    with refuses("'N/3' is not a whole number at N = 8"):
        specs.format_at("pkpo:k=N/3", 8)


words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)


@given(
    name=words,
    options=st.dictionaries(words, st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=4),
)
def test_parse_reads_back_what_format_spec_writes(name, options):
    found_name, found = specs.parse(specs.format_spec(name, options))
    assert (found_name, found) == (name, options)
    assert [type(value) for value in found.values()] == [type(value) for value in options.values()]


def test_an_option_given_twice_is_refused():
    with pytest.raises(ValueError, match=r"the option 'k' is given twice in 'pkpo:k=1,k=2'"):
        specs.parse("pkpo:k=1,k=2")


def test_whole_numbers_of_any_type_are_counts():
    assert specs.check_count("k", np.int64(2)) == 2
