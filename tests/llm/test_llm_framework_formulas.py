"""The formulas of thirteen frameworks against tables worked out by hand, enumeration, and the committed document."""

import itertools
from fractions import Fraction
from functools import partial
from math import comb, sqrt
from pathlib import Path

import pytest
import torch

from maxrl_lab import audit
from maxrl_lab.llm.frameworks import edges, formulas, official, read_table, with_maxrl, without_maxrl
from maxrl_lab.llm.frameworks.readings import READINGS

COMMITTED = Path(read_table.__file__).with_name("FRAMEWORKS.md").read_text()
ROLLOUTS = (2, 4, 8)

# Each table is (a(K), b(K)) as it follows from the definition in words; K is 1..N-1, where both are defined.


def reinforce(n, k):
    return 1, 0


def centred(n, k):
    return Fraction(n - k, n), -Fraction(k, n)


def rloo(n, k):
    """The others' mean is (K-1)/(N-1) for a success and K/(N-1) for a failure."""
    return Fraction(n - k, n - 1), -Fraction(k, n - 1)


def algorithm_1(n, k):
    return Fraction(n - k, k), -1


def divided(table, deviation):
    """Return a table divided by the standard deviation, whose square is K(N-K)/(N(N-1)) or K(N-K)/N^2."""
    return lambda n, k: tuple(float(value) / sqrt(deviation(n, k)) for value in table(n, k))


def sample(n, k):
    return k * (n - k) / (n * (n - 1))


def population(n, k):
    return k * (n - k) / n**2


grpo, grpo_population = divided(centred, sample), divided(centred, population)


def by_others(n, k):
    """The others of a success are K-1 right of N-1, those of a failure K; a deviation of 0 divides nothing."""
    both = []
    for value, right in zip(rloo(n, k), (k - 1, k), strict=True):
        variance = sample(n - 1, right) if n > 2 else 0
        both.append(float(value) / sqrt(variance) if variance else float(value))
    return tuple(both)


def over(divisor, table):
    """Return a table divided by N (`divisor` 1) and so on."""
    return lambda n, k: tuple(float(value) / (n * divisor) for value in table(n, k))


def maclaurin_2(n, k):
    """Order 2: a wrong rollout pays for the share of wrong ones among the others."""
    return Fraction(1, n), -Fraction(n - k - 1, n * (n - 1))


def maclaurin_baseline_2(n, k):
    """Of N-over-2 pairs less one, F-over-2 are wrong; a single pair (N = 2) has no baseline."""
    wrong = n - k
    share = Fraction(comb(wrong, 2), comb(n, 2) - 1) if n > 2 else 0
    return Fraction(1, n) + share / n, share * (Fraction(1, n) - Fraction(1, wrong))


def cross_fitted_2(n, k):
    """A wrong pair pays 1/2 a rollout less the share of wrong pairs among the other N-2; no baseline at N = 2."""
    pairs, rest, wrong = 2 * comb(n, 2), comb(n - 2, 2), n - k
    success, failure = Fraction(1, n), -Fraction(wrong - 1, pairs)
    if rest:
        success += Fraction((k - 1) * comb(wrong, 2) + wrong * comb(wrong - 1, 2), pairs * rest)
        failure += Fraction(
            k * comb(wrong - 1, 2) + (wrong - 1) * (comb(wrong - 2, 2) if wrong > 1 else 0), pairs * rest
        )
    return success, failure


def subset_2(n, k):
    """Of the pairs with a success, those with a wrong rollout give it 1, those with another success 1/2."""
    return (n - k + Fraction(k - 1, 2)) / comb(n, 2) - Fraction(1, n), -Fraction(1, n)


def pkpo_2(n, k):
    """A success is worth (N-K)/(N-1), the share of pairs that it alone solves; less the others' mean of that."""
    worth = Fraction(n - k, n - 1)
    return worth - worth * Fraction(k - 1, n - 1), -worth * Fraction(k, n - 1)


TABLES = {
    "SkyRL": [grpo, centred, rloo, algorithm_1, grpo],
    "prime-rl": [centred, algorithm_1],
    "rlhf-book": [grpo, centred, rloo, algorithm_1],
    "MaxRL, official": [
        algorithm_1,
        grpo_population,
        divided(algorithm_1, population),
        algorithm_1,
        lambda n, k: (Fraction(n, k), 0),
        over(1, algorithm_1),
        maclaurin_2,
        maclaurin_baseline_2,
        cross_fitted_2,
        subset_2,
        pkpo_2,
        over(1, algorithm_1),
        grpo,
        lambda n, k: tuple(float(value) / sqrt(k / n) for value in centred(n, k)),
    ],
    "rllm": [grpo_population, centred, rloo, reinforce, grpo_population, grpo_population],
    "NeMo-RL": [by_others, rloo, grpo, grpo_population],
    "OpenRLHF": [grpo, centred, rloo, grpo_population, grpo_population],
    "slime": [grpo, centred, grpo],
    "tinker-cookbook": [centred],
    "open-instruct": [centred, grpo_population],
    "AReaL": [reinforce, grpo, centred, rloo, grpo],
    "ms-swift": [grpo, centred, grpo, rloo, grpo],
    "nanochat": [centred],
}
"""By framework the tables of its methods in a batch of one prompt, in the order of `readings`."""
CASES = [
    pytest.param(method, table, id=f"{reading.framework}: {method.name}")
    for reading in READINGS
    for method, table in zip(reading.methods, TABLES[reading.framework], strict=True)
]


def group(count, successes):
    return (torch.arange(count) < successes).double()


@pytest.mark.parametrize(("method", "table"), CASES)
def test_the_table_is_the_one_worked_out_by_hand(method, table):
    """A guard of 1e-4 under a deviation of at least 1/4 changes a table by less than 5e-4, relatively."""
    for count in ROLLOUTS:
        for successes in range(1, count):
            (advantages,) = method.formula([group(count, successes)], count)
            success, failure = (float(value) for value in table(count, successes))
            expected = torch.tensor([success] * successes + [failure] * (count - successes), dtype=torch.float64)
            torch.testing.assert_close(advantages, expected, rtol=5e-4, atol=1e-9)


def test_the_hand_worked_tables_in_numbers():
    """N = 4, K = 1, 2, 3: written out, so that a formula above cannot be wrong together with the code."""
    shown = {
        centred: [(3 / 4, -1 / 4), (1 / 2, -1 / 2), (1 / 4, -3 / 4)],
        rloo: [(1, -1 / 3), (2 / 3, -2 / 3), (1 / 3, -1)],
        algorithm_1: [(3, -1), (1, -1), (1 / 3, -1)],
        grpo: [(1.5, -0.5), (sqrt(3) / 2, -sqrt(3) / 2), (0.5, -1.5)],  # deviations 1/2, 1/sqrt(3), 1/2
        grpo_population: [(sqrt(3), -1 / sqrt(3)), (1, -1), (1 / sqrt(3), -sqrt(3))],  # sqrt(3)/4, 1/2, sqrt(3)/4
        by_others: [(1, -1 / sqrt(3)), (2 / sqrt(3), -2 / sqrt(3)), (1 / sqrt(3), -1)],  # 0 or 1/sqrt(3)
        maclaurin_2: [(1 / 4, -1 / 6), (1 / 4, -1 / 12), (1 / 4, 0)],
        maclaurin_baseline_2: [(1 / 4 + 3 / 20, -1 / 20), (1 / 4 + 1 / 20, -1 / 20), (1 / 4, 0)],
        cross_fitted_2: [(1 / 4 + 3 / 12, -2 / 12 + 1 / 12), (1 / 4 + 1 / 12, -1 / 12), (1 / 4, 0)],
        subset_2: [(1 / 4, -1 / 4), (1 / 6, -1 / 4), (1 / 12, -1 / 4)],
        pkpo_2: [(1, -1 / 3), (4 / 9, -4 / 9), (1 / 9, -1 / 3)],
    }
    for table, values in shown.items():
        for successes, expected in zip((1, 2, 3), values, strict=True):
            assert [float(value) for value in table(4, successes)] == pytest.approx(expected), (table, successes)


def enumerated_weight(formula, count, p):
    """Return w_N(p) = E[(1/N) sum A_i S_i] / (p(1-p)) over all 2^N groups, for a policy of one logit: S_i = r_i - p."""
    weight = 0.0
    for rewards in itertools.product((0.0, 1.0), repeat=count):
        (advantages,) = formula([torch.tensor(rewards, dtype=torch.float64)], count)
        chance = p ** sum(rewards) * (1 - p) ** (count - sum(rewards))
        weight += chance * float((advantages * (torch.tensor(rewards) - p)).mean())
    return weight / (p * (1 - p))


@pytest.mark.parametrize("method", [case.values[0] for case in CASES], ids=[case.id for case in CASES])
def test_a_cell_says_what_enumeration_gives(method):
    """`RL x 0.75` is the weight 0.75, `order 3 x 0.5` is half of 1 + (1-p) + (1-p)^2; `~` says how far off at most."""
    for count in ROLLOUTS:
        function = partial(edges.audited, method.formula)
        cell = read_table.objective(audit.audit(function, rollouts=count, batched=False))
        if cell.startswith("~"):
            continue
        name, _, scale = cell.partition(" x ")
        order = 1 if name == "RL" else int(name.removeprefix("order "))
        for p in (0.1, 0.5, 0.9):
            expected = float(scale or 1) * sum((1 - p) ** k for k in range(order))
            assert enumerated_weight(method.formula, count, p) == pytest.approx(expected, rel=2e-3), (cell, p)


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("rule", [official.maclaurin, official.cross_fitted_maclaurin, official.oversample_subset])
def test_the_official_series_are_of_their_order(rule, order):
    """Any order up to N; the code is compared at order 2 above."""
    p, formula = 0.3, formulas.by_mean_size(rule(order))
    expected = sum((1 - p) ** k for k in range(order)) / 8
    assert enumerated_weight(formula, 8, p) == pytest.approx(expected)


def test_a_single_pair_has_no_baseline():
    """N = 2 and order 2: both wrong pay 1/2, as the series says, and nothing is there to subtract."""
    (advantages,) = formulas.by_mean_size(official.maclaurin_baseline(2))([group(2, 0)], 2)
    assert advantages.tolist() == [-0.5, -0.5]


def test_every_others_deviation_of_nearly_constant_rewards_explodes():
    """Others of 0.001 and six zeros have the deviation 0.001/sqrt(7): the success gets sqrt(7)/0.001, nearly."""
    (leave_one_out, *_) = without_maxrl.NEMO_RL.methods
    (advantages,) = leave_one_out.formula([torch.tensor([1, 0.001, *[0.0] * 6], dtype=torch.float64)], 8)
    assert float(advantages[0]) == pytest.approx(sqrt(7) / 0.001, rel=0.003)


EDGES = {
    "SkyRL: maxrl": ("1 / 0", "0", "own n"),
    "prime-rl: max_rl": ("0", "0", "own n"),
    "MaxRL, official: maxrl": ("1e+06 / 0", "0", "own n"),
    "MaxRL, official: vr_cond": ("0 / -1", "-0.125 / 0", "refuses, or mixes"),
    "MaxRL, official: clipped_pnorm": ("8 / 0", "0", "mixes"),
    "MaxRL, official: pkpo, pass_k=2": ("nan", "0", "refuses, or mixes"),
    "rlhf-book: rloo": ("refuses", "0", "own n"),
    "rllm: reinforce": ("1 / 0", "0 / 1", "own n"),
    "OpenRLHF: group_norm": ("refuses", "0", "refuses, or mixes"),
    "slime: grpo (default), gspo, cispo": ("0", "0", "mixes"),
    "AReaL: reward_norm: group mean, group std": ("0", "0", "explodes, or mixes"),
    "MaxRL, official: one_sided_grpo, its function": ("refuses", "0", "refuses"),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_of_a_group(name):
    (formula,) = [case.values[0].formula for case in CASES if case.id == name]
    assert (edges.single(formula), edges.constant(formula), edges.ragged(formula)) == EDGES[name]


def test_slime_takes_a_batch_that_lost_a_rollout_as_one_group():
    """3 of 7 right: mean 3/7; the first prompt alone would have the mean 1/4."""
    (_, centred_method, _) = without_maxrl.SLIME.methods
    first, second = centred_method.formula([group(4, 1), group(3, 2)], 4)
    torch.testing.assert_close(first, group(4, 1) - 3 / 7)
    torch.testing.assert_close(second, group(3, 2) - 3 / 7)


def test_areal_divides_what_is_left_after_the_last_slice_by_its_guard():
    method = without_maxrl.AREAL.methods[1]
    first, second = method.formula([group(4, 1), group(3, 2)], 4)
    torch.testing.assert_close(first, (group(4, 1) - 1 / 4) / 0.50001)
    torch.testing.assert_close(second, torch.tensor([1e5, 1e5, 0], dtype=torch.float64))


def test_rows_of_n_take_the_rollouts_of_the_next_prompt():
    """3, 3 and 2 of 4 came back: the first row of 4 has the second prompt's first rollout."""
    first, *_ = formulas.by_position(formulas.centred)([group(3, 1), group(3, 3), group(2, 0)], 4)
    torch.testing.assert_close(first, group(3, 1) - 1 / 2)
    with pytest.raises(RuntimeError):
        formulas.by_position(formulas.centred)([group(4, 1), group(3, 1)], 4)


def test_whitening_sees_the_other_prompts():
    """4 of 8 right in the batch: the deviation of all advantages, not of a group."""
    formula = formulas.over_batch(formulas.by_prompt(formulas.centred), ddof=0, guard=0.0)
    first, second = formula([group(4, 1), group(4, 3)], 4)
    torch.testing.assert_close(first, (group(4, 1) - 1 / 4) / sqrt(3 / 16))
    torch.testing.assert_close(second, (group(4, 3) - 3 / 4) / sqrt(3 / 16))
    scaled = formulas.over_reward_deviation(formulas.centred, guard=0.0)([group(4, 1), group(4, 3)], 4)[0]
    torch.testing.assert_close(scaled, (group(4, 1) - 1 / 4) / sqrt(2 / 7))


def test_orders():
    """N and N-1 are told from a number, and a mixture is none."""
    estimators = {"maxrl": "N-1", "maxrl_no_baseline": "N", "rloo": "1", "maxrl_order:order=2": "2", "grpo": "-"}
    for name, order in estimators.items():
        assert read_table.order([audit.audit(name, rollouts=count) for count in ROLLOUTS]) == order


def test_what_the_audit_says_beside_the_objective():
    """(r - mean) / deviation / mean is steeper than likelihood in the limit; a table's factor is shown."""
    report = audit.audit(partial(edges.audited, with_maxrl.OFFICIAL.methods[2].formula), rollouts=8)
    assert (read_table.limit(report), read_table.in_the_lab(report)) == ("power:s=1.5,t=0.5", "-")
    report = audit.audit(partial(edges.audited, with_maxrl.OFFICIAL.methods[5].formula), rollouts=8)
    assert (read_table.limit(report), read_table.in_the_lab(report)) == ("ML", "maxrl_control_variate x 0.125")


def test_what_the_official_trainer_never_calls_is_another_function():
    as_called, of_that_name = with_maxrl.OFFICIAL.methods[-2:]
    assert [method.name.partition(",")[0] for method in (as_called, of_that_name)] == ["one_sided_grpo"] * 2
    assert not torch.allclose(*(method.formula([group(4, 2)], 4)[0] for method in (as_called, of_that_name)))


def test_the_committed_tables_are_current():
    _, _, second = COMMITTED.partition(read_table.TITLE)
    assert read_table.TITLE + second == read_table.document()


def test_no_cell_breaks_the_table():
    lines = [
        *read_table.sources(),
        *([reading.framework, *vars(method).values()] for reading in READINGS for method in reading.methods),
    ]
    assert not [cell for line in lines for cell in line if isinstance(cell, str) and ("|" in cell or "\n" in cell)]
