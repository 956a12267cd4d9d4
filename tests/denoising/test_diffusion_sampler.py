"""Learnt decoding: rows that exact theory decides, what is refused, and the picture of them."""

import math
from dataclasses import replace

import pytest
from panels import drawn, line_called, smoke_tables

from experiments._claims import by_seed, select
from experiments.catalogue import EXPERIMENTS
from experiments.denoising import diffusion_sampler
from figures.denoising import diffusion_sampler as picture

SMOKE = diffusion_sampler.PRESETS["smoke"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tables of a run near the smoke preset, with answers of four places, and its settings."""
    folder = tmp_path_factory.mktemp("diffusion_sampler")
    return smoke_tables(diffusion_sampler, folder, length=4, base=2, digits=2, budget=2, rollouts=(2, 4), seeds=2)


class TestRows:
    def test_counts(self, made):
        tables, settings = made
        kinds = 3 * 2  # methods, numbers of rollouts
        bounds, verifiers = len(settings.every_bound), 4  # three of them, and all together
        rows = {name: len(table) for name, table in tables.items()}
        assert rows["bounds"] == 2 * 4 * verifiers * bounds
        assert rows["decoding"] == 2 * verifiers * ((kinds + 1) * bounds + 4 + 1)
        assert rows["training"] == 2 * kinds * 4  # before, and after each of three updates
        assert rows["anchors"] == 2 * 3 * (3 * 4 + 1)  # four kinds of weights, and one for the path
        assert rows["steps"] == 2 * 3 * 4
        assert rows["sets"] == 2 * 3 * 7

    def test_evaluations_of_the_ends(self, made):
        rows = made[0]["decoding"]
        assert rows[rows.bound == math.inf].evaluations.tolist() == pytest.approx(
            [1.0] * (rows.bound == math.inf).sum()
        )
        assert rows[rows.bound == 0].evaluations.tolist() == pytest.approx([4.0] * (rows.bound == 0).sum())
        assert rows.evaluations.between(1 - 1e-6, 4 + 1e-6).all()
        assert (rows.in_time <= rows.pass_rate + 1e-12).all()
        fast = rows[rows.bound == math.inf]
        assert fast.in_time.tolist() == pytest.approx(fast.pass_rate.tolist())

    def test_no_choice_of_bounds_is_better_than_the_best(self, made):
        rows = select(made[0]["decoding"], verifier="all")
        best = by_seed(rows, "in_time", method="best bound")
        for bound in made[1].every_bound:
            assert (by_seed(rows, "in_time", method="base", bound=bound) <= best + 1e-12).all()
        for rollouts in (2, 4):
            learnt = by_seed(rows, "in_time", method="sampler", rollouts=rollouts, bound=None)
            assert (learnt <= best + 1e-12).all()

    @pytest.mark.parametrize("rollouts", [2, 4])
    def test_training_starts_at_the_base_and_ends_at_the_last_rows(self, made, rollouts):
        tables, settings = made
        rows, training = select(tables["decoding"], verifier="all"), select(tables["training"], rollouts=rollouts)
        for method in ("model", "sampler", "joint"):
            bound = settings.model_bound if method == "model" else None
            end = by_seed(rows, "pass_rate", method=method, rollouts=rollouts, bound=bound)
            last = by_seed(training, "pass_rate", method=method, updates=settings.steps)
            assert last.tolist() == pytest.approx(end.tolist(), rel=1e-6)
        base = by_seed(rows, "pass_rate", method="base", bound=settings.model_bound)
        first = by_seed(training, "pass_rate", method="model", updates=0)
        assert first.tolist() == pytest.approx(base.tolist(), rel=1e-6)

    def test_bounds_alone_leave_the_model_as_it_was(self, made):
        rows = made[0]["decoding"].dropna(subset="bound")
        keys = ["seed", "verifier", "bound"]
        base, sampler, joint = (
            select(rows, method=method).groupby(keys).pass_rate.agg(["min", "max"])
            for method in ("base", "sampler", "joint")
        )
        assert sampler.equals(base)
        assert (joint["max"] != base["max"]).any()

    def test_shares_are_a_distribution(self, made):
        shares = made[0]["bounds"].groupby(["seed", "method", "rollouts", "verifier"]).share.sum()
        assert shares.tolist() == pytest.approx([1.0] * len(shares))

    def test_what_is_exact_has_no_bias(self, made):
        anchors, sets = made[0]["anchors"], made[0]["sets"]
        assert (anchors[anchors.anchors == 4].relative_bias < 1e-9).all()
        assert (anchors[anchors.anchors < 4].relative_bias > 1e-3).all()
        assert (sets[sets.bound == math.inf].relative_bias < 1e-9).all()
        assert (sets[sets.bound == 0].relative_bias > 1e-3).all()
        steps = made[0]["steps"]
        assert (steps[steps.step == 0].divergence == 0).all()
        assert (steps[(steps.step > 0) & (steps.anchors == 1)].divergence > 0).all()


class TestSettings:
    def test_bounds(self, refuses):
        with refuses("expected bounds that rise from 0 or more, got [0.5, 0.0]"):
            replace(SMOKE, bounds=(0.5, 0.0))
        with refuses("model_bound must be one of the bounds [0.0, 1.0], got 0.5"):
            replace(SMOKE, bounds=(0.0, 1.0))

    def test_what_cannot_be_listed(self, refuses):
        with refuses("a lattice has at most 50000 states (base + 1)^length, got 10^6 = 1000000"):
            replace(SMOKE, length=6, base=9)
        with refuses("a lattice has at most 50000 states (base + 1)^length, got 9^6 = 531441"):
            replace(SMOKE, length=6, digits=8)
        with refuses("the split 'train' has 21 problems, got a request for 22"):
            replace(SMOKE, prompts=22)
        with refuses("expected 1 to 6 places, whose orders are listed, got 8"):
            replace(SMOKE, length=8, base=2, digits=2)


class TestClaims:
    def test_theorems_hold_at_any_size(self, made):
        claims = {claim.name: claim for claim in EXPERIMENTS["diffusion_sampler"].claims(*made)}
        for name in ("all_anchors_are_the_path", "the_sampler_decides_what_is_exact"):
            assert (claims[name].verdict, claims[name].seeds) == ("holds", None)
        assert "weights_reduce_bias" in claims


class TestPicture:
    def test_panels(self, made):
        tables, settings = made
        figure = picture.plot(tables, settings)
        assert len(drawn(figure)) == 6
        plane = figure.axes[1]
        assert plane.get_title().endswith("N = 4")
        rows = tables["training"].query("method == 'joint' and rollouts == 4")
        path = line_called(plane, "both")
        assert path.get_ydata().tolist() == pytest.approx(rows.groupby("updates").pass_rate.mean().tolist())

    def test_one_number_of_rollouts_has_one_panel(self, made):
        tables, settings = made
        figure = picture.plot(tables, replace(settings, rollouts=(4,)))
        assert len(drawn(figure)) == 5

    def test_summary(self, made):
        table = picture.summarise(*made)
        assert len(table) == 5 + 3 * len(made[1].every_bound)  # learnt or best; the base, and the model at two N
