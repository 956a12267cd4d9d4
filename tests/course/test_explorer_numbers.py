"""What the explorer computes by itself is what the library computes, to 1e-9."""

import json
import re
from itertools import chain

import pytest
import torch
from explorer import ask

from course.explorer import build, golden
from maxrl_lab import exact

TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def kept():
    return json.loads(golden.FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tables(chromium, kept):
    page = chromium.new_page()
    page.goto(build.PAGE.as_uri())
    return list(zip(kept["tables"], ask(page, "tables", [kept["tables"], kept["pass_rates"]]), strict=True))


def far(got, wanted, scale=None):
    """Return the pairs that differ by more than the tolerance times `scale`, by default the library's number."""
    pairs = list(zip(got, wanted, strict=True))
    assert pairs
    return [(g, w) for g, w in pairs if not abs(g - w) <= TOLERANCE * (abs(w) if scale is None else scale)]


def where(row):
    return f"{row['estimator']} at N = {row['rollouts']}"


def test_tables(tables):
    with_columns = [(row, mine) for row, mine in tables if "a" in row]
    assert len(with_columns) > 100
    assert [where(row) for row, mine in with_columns if far(mine["a"] + mine["b"], row["a"] + row["b"])] == []


def test_weights(tables):
    """Where a weight is 0 by cancellation, its terms give the scale."""
    for row, mine in tables:
        largest = max(map(abs, mine["a"] + mine["b"]))
        for got, want in zip(mine["weight"], row["weight"], strict=True):
            assert abs(got - want) <= TOLERANCE * max(abs(want), 1e-6 * largest), where(row)


def test_variances(tables, kept):
    """A variance is a difference: of numbers as large as the square of the mean."""
    for row, mine in tables:
        for p, weight, got, want in zip(
            kept["pass_rates"], row["weight"], mine["variance"], row["variance"], strict=True
        ):
            assert abs(got - want) <= TOLERANCE * max(want, (weight * p * (1 - p)) ** 2), where(row)


def test_the_noise_of_a_softmax_policy(visit, kept):
    computed, wanted = ask(visit(), "softmax", kept["softmax"]), kept["softmax"]["norms_and_variances"]
    assert far(chain(*computed), list(chain(*wanted))) == []


def test_shares_of_silent_groups(tables, kept):
    rates = torch.tensor(kept["pass_rates"], dtype=torch.float64)
    for row, mine in tables:
        if "a" not in row:
            continue
        success, failure = torch.tensor(row["a"]), torch.tensor(row["b"])
        silent = ((success == 0) & (failure == 0)).double()  # what no group can reach is 0 in both columns
        assert far(mine["silent"], exact.binomial_mean(silent, rates).tolist(), scale=1) == [], where(row)


def test_the_page_has_every_estimator_with_its_options(visit, kept):
    wanted = {}
    for name, _, tail in (row["estimator"].partition(":") for row in kept["tables"]):
        wanted.setdefault(name, set()).update(pair.partition("=")[0] for pair in tail.split(",") if pair)
    assert {name: set(options) for name, options in ask(visit(), "options").items()} == wanted


def test_verdicts_are_the_audit_s(visit, kept):
    judged = [row for row in kept["tables"] if "objective" in row]
    known = re.compile(r"(expected_reward|maximum_likelihood|grpo_limit|truncated_likelihood|pass_at_k)(:|$)")
    wanted = [row["objective"] if row["objective"] and known.match(row["objective"]) else None for row in judged]
    assert len(set(wanted)) > 5
    assert ask(visit(), "verdicts", judged) == wanted


def test_weights_of_objectives(visit, kept):
    page = visit()
    for spec, wanted in kept["objectives"].items():
        name, _, option = spec.partition(":")
        size = int(option.partition("=")[2] or 0)
        assert far(ask(page, "objective", [name, size, kept["pass_rates"][:-1]]), wanted) == [], spec


def test_pass_rates_and_gradients_of_a_maze(visit, kept):
    maze = kept["maze"]
    computed = ask(visit(), "maze", maze)
    assert far([start["p"] for start in computed], maze["pass_rates"]) == []
    for start, gradient in zip(computed, maze["gradients"], strict=True):
        assert max(map(abs, gradient)) > 1e-6
        assert far(start["gradient"], gradient, scale=max(map(abs, gradient))) == []


def test_training_along_the_likelihood(visit, kept):
    assert far(ask(visit(), "training", kept["maze"]), kept["maze"]["training"]["pass_rates"]) == []


def test_sampled_estimates_have_the_exact_mean(visit, kept):
    """A right page fails with a chance below 1e-6 for each of the four estimators; the seed is fixed."""
    errors = ask(visit(), "sampling", kept["maze"])
    print("standard errors from the exact mean:", *(f"{error:.2f}" for error in errors))
    assert all(0 < abs(error) < 5 for error in errors)


def test_coverage_and_the_samples_that_it_needs(visit, kept):
    values, needed = ask(visit(), "coverage", kept["coverage"])
    assert far(chain(*values), list(chain(*kept["coverage"]["values"]))) == []
    for mine, wanted in zip(chain(*chain(*needed)), chain(*chain(*kept["coverage"]["needed"])), strict=True):
        assert mine == wanted if wanted is not None else mine > golden.MOST_SAMPLES
