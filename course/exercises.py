"""The table of exercises: lesson and number, file, functions, points, what is asked, and the check of it."""

from collections.abc import Callable
from dataclasses import dataclass

from course.checks import advantages, break_it, budget, fix_it, gradients, noise, numbers
from course.checks.numbers import Lookup
from course.parameters import Parameters


@dataclass(frozen=True)
class Exercise:
    """One graded task; `check` raises `course.wrong.WrongAnswerError` with an explanation and a share of the points."""

    number: str
    """Lesson and number: 2.1 is the first of lesson 2."""
    name: str
    functions: tuple[str, ...]
    """The functions that the student writes, in the lesson's file."""
    points: int
    question: str
    check: Callable[[Lookup, Parameters], None]
    seconds: float = 10.0
    """Time limit of the student's own code, in seconds of a processor."""

    @property
    def file(self) -> str:
        """The file of the lesson."""
        return f"lesson_{self.number.partition('.')[0]}.py"


_ONE_SUCCESS = ("blind", "rollouts_needed", "first_success")
_FAULTY = ("successes_of_the_batch", "deviation_of_the_batch", "mean_over_tokens")

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in (
        Exercise("1.1", "weight", ("weight",), 2, "w_T(p) = (1 - (1-p)^T) / p, to nine digits", numbers.weight),
        Exercise("1.2", "terms", ("terms",), 2, "the least T with (1-p)^T <= error", numbers.terms),
        Exercise("1.3", "mixture", ("mixture",), 2, "order T as a sum of pass@1 .. pass@T", numbers.mixture),
        Exercise("2.1", "rloo", ("rloo",), 2, "unbiased for the expected reward, 0 at K = 0 and N", advantages.rloo),
        Exercise("2.2", "order_t", ("order_t",), 3, "unbiased for order T, 0 at K = 0", advantages.order_t),
        Exercise("2.3", "pass_at_k", ("pass_at_k",), 2, "unbiased for pass@k", advantages.pass_at_k),
        Exercise("2.4", "boxes", ("boxes",), 2, "which objective is each of six tables unbiased for?", advantages.box),
        Exercise("3.1", "table_weight", ("table_weight",), 2, "w_N(p) of a(K), b(K), N to 2048", numbers.table_weight),
        Exercise("3.2", "quiet", ("quiet",), 4, "as order_t, within 1% of the least variance possible", noise.quiet),
        Exercise("3.3", "choose", ("choose",), 2, "the estimator with the least squared error of six", noise.choose),
        Exercise("4.1", "loss", ("loss",), 3, "the surrogate whose gradient is the estimate, by token", gradients.loss),
        Exercise("4.2", "chances", _ONE_SUCCESS, 2, "groups without a success, in closed form", numbers.chances),
        Exercise("4.3", "budget", ("budget",), 4, "the best use of 2,400 rollouts a level", budget.budget),
        Exercise(
            "5.1", "break_it", ("is_right",), 4, "a test that rejects 15 wrong functions", break_it.break_it, 60.0
        ),
        Exercise("5.2", "fix_it", _FAULTY, 3, "three shipped functions, mended", fix_it.fix_it),
        Exercise("5.3", "policy", ("policy",), 2, "probabilities and scores at a temperature", gradients.policy),
    )
}
