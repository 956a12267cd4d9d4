"""Settings: every bound is checked when an object is made, in words that name the field, and found with its help."""

import math
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pytest

from maxrl_lab import settings
from maxrl_lab.fields import CHANGES_NO_RESULT, fields_of
from maxrl_lab.settings import Choice, Count, Counts, Each, Interval, Names, Positive, Rates, Whole


@dataclass(frozen=True)
class Policy(settings.Settings):
    """The policy.

    More about it.
    """

    width: Count = 64
    """Width of the residual
    stream."""
    kind: Annotated[str, Choice(("table", "network"))] = "table"
    """Kind of the policy."""
    clip: Positive | None = None
    """Largest norm of a gradient; none clips nothing."""


@dataclass(frozen=True)
class Training(settings.Settings):
    """How the policy is trained."""

    rates: Rates = (0.1, 0.3)
    """Learning rates that are tried."""
    rollouts: Counts = (4, 16)
    """Numbers of rollouts in a group."""
    momentum: Annotated[float, Interval(0, 1, closed_low=True)] = 0.9
    """Momentum of the optimiser."""
    mixed: bool = False
    """Whether tasks are mixed."""
    processes: Annotated[int, Whole(0), CHANGES_NO_RESULT] = 0
    """Number of processes."""


@dataclass(frozen=True)
class Both(Training, Policy):
    """What is compared."""

    names: Names = ("rloo", "maxrl")
    """Estimators that are compared."""
    width: Count = 8
    note: str = ""
    """Note that is written beside the rows."""


class TestBounds:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"width": 0}, "width must be a whole number >= 1, got 0"),
            ({"width": 1.5}, "width must be a whole number >= 1, got 1.5"),
            ({"width": True}, "width must be a whole number >= 1, got True"),
            ({"width": None}, "width must be a whole number >= 1, got None"),
            ({"processes": -1}, "processes must be a whole number >= 0, got -1"),
            ({"kind": "tree"}, "unknown kind 'tree'; choose one of: table, network"),
            ({"clip": 0.0}, "clip must be positive and finite, got 0.0"),
            ({"clip": math.inf}, "clip must be positive and finite, got inf"),
            ({"clip": True}, "clip must be positive and finite, got True"),
            ({"clip": "1"}, "clip must be positive and finite, got 1"),
            ({"rates": (0.1, -1.0)}, "rates must be positive and finite, got -1.0"),
            ({"rates": (math.nan,)}, "rates must be positive and finite, got nan"),
            ({"rates": (0.1, 1e38)}, "rates must be at most 1e+37, got 1e+38"),
            ({"rates": ()}, "rates needs at least one value, got none"),
            ({"rates": (0.1, 0.1)}, "rates must be distinct, got 0.1 0.1"),
            ({"rates": 0.1}, "rates must be a tuple, got 0.1"),
            ({"rollouts": (4, 0)}, "rollouts must be a whole number >= 1, got 0"),
            ({"momentum": 1.0}, "momentum must lie in [0, 1), got 1.0"),
            ({"momentum": -0.1}, "momentum must lie in [0, 1), got -0.1"),
            ({"mixed": 1}, "mixed must be true or false, got 1"),
            ({"names": "rloo"}, "names must be a tuple, got 'rloo'"),
            ({"names": ("rloo", 3)}, "names must be text, got 3"),
            ({"note": None}, "note must be text, got None"),
        ],
    )
    def test_what_is_out_of_bounds_is_refused_by_name(self, refuses, values, message):
        with refuses(message):
            Both(**values)
        with refuses(message):
            replace(Both(), **values)

    def test_the_ends_of_an_interval_are_closed_or_open(self, refuses):
        Both(momentum=0.0)
        Interval(0, 1, closed_high=True).check("share", 1)
        with refuses("share must lie in (0, 1], got 0"):
            Interval(0, 1, closed_high=True).check("share", 0)
        Interval(closed_low=True).check("bonus", 0.0)
        with refuses("bonus must be finite and not negative, got -1"):
            Interval(closed_low=True).check("bonus", -1)
        Interval(-math.inf, math.inf).check("shift", -3)
        with refuses("shift must be finite, got inf"):
            Interval(-math.inf, math.inf).check("shift", math.inf)

    def test_a_whole_number_may_have_a_maximum(self, refuses):
        Whole(0, 3).check("seed", 3)
        with refuses("seed must be at most 3, got 4"):
            Whole(0, 3).check("seed", 4)

    def test_what_is_within_bounds_is_kept_as_it_is(self):
        made = Both(width=np.int64(3), clip=1, rates=(1,), rollouts=[2, 4])
        assert (made.width, made.clip, made.rates, made.rollouts) == (3, 1, (1,), [2, 4])

    def test_a_tuple_may_be_empty_or_repeat_where_that_is_declared(self, refuses):
        Each(Whole(1), may_be_empty=True).check("sizes", ())
        Each(Whole(1), may_repeat=True).check("sizes", (2, 2))
        for bound in (Each(Whole(1), may_be_empty=True, may_repeat=True), Each(Whole(1), may_repeat=True)):
            with refuses("sizes must be a whole number >= 1, got 0"):
                bound.check("sizes", (2, 0, 2))
        with refuses("sizes must be distinct, got 2 2"):
            Each(Whole(1), may_be_empty=True).check("sizes", (2, 2))
        with refuses("sizes needs at least one value, got none"):
            Each(may_repeat=True).check("sizes", ())

    def test_a_changed_default_keeps_the_bound_of_the_base(self, refuses):
        @dataclass(frozen=True)
        class Narrow(Policy):
            """A narrow policy."""

            width: Count = 2

        with refuses("width must be a whole number >= 1, got -2"):
            Narrow(width=-2)


class TestFields:
    def test_fields_are_found_with_type_and_help(self):
        found = {field.name: field for field in fields_of(Both)}
        types = {
            **{"width": (int, False, False), "kind": (str, False, False), "clip": (float, False, True)},
            **{"rates": (float, True, False), "rollouts": (int, True, False), "momentum": (float, False, False)},
            **{"mixed": (bool, False, False), "processes": (int, False, False)},
            **{"names": (str, True, False), "note": (str, False, False)},
        }
        assert {name: (field.type, field.several, field.optional) for name, field in found.items()} == types
        assert found["rates"].help == "Learning rates that are tried."
        assert found["width"].help == "Width of the residual stream."  # of the base, on one line

    def test_the_group_is_the_class_that_declares_a_field_first(self):
        groups = {field.name: field.group for field in fields_of(Both)}
        assert groups["width"] == groups["kind"] == "The policy."
        assert groups["rates"] == groups["mixed"] == "How the policy is trained."
        assert groups["names"] == groups["note"] == "What is compared."

    def test_only_what_is_declared_to_change_no_result_changes_none(self):
        assert [field.name for field in fields_of(Both) if not field.changes_results] == ["processes"]

    def test_a_class_whose_source_is_not_at_hand_has_no_help(self):
        scope = {"dataclass": dataclass, "settings": settings}
        exec("@dataclass(frozen=True)\nclass Bare(settings.Settings):\n    size: int = 3\n", scope)
        (field,) = fields_of(scope["Bare"])
        assert (field.name, field.type, field.help) == ("size", int, "")


def test_importing_settings_loads_nothing_that_is_slow():
    """They are read for `--help`, in an interpreter that has just started."""
    slow = {"torch", "numpy", "pandas", "scipy", "matplotlib", "tqdm"}
    code = f"import sys, maxrl_lab.settings, maxrl_lab.runs.command_line; print(*({slow} & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []
