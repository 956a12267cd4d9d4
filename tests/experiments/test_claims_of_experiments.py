"""Every experiment's claims on its smoke rows, the claims that must hold at any size, and the verb that prints them."""

import json
import re
from pathlib import Path

import pytest
from panels import smoke_tables

from experiments import _verdicts
from experiments.catalogue import EXPERIMENTS
from experiments.exact import (
    best_order,
    bias_variance,
    likelihood_limit,
    pass_at_k_conflict,
    unbiasedness,
    weight_functions,
)
from maxrl_lab.claims import Claim
from maxrl_lab.command import main

ROOMS = Path(__file__).parents[2] / "experiments"
JUDGED = [
    name
    for name, entry in EXPERIMENTS.items()
    if entry.extra is None and (ROOMS / entry.room / "claims" / f"{name}.py").exists()
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """`judged(module, **changes)` runs an experiment near its smoke preset and returns its claims by name."""
    kept = {}

    def claims(module, **changes):
        key = (module.__name__, *sorted(changes.items()))
        if key not in kept:
            name = module.__name__.rpartition(".")[2]
            tables, settings = smoke_tables(module, tmp_path_factory.mktemp(name), **changes)
            made = EXPERIMENTS[name].claims(tables, settings)
            kept[key] = {claim.name: claim for claim in made}
            assert len(kept[key]) == len(made)
        return kept[key]

    return claims


@pytest.mark.parametrize("name", JUDGED)
def test_every_claim_is_a_sentence_with_its_numbers_and_its_place(judged, name):
    claims = judged(EXPERIMENTS[name].load())
    assert claims
    for claim in claims.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", claim.name)
        assert re.fullmatch(r"[A-Z0-9].* .*\.", claim.sentence), claim.sentence
        assert claim.text() in claim.sentence or claim.seeds is None, claim.sentence
        assert re.search(r"\d", claim.sentence), claim.sentence
        assert re.fullmatch(r"|(after )?(Fig\.|Table|Sec\.|App\.|Eq\.|Theorem|Algorithm) [\w., and]+", claim.paper), (
            claim.paper
        )


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (weight_functions, ["likelihood_favours_hard_tasks", "grpo_favours_both_ends", "rl_at_two_rollouts"]),
        (unbiasedness, ["theorem_1", "theorem_2", "algorithm_1_order", "order_n_with_a_baseline"]),
        (bias_variance, ["bias_of_order_n", "best_baseline_gains_little"]),
        (best_order, ["one_group_wants_the_middle", "many_groups_want_the_end"]),
        (pass_at_k_conflict, ["pass_at_k_lowers_pass_at_1"]),
        (likelihood_limit, ["distance_of_order_t"]),
    ],
)
def test_what_is_proven_holds_at_any_size(judged, module, names):
    claims = judged(module)
    assert {name: claims[name].verdict for name in names} == dict.fromkeys(names, "holds")
    assert all(claims[name].seeds is None for name in names)


def test_a_method_that_is_left_out_takes_its_claims_with_it(judged):
    assert "algorithm_1_order" not in judged(unbiasedness, estimators=("rloo", "maxrl_no_baseline"))
    assert "theorem_2" in judged(unbiasedness, estimators=("rloo", "maxrl_no_baseline"))


def test_another_objective_fails_theorem_2(tmp_path):
    """The audit's answer is exchanged for that of an estimator of another order."""
    tables, settings = smoke_tables(unbiasedness, tmp_path)
    rows = tables["rows"].copy()
    rows.loc[(rows.estimator == "maxrl_no_baseline") & (rows.rollouts == 4), "objective"] = "expected_reward"
    claims = {claim.name: claim for claim in EXPERIMENTS["unbiasedness"].claims({**tables, "rows": rows}, settings)}
    assert claims["theorem_2"].verdict == "fails"
    assert claims["algorithm_1_order"].verdict == "holds"


CLAIMS = [
    Claim("first", "Fig. 1", "It is 2 | 3.", estimate=2, low=2, high=2),
    Claim("second", "", "It rises by 0.1 [-0.2, 0.4].", estimate=0.1, low=-0.2, high=0.4, seeds=5),
    Claim("third", "", "It is nan [no interval].", float("nan"), float("nan"), float("nan"), seeds=5),
]
VERDICTS = _verdicts.Verdicts(
    [_verdicts.Judged("weights", claim) for claim in CLAIMS], {"other": "no finished run"}, {"weights": "old code"}
)


class TestWriting:
    def test_text_has_each_verdict_with_its_sentence_and_ends_with_what_chance_does(self):
        text = _verdicts.as_text(VERDICTS)
        assert text.splitlines()[:2] == [
            "holds      Fig. 1  weights/first   2                  (claimed: > 0)",
            "    It is 2 | 3.",
        ]
        assert (
            "3 claims: holds 1, fails 0, undecided 2. 2 of the verdicts rest on 95% intervals, and at most 0.1 of "
            "these would be expected to be wrong by chance; the others need no interval." in text
        )
        assert text.endswith("weights: old code\nother: no finished run")

    def test_json_is_strict_and_has_everything(self):
        content = json.loads(_verdicts.as_json(VERDICTS), parse_constant=pytest.fail)
        assert [claim["verdict"] for claim in content["claims"]] == ["holds", "undecided", "undecided"]
        assert content["claims"][1]["low"] == -0.2
        assert content["claims"][2]["estimate"] is None
        assert (content["measured"], content["wrong_by_chance_at_most"]) == (2, 0.1)
        assert content["missing"] == {"other": "no finished run"}

    def test_markdown_is_a_table_whose_cells_hold(self):
        lines = _verdicts.as_markdown(VERDICTS).splitlines()
        cells = [re.split(r"(?<!\\)\|", line) for line in lines[: 2 + len(CLAIMS)]]
        assert {len(line) for line in cells} == {8}
        assert lines[2] == "| *holds* | It is 2 \\| 3. | 2 | > 0 | Fig. 1 | `weights` |"


class TestVerb:
    @pytest.fixture
    def place(self, tmp_path):
        smoke_tables(weight_functions, tmp_path / "rows" / "smoke")
        return ["--preset", "smoke", "--out", str(tmp_path / "rows"), "--stale"]

    def test_claims_are_printed_and_what_is_missing_is_named(self, place, capsys):
        assert main(["claims", *place]) == 0
        printed = capsys.readouterr().out
        assert "weight_functions/likelihood_favours_hard_tasks" in printed
        assert re.search(r"\n.*navigation, .*: no finished run\n\Z", printed)

    def test_one_experiment_as_json(self, place, capsys):
        assert main(["claims", "weight_functions", "--json", *place]) == 0
        content = json.loads(capsys.readouterr().out)
        assert {claim["experiment"] for claim in content["claims"]} == {"weight_functions"}
        assert content["missing"] == {}

    def test_no_run_at_all_is_one_line(self, tmp_path, capsys):
        assert main(["claims", "--out", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert f"no finished run in {tmp_path / 'quick'}; `maxrl-lab reproduce --preset quick` makes them" in error
        assert main(["claims", "navigation", "--out", str(tmp_path)]) == 2
        assert f"no finished run in {tmp_path / 'quick' / 'navigation'}" in capsys.readouterr().err

    def test_forms_and_unknown_names_are_refused(self, capsys):
        assert main(["claims", "--json", "--markdown"]) == 2
        assert main(["claims", "no_such"]) == 2
        assert "unknown experiment 'no_such'" in capsys.readouterr().err
