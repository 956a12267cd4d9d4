"""Estimates over seeds and within seeds, against numbers worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from experiments import _claims
from maxrl_lab.errors import InputError

ROWS = pd.DataFrame(
    [
        {"seed": seed, "method": method, "rollouts": count, "value": value}
        for method, count, values in (
            ("a", 4, (1, 2, 6)),
            ("a", 16, (3, 4, 8)),
            ("b", 4, (0, 1, 5)),
            ("b", None, (2, 2, 2)),
        )
        for seed, value in enumerate(values)
    ]
)


def test_values_by_seed_and_their_mean_with_its_t_interval():
    values = _claims.by_seed(ROWS, "value", method="a", rollouts=4)
    assert values.to_dict() == {0: 1, 1: 2, 2: 6}
    estimate = _claims.over_seeds(values)
    reach = 4.302653 * math.sqrt(7 / 3)  # s^2 = 7, t_{0.975}(2)
    assert estimate == pytest.approx((3, 3 - reach, 3 + reach, 3), abs=1e-5)
    assert str(estimate) == "3 [-3.57, 9.57]"


def test_none_stands_for_an_empty_cell():
    assert _claims.by_seed(ROWS, "value", method="b", rollouts=None).tolist() == [2, 2, 2]


def test_a_difference_is_paired_whatever_the_order_of_rows():
    ours = _claims.by_seed(ROWS, "value", method="a", rollouts=4)
    theirs = _claims.by_seed(ROWS.iloc[::-1], "value", method="b", rollouts=4)
    assert _claims.difference(ours, theirs) == (1, 1, 1, 3)
    with pytest.raises(InputError, match=r"expected pairs of one seed, got seeds \[0, 1\] and \[0, 1, 2\]"):
        _claims.difference(ours[:2], theirs)


def test_a_ratio_is_a_geometric_mean():
    ours, theirs = pd.Series([2.0, 8.0]), pd.Series([1.0, 1.0])
    estimate = _claims.ratio(ours, theirs)
    # logs of 2 and 8: mean log 4, half their distance log 2, t_{0.975}(1) = 12.7062
    assert estimate == pytest.approx((4, 4 / 2**12.7062, 4 * 2**12.7062, 2), rel=1e-4)


def test_a_slope_is_a_change_for_each_doubling():
    rows = pd.DataFrame({"seed": [0, 0, 0, 1, 1, 1], "rollouts": [4, 16, 64] * 2, "value": [0, 4, 8, 1, 0, 2]})
    # log2 N = 2, 4, 6; about its mean -2, 0, 2: (-2 * 0 + 2 * 8) / 8 and (-2 * 1 + 2 * 2) / 8
    assert _claims.slopes(rows, "value").to_dict() == {0: 2, 1: 0.25}


@pytest.mark.parametrize(("where", "got"), [({"method": "c"}, "no row"), ({"method": "a"}, "several rows for a seed")])
def test_a_seed_without_one_row_is_refused(where, got):
    with pytest.raises(InputError, match=f"expected one row for each seed with .*, got {got}"):
        _claims.by_seed(ROWS, "value", **where)


def test_what_diverged_and_what_has_one_seed_decides_nothing():
    diverged = _claims.over_seeds(pd.Series([0.5, np.nan]))
    assert diverged.claim("a", "", "It is.").verdict == "undecided"
    one = _claims.over_seeds(pd.Series([0.5]))
    assert one.claim("a", "", "It is.").verdict == "undecided"
    assert (str(one), _claims.seeds_text(one)) == ("0.5 [no interval]", "in one seed")


def test_an_exact_estimate_is_a_claim_without_seeds():
    claim = _claims.exact(2).claim("a", "Eq. 7", "It is 2.", boundary=1)
    assert (claim.verdict, claim.text(), claim.seeds) == ("holds", "2", None)


@pytest.mark.parametrize(("share", "bounds"), [(1.0, (0.5655, 1)), (0.0, (0, 0.4345))])
def test_a_share_on_which_all_seeds_agree_has_wilsons_interval(share, bounds):
    # z^2 / (n + z^2) = 3.8415 / 8.8415 at n = 5
    estimate = _claims.share_over_seeds(pd.Series([share] * 5))
    assert estimate[:3] == pytest.approx((share, *bounds), abs=1e-4)
    assert estimate.seeds == 5


def test_outcomes_of_seeds_have_wilsons_interval_too():
    # centre (k + z^2/2) / (n + z^2) and half width z sqrt(k (n-k) / n + z^2/4) / (n + z^2), k = 1, n = 5
    estimate = _claims.share_over_seeds(pd.Series([1.0, 0, 0, 0, 0]))
    assert estimate[:3] == pytest.approx((0.2, 0.0362, 0.6245), abs=1e-4)


def test_any_other_share_has_its_t_interval():
    shares = pd.Series([1.0, 1.0, 0.5])
    assert _claims.share_over_seeds(shares) == _claims.over_seeds(shares)
    assert str(_claims.share_over_seeds(pd.Series([1.0]))) == "1 [no interval]"


def test_the_ends_of_a_trend_are_means_over_seeds():
    rows = pd.DataFrame(
        {"seed": [0, 1, 0, 1, 0, 1], "rollouts": [16, 16, 4, 4, 64, 64], "gap": [9, 9, 1, 2, 0.25, 0.5]}
    )
    assert _claims.ends_text(rows, "gap") == "from 1.5 at N = 4 to 0.375 at N = 64"
    assert _claims.ends_text(rows, "gap", "seed", at="with seed {}", form="{:.1f}".format) == (
        "from 3.4 with seed 0 to 3.8 with seed 1"
    )
