"""The inner problem: against vertices of the box, a grid, a general solver, and its two forms against each other."""

import math
from itertools import permutations

import pytest
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.exploration.chances import Inner, bisect, check_box, check_penalty, divergence, newton, water_fill


def random_boxes(count, width, seed=0):
    """Values, low, high and nominal (count, width), the nominal distribution within the box."""
    random = torch.Generator().manual_seed(seed)
    values, nominal, below, above = (torch.rand(count, width, generator=random, dtype=torch.float64) for _ in range(4))
    nominal = nominal / nominal.sum(-1, keepdim=True)
    return values, nominal * below, nominal + (1 - nominal) * above, nominal


def vertices(low, high):
    """All greedy fillings of one box: the optimum of a linear programme is one of them."""
    for order in permutations(range(len(low))):
        chances, rest = low.clone(), 1 - low.sum()
        for column in order:
            poured = min(rest, high[column] - low[column])
            chances[column] += poured
            rest = rest - poured
        yield chances


def test_water_filling_is_the_best_vertex():
    values, low, high, _ = random_boxes(50, 4)
    chances = water_fill(values, low, high)
    assert chances.sum(-1).tolist() == pytest.approx([1.0] * 50, abs=1e-12)
    assert bool(((chances >= low - 1e-12) & (chances <= high + 1e-12)).all())
    for row in range(50):
        best = max(float(vertex @ values[row]) for vertex in vertices(low[row], high[row]))
        assert float(chances[row] @ values[row]) == pytest.approx(best, abs=1e-12)


def test_the_worst_distribution_is_the_best_of_minus_the_values():
    values, low, high, _ = random_boxes(20, 3, seed=1)
    worst = -Inner(low, high).best(-values)
    for row in range(20):
        least = min(float(vertex @ values[row]) for vertex in vertices(low[row], high[row]))
        assert float(worst[row]) == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("penalty", [0.05, 0.3, 2.0])
def test_bisection_is_not_beaten_by_any_distribution_of_a_grid(penalty):
    values, low, high, nominal = random_boxes(20, 3, seed=2)
    made = Inner(low, high, nominal, torch.full((20,), penalty, dtype=torch.float64)).best(values)
    steps = torch.linspace(0, 1, 201, dtype=torch.float64)
    first, second = torch.meshgrid(steps, steps, indexing="ij")
    grid = torch.stack([first, second, 1 - first - second], -1).flatten(0, 1)
    grid = grid[grid[:, 2] >= 0]
    for row in range(20):
        inside = grid[((grid >= low[row] - 1e-12) & (grid <= high[row] + 1e-12)).all(-1)]
        scores = inside @ values[row] - penalty * divergence(nominal[row].expand_as(inside), inside)
        assert float(scores.max()) <= float(made[row]) + 1e-12
        assert float(scores.max()) >= float(made[row]) - 0.02, "the grid comes near, so the comparison says something"


def test_without_limits_the_solution_fulfils_the_conditions_of_optimality():
    """V_i + lambda nominal_i / p_i is the same for all i, where all nominal chances are positive."""
    values, _, _, nominal = random_boxes(30, 5, seed=3)
    penalty = torch.full((30,), 0.7, dtype=torch.float64)
    zeros, ones = torch.zeros_like(values), torch.ones_like(values)
    chances = bisect(values, zeros, ones, nominal, penalty)
    slope = values + penalty[:, None] * nominal / chances
    assert float((slope.amax(-1) - slope.amin(-1)).max()) < 1e-9
    assert float((chances.sum(-1) - 1).abs().max()) < 1e-12


def test_bisection_nears_water_filling_as_the_penalty_vanishes():
    """The shortfall is at most lambda KL(nominal || best vertex), which is finite as all limits are positive."""
    values, low, high, nominal = random_boxes(40, 4, seed=4)
    linear = water_fill(values, low, high)
    filled = (linear * values).sum(-1)
    room = divergence(nominal, linear)
    for penalty in (1e-1, 1e-3, 1e-6, 1e-9, 1e-12):
        made = Inner(low, high, nominal, torch.full((40,), penalty, dtype=torch.float64)).best(values)
        assert bool((made <= filled + 1e-12).all())
        assert bool((made >= filled - penalty * room - 1e-12).all()), penalty
    chances = bisect(values, low, high, nominal, torch.full((40,), 1e-12, dtype=torch.float64))
    assert float((chances - linear).abs().max()) < 1e-6


@pytest.mark.parametrize("penalty", [0.01, 0.1, 1.0, 30.0])
def test_newtons_method_finds_what_bisection_finds(penalty):
    """Also where some columns are closed, some were never seen, and the best of all is among these."""
    values, _, _, nominal = random_boxes(300, 4, seed=6)
    random = torch.Generator().manual_seed(7)
    is_open = torch.rand(300, 4, generator=random) < 0.8
    is_open[:, 0] = True
    seen = is_open & (torch.rand(300, 4, generator=random) < 0.6)
    seen[:, 0] = True
    nominal = torch.where(seen, nominal, 0.0)
    nominal = nominal / nominal.sum(-1, keepdim=True)
    scale = torch.full((300,), penalty, dtype=torch.float64)
    fast = newton(values, is_open, nominal, scale)
    slow = bisect(values, torch.zeros_like(values), is_open.double(), nominal, scale)
    assert float((fast.sum(-1) - 1).abs().max()) < 1e-12
    scores = [(chances * values).sum(-1) - scale * divergence(nominal, chances) for chances in (fast, slow)]
    assert float((scores[0] - scores[1]).abs().max()) < 1e-9
    assert float((fast - slow).abs().max()) < 1e-6


def test_mass_goes_to_what_was_never_seen_only_if_it_pays():
    """Values 0 and 1, only 0 was seen: V = max_e e + lambda log(1-e), which is 1 - lambda + lambda log(lambda)."""
    values = torch.tensor([[0.0, 1.0]] * 4, dtype=torch.float64)
    nominal = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    penalty = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64)
    made = Inner(torch.zeros(4, 2), torch.ones(4, 2), nominal, penalty).best(values)
    expected = torch.where(penalty < 1, 1 - penalty + torch.xlogy(penalty, penalty), 0.0)
    assert made.tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_an_infinite_penalty_trusts_and_none_hopes():
    values = torch.tensor([[0.2, 0.9, 0.4]] * 2, dtype=torch.float64)
    nominal = torch.tensor([[0.5, 0.0, 0.5]] * 2, dtype=torch.float64)
    inner = Inner(torch.zeros(2, 3), torch.ones(2, 3), nominal, torch.tensor([torch.inf, 0.0]))
    assert inner.best(values).tolist() == pytest.approx([0.3, 0.9], abs=1e-12)
    assert inner.chances(values)[0].tolist() == pytest.approx([0.5, 0.0, 0.5], abs=1e-12)


def test_infinite_trust_within_limits_takes_the_nearest_distribution():
    """nominal (1, 0) is not allowed where the second column needs 0.25."""
    low, high = torch.tensor([[0.0, 0.25]]), torch.tensor([[1.0, 1.0]])
    inner = Inner(low, high, torch.tensor([[1.0, 0.0]]), torch.tensor([torch.inf]))
    assert inner.chances(torch.tensor([[1.0, 0.0]]))[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-9)


def test_the_least_divergence_within_the_box_is_no_price():
    """Observed (0, 1/2, 1/2), the first has 0.3 at least: the nearest is (0.3, 0.35, 0.35), at log(0.5 / 0.35) nats.

    Where all values are alike nothing is to be gained, and nothing may be paid, however large the penalty.
    """
    low = torch.tensor([[0.3, 0.0, 0.0]], dtype=torch.float64)
    nominal = torch.tensor([[0.0, 0.5, 0.5]], dtype=torch.float64)
    inner = Inner(low, torch.ones_like(low), nominal, torch.tensor([100.0], dtype=torch.float64))
    assert float(inner.floor) == pytest.approx(math.log(0.5 / 0.35), abs=1e-9)
    assert float(inner.best(torch.full((1, 3), 0.6, dtype=torch.float64))) == pytest.approx(0.6, abs=1e-9)
    inside = Inner(torch.zeros_like(low), torch.ones_like(low), nominal, torch.tensor([2.0]))
    assert float(inside.floor) == 0


def test_coarse_bisection_is_off_by_less_than_a_millionth():
    values, low, high, nominal = random_boxes(200, 4, seed=5)
    for penalty in (0.1, 1.0, 10.0):
        scale = torch.full((200,), penalty, dtype=torch.float64)
        fine, coarse = (Inner(low, high, nominal, scale, iterations=count).best(values) for count in (60, 16))
        assert float((fine - coarse).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0.6, 0.6], [1.0, 1.0], "contains no distribution: its lower limits sum to 1.2 and its upper limits to 2"),
        ([0.0, 0.0], [0.4, 0.4], "contains no distribution: its lower limits sum to 0 and its upper limits to 0.8"),
        ([0.5, 0.0], [0.4, 1.0], "0 <= low <= high <= 1, got 0.5 and 0.4"),
        ([-0.1, 0.0], [1.0, 1.0], "0 <= low <= high <= 1, got -0.1 and 1"),
        ([0.0], [1.0, 1.0], "the same shape"),
    ],
)
def test_boxes_that_hold_nothing_are_refused(low, high, message):
    with pytest.raises(InputError, match=message):
        check_box(torch.tensor(low), torch.tensor(high))


@pytest.mark.parametrize("penalty", [-0.5, float("nan")])
def test_penalties_below_0_are_refused(penalty):
    with pytest.raises(InputError, match="a penalty must be >= 0, got"):
        check_penalty(torch.tensor([1.0, penalty]))
    with pytest.raises(InputError, match="a penalty must be >= 0, got"):
        Inner(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[0.5, 0.5]]), torch.tensor([penalty]))
