"""Published tables: their definitions on raw rewards, enumeration in rational numbers, and what they tend to."""

import itertools
import math
import time
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl_lab import estimators, exact, objectives
from maxrl_lab.threads import one_thread

TENTH = Fraction(1, 10)


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def mean(values):
    return Fraction(sum(values), len(values))


def others(rewards, i):
    return [reward for j, reward in enumerate(rewards) if j != i]


def number(value):
    """A fraction to 30 digits."""
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else mpmath.mpf(value)


def deviation(values, ddof=0):
    """The standard deviation to 30 digits."""
    centre = sum(values) / Fraction(len(values))
    return mpmath.sqrt(number(sum((value - centre) ** 2 for value in values) / (len(values) - ddof)))


def power(base, exponent):
    return mpmath.power(number(base), exponent)


def share_without_success(rewards, size):
    """The share of the subsets of this size that hold no success."""
    subsets = list(itertools.combinations(rewards, size))
    return Fraction(sum(not any(subset) for subset in subsets), len(subsets))


def centred_pass_at_k(rewards, i, k):
    """A success counts k times the share of k-subsets of the others without success; failures share the same sum."""
    counts = [k * reward * share_without_success(others(rewards, j), k) for j, reward in enumerate(rewards)]
    failures = len(rewards) - sum(rewards)
    return counts[i] if rewards[i] else -sum(counts, Fraction(0)) / failures


def best_of_subsets(rewards, i, k, std):
    """Each k-subset is rewarded with its best; the mean advantage of the subsets that hold rollout i."""
    subsets = list(itertools.combinations(range(len(rewards)), k))
    best = [max(rewards[j] for j in subset) for subset in subsets]
    average = mean(best)
    advantage = mean([reward for reward, subset in zip(best, subsets, strict=True) if i in subset]) - average
    spread = deviation(best) if std else 1
    return number(advantage) / spread if spread else Fraction(0)


def standardised(rewards, i, centre):
    spread = deviation(rewards)
    return number(rewards[i] - centre) / spread if spread else Fraction(0)


def leave_one_out(rewards, i):
    rest = others(rewards, i)
    spread = deviation(rest, ddof=1) if len(rest) > 1 else 0
    return number(rewards[i] - mean(rest)) / (spread or 1)


def quantile(rewards, kappa):
    """The smallest reward that is at least as large as a share `kappa` of the rewards."""
    return sorted(rewards)[math.ceil(kappa * len(rewards)) - 1]


def mapo(rewards, i):
    q = mean(rewards)
    certainty = 1 - 4 * q * (1 - q)
    percent = (rewards[i] - q) / q if q else 0
    return number(1 - certainty) * number(standardised(rewards, i, q)) + number(certainty * percent)


def divided(rewards, i, s, t):
    q = mean(rewards)
    return number(rewards[i] - q) / (power(q, s) * power(1 - q, t)) if 0 < q < 1 else Fraction(0)


def risk_sensitive(rewards, i, beta):
    exponentials = [mpmath.exp(beta * reward) for reward in rewards]
    return (exponentials[i] / (sum(exponentials) / len(rewards)) - 1) / beta


DEFINITIONS = {
    "maxrl_centred:order=1": lambda r, i: centred_pass_at_k(r, i, 1),
    "maxrl_centred:order=2": lambda r, i: sum(centred_pass_at_k(r, i, k) / k for k in (1, 2)),
    "maxrl_centred:order=3": lambda r, i: sum(centred_pass_at_k(r, i, k) / k for k in (1, 2, 3)),
    "pkpo_centred:k=1": lambda r, i: centred_pass_at_k(r, i, 1),
    "pkpo_centred:k=3": lambda r, i: centred_pass_at_k(r, i, 3),
    "constant_baseline:value=0.3": lambda r, i: r[i] - 3 * TENTH,
    "psr": lambda r, i: r[i],
    "nsr": lambda r, i: r[i] - 1,
    "w_reinforce": lambda r, i: TENTH if r[i] else -1,
    "w_reinforce:weight=0.5": lambda r, i: Fraction(1, 2) if r[i] else -1,
    "reinforce_rej": lambda r, i: r[i] * (not all(r)),
    "reinforce_rej:two_sided=1": lambda r, i: (2 * r[i] - 1) * (0 < sum(r) < len(r)),
    "maclaurin:order=1": lambda r, i: r[i],
    "maclaurin:order=3": lambda r, i: 1 if r[i] else -sum(share_without_success(others(r, i), k) for k in (1, 2)),
    "passk_training:k=2,std=0": lambda r, i: best_of_subsets(r, i, 2, std=False),
    "passk_training:k=2": lambda r, i: best_of_subsets(r, i, 2, std=True),
    "passk_training:k=3": lambda r, i: best_of_subsets(r, i, 3, std=True),
    "grpo_leave_one_out": leave_one_out,
    "f_grpo": lambda r, i: number(standardised(r, i, mean(r))) * power(1 - mean(r), 1),
    "f_grpo:gamma=0.5": lambda r, i: number(standardised(r, i, mean(r))) * power(1 - mean(r), 0.5),
    "qae": lambda r, i: standardised(r, i, quantile(r, 4 * TENTH)),
    "qae:kappa=0.75": lambda r, i: standardised(r, i, quantile(r, Fraction(3, 4))),
    "mapo": mapo,
    "power:s=1,t=0": lambda r, i: divided(r, i, 1, 0),
    "power:s=1.5,t=0.5": lambda r, i: divided(r, i, 1.5, 0.5),
    "power:s=-1,t=1": lambda r, i: divided(r, i, -1, 1),
    "tsallis:q=0.5": lambda r, i: power(mean(r), -0.5) if r[i] else Fraction(0),
    "tsallis:q=1": lambda r, i: 1 / mean(r) if r[i] else Fraction(0),
    "rs_grpo:beta=2": lambda r, i: risk_sensitive(r, i, 2),
}
SMALLEST = {"pkpo_centred:k=3": 4, "maxrl_centred:order=3": 4, "maxrl_centred:order=2": 3, "maclaurin:order=3": 3}
SMALLEST |= {"passk_training:k=3": 3}
CASES = [(text, rollouts) for text in DEFINITIONS for rollouts in range(SMALLEST.get(text, 2), 7)]


def advantages_of(text, rollouts):
    """The advantages of every group of rewards, from the definition."""
    return {
        group: [DEFINITIONS[text](list(group), i) for i in range(rollouts)]
        for group in itertools.product([0, 1], repeat=rollouts)
    }


@pytest.mark.parametrize(("text", "rollouts"), CASES)
def test_every_group_has_the_advantages_of_the_definition(text, rollouts):
    with mpmath.workdps(30):
        groups = advantages_of(text, rollouts)
        expected = [[float(value) for value in advantages] for advantages in groups.values()]
    found = estimators.resolve(text)(double(list(groups)))
    torch.testing.assert_close(found, double(expected), rtol=1e-13, atol=1e-14)


def weight_by_enumeration(text, rollouts, p):
    """E[(1/N) sum A_i S_i] / grad p over all groups: with one logit, S = 1-p or -p and grad p = p (1-p)."""
    groups = advantages_of(text, rollouts)
    kind = number if any(isinstance(value, mpmath.mpf) for row in groups.values() for value in row) else Fraction
    total = kind(0)
    for group, advantages in groups.items():
        chance = p ** sum(group) * (1 - p) ** (rollouts - sum(group))
        scores = [1 - p if reward else -p for reward in group]
        total += kind(chance) * sum(kind(a) * kind(s) for a, s in zip(advantages, scores, strict=True))
    return total / kind(rollouts * p * (1 - p))


@pytest.mark.parametrize(("text", "rollouts"), CASES)
def test_the_weight_is_that_of_an_enumeration(text, rollouts):
    rates = [Fraction(1, 7), Fraction(1, 2), Fraction(8, 9)]
    with mpmath.workdps(30):
        expected = [float(weight_by_enumeration(text, rollouts, p)) for p in rates]
    found = exact.weight(text, rollouts=rollouts, pass_rate=[float(p) for p in rates])
    torch.testing.assert_close(found, double(expected), rtol=1e-12, atol=1e-13)


def order(t):
    return lambda p, n: sum((1 - p) ** (k - 1) for k in range(1, t + 1))


POLYNOMIALS = {
    "maxrl_centred:order=1": order(1),
    "maxrl_centred:order=2": order(2),
    "maxrl_centred:order=3": order(3),
    "pkpo_centred:k=1": lambda p, n: 1,
    "pkpo_centred:k=3": lambda p, n: 3 * (1 - p) ** 2,
    "constant_baseline:value=0.3": order(1),
    "psr": order(1),
    "nsr": order(1),
    "w_reinforce": lambda p, n: 11 * TENTH,
    "reinforce_rej": lambda p, n: 1 - p ** (n - 1),
    "reinforce_rej:two_sided=1": lambda p, n: 2 - p ** (n - 1) - (1 - p) ** (n - 1),
    "maclaurin:order=1": order(1),
    "maclaurin:order=3": order(3),
    "passk_training:k=2,std=0": lambda p, n: Fraction(n - 2, n) * (1 - p),
    "power:s=1,t=0": lambda p, n: order(n - 1)(p, n),
    "tsallis:q=1": lambda p, n: order(n)(p, n),
}


@pytest.mark.parametrize(("text", "rollouts"), [case for case in CASES if case[0] in POLYNOMIALS])
def test_what_is_said_to_be_unbiased_is_so_in_rational_numbers(text, rollouts):
    # N rates prove the equality of two polynomials of degree N-1
    with mpmath.workdps(30):
        for p in [Fraction(j + 1, rollouts + 1) for j in range(rollouts)]:
            found, expected = weight_by_enumeration(text, rollouts, p), POLYNOMIALS[text](p, rollouts)
            assert found == expected if isinstance(found, Fraction) else abs(found - number(expected)) < 1e-25


# w_8 at p = .01, .1, .3, .5, .9 to the digits that were written down when each source was read
WEIGHTS_OF_EIGHT = {
    "psr": "1 1 1 1 1",
    "nsr": "1 1 1 1 1",
    "w_reinforce": "1.1 1.1 1.1 1.1 1.1",
    "constant_baseline:value=0.3": "1 1 1 1 1",
    "reinforce_rej": "1 1 1 .992 .522",
    "passk_training:k=4,std=0": ".485 .365 .171 .063 .001",
    "passk_training:k=4": ".977 .789 .467 .230 .004",
    "pkpo_centred:k=4": "3.88 2.92 1.37 .5 .004",
    "rs_grpo:beta=2": "1.53 1.30 .94 .71 .46",
    "rs_grpo:beta=8": ".85 .65 .38 .25 .14",
    "power:s=0.5,t=0": "2.43 2.10 1.59 1.29 .98",
    "power:s=1.5,t=0.5": "20.4 14.6 7.35 4.29 2.90",
    "tsallis:q=0.5": "2.77 2.34 1.72 1.39 1.05",
    "mapo": "4.94 3.76 2.37 1.90 1.76",
    "f_grpo": "2.27 1.89 1.31 .93 .44",
    "qae": "2.98 2.61 1.99 1.52 2.57",
    "maclaurin:order=2": "1.99 1.90 1.70 1.50 1.10",
    "grpo_leave_one_out": "1.11 1.77 2.05 2.00 1.77",
}


@pytest.mark.parametrize("text", WEIGHTS_OF_EIGHT)
def test_weights_at_eight_rollouts(text):
    found = exact.weight(text, rollouts=8, pass_rate=[0.01, 0.1, 0.3, 0.5, 0.9]).tolist()
    for value, written in zip(found, WEIGHTS_OF_EIGHT[text].split(), strict=True):
        digits = len(written.partition(".")[2]) or 3
        assert abs(value - float(written)) < 0.75 * 10**-digits, (value, written)


@pytest.mark.parametrize(
    ("text", "objective", "scale"),
    [
        ("power:s=0.5,t=0", "power:s=0.5,t=0", 1),
        ("power:s=1.5,t=0.5", "power:s=1.5,t=0.5", 1),
        ("f_grpo:gamma=2", "power:s=0.5,t=-1.5", 1),
        ("tsallis:q=0.5", "tsallis:q=0.5", 1),
        ("rs_grpo:beta=3", "tilted:beta=3", 1),
        ("passk_training:k=4", "arcsine_pass_at_k:k=4", 4),
        ("passk_training:k=1", "grpo_limit", 1),
    ],
)
def test_the_limit_for_many_rollouts(text, objective, scale):
    """The distance falls like 1/N: by 16 from N = 256 to 4096."""
    p = double([0.2, 0.5, 0.7])
    target = objectives.resolve(objective).weight(p)
    near, far = (
        (scale * exact.weight(text, rollouts=rollouts, pass_rate=p) / target - 1).abs().max()
        for rollouts in (256, 4096)
    )
    assert far < 5e-3
    assert 10 < near / far < 25


@pytest.mark.parametrize("rollouts", [2, 3, 8, 33])
def test_rs_grpo_is_a_bridge_from_mean_centred_to_algorithm_1(rollouts):
    for text, scale, end in (("rs_grpo:beta=1e-9", 1, "mean_centred"), ("rs_grpo:beta=699", 699, "maxrl")):
        for found, expected in zip(
            estimators.resolve(text).coefficients(rollouts), estimators.make(end).coefficients(rollouts), strict=True
        ):
            torch.testing.assert_close(scale * found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rollouts", [2, 5, 16])
def test_members_of_families_that_have_a_name(rollouts):
    same = {
        "power:s=0,t=0": "mean_centred",
        "power:s=0.5,t=0.5": "grpo",
        "power:s=1,t=0": "maxrl",
        "tsallis:q=0": "reinforce",
        "tsallis:q=1": "maxrl_no_baseline",
        "psr": "reinforce",
        "constant_baseline:value=0": "reinforce",
        "constant_baseline:value=1": "nsr",
        "w_reinforce:weight=0": "nsr",
        "f_grpo:gamma=0": "grpo",
        "passk_training:k=1": "grpo",
        "passk_training:k=1,std=0": "mean_centred",
        "maclaurin:order=1": "reinforce",
        "maxrl_centred:order=1": "rloo",
        "maxrl_centred:order=N-1": "maxrl",
        "pkpo_centred:k=1": "rloo",
    }
    for text, name in same.items():
        found = estimators.resolve(text, rollouts).coefficients(rollouts)
        for column, expected in zip(found, estimators.make(name).coefficients(rollouts), strict=True):
            torch.testing.assert_close(column, expected, rtol=1e-12, atol=1e-14)


def test_at_two_rollouts_leave_one_out_grpo_is_rloo():
    for found, expected in zip(
        estimators.make("grpo_leave_one_out").coefficients(2), estimators.make("rloo").coefficients(2), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("kappa", "hardest_easy"), [(0.4, 7), (0.9, 2), (0.1, 10), (0.5, 6)])
def test_the_quantile_of_qae_is_a_matter_of_whole_rollouts(kappa, hardest_easy):
    """With ten rollouts, failures count from 10 (1 - kappa) + 1 successes on, although 1 - 0.9 is no 0.1."""
    success, failure = estimators.make("qae", kappa=kappa).coefficients(10)
    assert [k for k in range(1, 10) if success[k] > 0] == list(range(1, min(hardest_easy, 10)))
    assert [k for k in range(1, 10) if failure[k] < 0] == list(range(hardest_easy, 10))


# Zero-sum tables

FRACTIONS = st.integers(-20, 20).map(Fraction)


@settings(max_examples=100)
@given(bernstein=st.lists(FRACTIONS, min_size=2, max_size=12))
def test_a_zero_sum_table_has_the_coefficients_that_were_asked_for(bernstein):
    rollouts = len(bernstein)
    success, failure, gap = estimators.zero_sum(bernstein)
    assert all(k * success[k] + (rollouts - k) * failure[k] == 0 for k in range(1, rollouts))
    assert success[0] == success[rollouts] == failure[0] == failure[rollouts] == 0
    found = [success[j + 1] - failure[j] for j in range(rollouts)]
    middle = (rollouts - 1) // 2
    assert [found[j] - gap * (j == middle) for j in range(rollouts)] == bernstein
    alternating = sum((-1) ** j * math.comb(rollouts - 1, j) * beta for j, beta in enumerate(bernstein))
    assert math.comb(rollouts - 1, middle) * abs(gap) == abs(alternating)


@settings(max_examples=60)
@given(weight=st.lists(FRACTIONS, min_size=1, max_size=8), spare=st.integers(1, 4))
def test_there_is_one_for_every_weight_of_degree_n_minus_2(weight, spare):
    """`weight` are the coefficients of (1-p)^(k-1); C(N-1-J, k-1) / C(N-1, k-1) are its Bernstein coefficients."""
    rollouts = len(weight) + spare
    bernstein = [
        sum(c * Fraction(math.comb(rollouts - 1 - j, k), math.comb(rollouts - 1, k)) for k, c in enumerate(weight))
        for j in range(rollouts)
    ]
    assert estimators.zero_sum(bernstein)[2] == 0


ZERO_SUM = [
    *("mean_centred", "rloo", "grpo", "maxrl", "mapo", "f_grpo", "rs_grpo:beta=2", "power:s=0.7,t=0.2"),
    *("passk_training:k=2", "maxrl_centred:order=N/2", "pkpo_centred:k=N/2"),
]


@pytest.mark.parametrize("rollouts", [2, 4, 10, 64])
@pytest.mark.parametrize("text", ZERO_SUM)
def test_a_table_that_sums_to_zero_is_the_only_one_with_its_mean(text, rollouts):
    success, failure = estimators.resolve(text, rollouts).coefficients(rollouts)
    counts = torch.arange(rollouts + 1)
    torch.testing.assert_close(counts * success, (counts - rollouts) * failure, rtol=1e-12, atol=1e-12)
    again, other, gap = estimators.zero_sum((success[1:] - failure[:-1]).tolist())
    torch.testing.assert_close(double(again), success, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(double(other), failure, rtol=1e-12, atol=1e-13)
    assert abs(gap) < 1e-13


@pytest.mark.parametrize("text", ["maxrl_centred:order=N/4", "maxrl_centred:order=N/2", "pkpo_centred:k=N/4"])
def test_floats_are_as_good_as_fractions_at_four_thousand_rollouts(text):
    rollouts = 4096
    success, failure = estimators.resolve(text, rollouts).coefficients(rollouts)
    again, other, _ = estimators.zero_sum((success[1:] - failure[:-1]).tolist())
    torch.testing.assert_close(double(again), success, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(double(other), failure, rtol=1e-12, atol=1e-13)
    size = rollouts // (2 if text.endswith("2") else 4)
    for k in (1, 2, 7, 100):
        miss = Fraction(math.comb(rollouts - 1 - size, k), math.comb(rollouts - 1, k))
        wanted = (
            Fraction(rollouts - k, k) * (1 - miss)
            if text.startswith("maxrl")
            else size * Fraction(math.comb(rollouts - 1 - size, k - 1), math.comb(rollouts - 1, k - 1))
        )
        assert float(success[k]) == pytest.approx(float(wanted), rel=1e-11, abs=1e-300)


def test_the_table_of_five_rollouts_by_hand():
    """Order 2: a(1) = beta_0 = 2; b(1) = -a(1)/4; a(2) = beta_1 + b(1) = 7/4 - 1/2; and so on to a(5) = 0."""
    success, failure = estimators.make("maxrl_centred", order=2).coefficients(5)
    torch.testing.assert_close(success, double([0, 2, 5 / 4, 2 / 3, 1 / 4, 0]))
    torch.testing.assert_close(failure, double([0, -1 / 2, -5 / 6, -1, -1, 0]))
    success, failure = estimators.make("maxrl_centred", order=3).coefficients(5)
    torch.testing.assert_close(success, double([0, 3, 3 / 2, 2 / 3, 1 / 4, 0]))
    torch.testing.assert_close(failure, double([0, -3 / 4, -1, -1, -1, 0]))


def test_one_rollout_has_no_zero_sum_table(refuses):
    with refuses("a zero-sum table needs at least 2 rollouts in a group, got N = 1"):
        estimators.zero_sum([1.0])


@pytest.mark.parametrize("text", ["maxrl_centred:order=N/4", "pkpo_centred:k=N/2", "maclaurin:order=N", "mapo"])
def test_a_thousand_pass_rates_at_a_thousand_rollouts_take_well_under_a_second(text):
    """Of processor time, which does not depend on what else the machine does; a tenth of it is usual."""
    p = torch.linspace(0, 1, 1000, dtype=torch.float64)
    with one_thread():  # several would count the time that they wait for each other
        start = time.process_time()
        exact.weight(text, rollouts=1024, pass_rate=p)
        assert time.process_time() - start < 0.7


# Bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maxrl_centred:order=4", "maxrl_centred of order 4 needs at least 5 rollouts in a group, got N = 4"),
        ("pkpo_centred:k=4", "pkpo_centred with k=4 needs at least 5 rollouts in a group, got N = 4"),
        ("maclaurin:order=5", "maclaurin of order 5 needs at least 5 rollouts in a group, got N = 4"),
        ("passk_training:k=5", "passk_training with k=5 needs at least 5 rollouts in a group, got N = 4"),
    ],
)
def test_groups_that_are_too_small_are_refused(refuses, text, message):
    with refuses(message):
        estimators.resolve(text).coefficients(4)


def test_leave_one_out_needs_others(refuses):
    with refuses("grpo_leave_one_out needs at least 2 rollouts in a group, got N = 1"):
        estimators.make("grpo_leave_one_out").coefficients(1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w_reinforce:weight=-1", "weight must be finite and not negative, got -1"),
        ("constant_baseline:value=inf", "value must be finite, got inf"),
        ("reinforce_rej:two_sided=2", "two_sided must be at most 1, got 2"),
        ("passk_training:k=2,std=2", "std must be at most 1, got 2"),
        ("rs_grpo:beta=0", "beta must lie in (0, 700), got 0"),
        ("rs_grpo:beta=1000", "beta must lie in (0, 700), got 1000"),
        ("power:s=nan,t=0", "s must be finite, got nan"),
        ("tsallis:q=-1", "q must be finite and not negative, got -1"),
        ("f_grpo:gamma=-1", "gamma must be finite and not negative, got -1"),
        ("qae:kappa=1", "kappa must lie in (0, 1), got 1"),
        ("maxrl_centred:order=0", "order must be a whole number >= 1, got 0"),
        ("maclaurin:order=0", "order must be a whole number >= 1, got 0"),
        ("pkpo_centred:k=0", "k must be a whole number >= 1, got 0"),
        ("power:s=1", "estimator 'power' needs the option 't', as in 'power:t=4'"),
    ],
)
def test_options_out_of_range_are_refused(refuses, text, message):
    with refuses(message):
        estimators.resolve(text)
