"""The example of TRL trains, and the setting that would change its objective is refused."""

import re

from example_programs import EXAMPLES, printed


def test_trl_trains_with_the_estimators_exact_weight_and_refuses_a_mean_over_tokens(tmp_path):
    text = printed(tmp_path, EXAMPLES / "with_trl.py")
    rows = re.findall(r"^step (\d+) +group/pass_rate ([\d.]+) +group/weight ([\d.]+)", text, re.M)
    assert [int(step) for step, _, _ in rows] == [10, 20, 30, 40, 50]
    rates, weights = ([float(row[column]) for row in rows] for column in (1, 2))
    assert rates[0] < 0.5 < rates[-1]
    assert weights[0] > weights[-1] > 1  # w_N falls from N at p = 0 to 1 at p = 1
    assert "refused: loss_type must be 'luspo' or 'dr_grpo', got 'grpo'" in text
