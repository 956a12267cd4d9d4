"""The grader against answers that are known to be wrong: each fails with words that name its error.

And against right answers of unusual form, which pass. All run as a student's answers do: in a process of their own.
"""

from pathlib import Path

import pytest

from course.exercises import EXERCISES
from course.parameters import parameters_of
from course.sandbox.answers import Answer
from course.sandbox.process import Process
from course.wrong import WrongAnswerError
from maxrl_lab.errors import InputError

FILE = Path(__file__).with_name("wrong_answers.py")
ASKED = parameters_of(None)
WRONG = [
    ("weight", "weight_by_subtraction", "subtracts two numbers that are nearly equal"),
    ("weight", "weight_one_term_less", "that is the weight of order T - 1"),
    ("weight", "weight_one_term_more", "that is the weight of order T + 1"),
    ("weight", "weight_of_likelihood", "that is the weight of the likelihood"),
    ("weight", "weight_of_pass_at_t", "that is the weight of pass@T"),
    ("weight", "weight_times_p", "the gradient with respect to log p"),
    ("weight", "weight_fails_at_one", "ValueError: math domain error"),
    ("weight", "weight_as_text", "asked are numbers"),
    ("terms", "terms_rounded_down", "that is one term too few"),
    ("terms", "terms_one_more", "that is one term too many"),
    ("terms", "terms_strictly_below", "one term too many where (1-p)^T is the error exactly"),
    ("terms", "terms_without_log1p", "log(1-p) is rounded where p is small"),
    ("terms", "terms_whatever_p", "that is 1 / error terms, whatever p is"),
    ("mixture", "mixture_of_ones", "the series divides the k-th term by k"),
    ("mixture", "mixture_times_k", "multiplies where the series divides"),
    ("mixture", "mixture_mean", "is the mean of pass@1 .. pass@T"),
    ("mixture", "mixture_from_two", "begins at k = 1, not at 2"),
    ("mixture", "mixture_last", "c_T = 1 alone is pass@T"),
    ("mixture", "mixture_alternating", "the signs do not alternate"),
    ("mixture", "mixture_with_zeroth", "asked are the 1 numbers c_1 .. c_T"),
    ("rloo", "own_reward", "optimises expected_reward, times 0.5"),
    ("rloo", "own_reward", "getting it right is worth 0.5;"),
    ("rloo", "mean_of_the_batch", "pooled_groups"),
    ("rloo", "sum_of_others_over_n", "a group without failure must give 0, but rewards [1, 1] give every rollout 0.5"),
    ("rloo", "standardised", "N = 3: it optimises expected_reward, times 1.414"),
    ("rloo", "descending", "it DESCENDS expected_reward"),
    ("rloo", "neighbour", "order_dependent"),
    ("rloo", "random_baseline", "random (N = 2)"),
    ("rloo", "no_baseline", "a group without failure must give 0"),
    ("rloo", "nothing", "its mean gradient is 0 at every pass rate"),
    ("rloo", "one_number", "does not turn rewards"),
    ("rloo", "divides_by_zero", "ZeroDivisionError"),
    ("order_t", "algorithm_1", "it optimises expected_reward, times 1; asked is truncated_likelihood:order=N"),
    ("order_t", "algorithm_1", "with J = 0 of the other 1 right it must be worth 2"),
    ("order_t", "large_epsilon", "the smallest counterexample"),
    ("order_t", "not_a_number", "not finite at K = 0"),
    ("order_t", "pooled_successes", "pooled_groups"),
    ("order_t", "control_variate", "a group without success must give 0, but rewards [0, 0] give every rollout -1"),
    ("order_t", "without_n", "times 0.5"),
    ("order_t", "clipped", "getting it right is worth 3;"),
    ("pass_at_k", "plug_in", "it optimises pass_at_k:k=2, times 0.5"),
    ("pass_at_k", "pass_less_its_mean", "it optimises expected_reward, times 1; asked is pass_at_k:k=2"),
    ("pass_at_k", "pass_less_its_mean", "its baseline depends on the rollout's own reward"),
    ("pass_at_k", "half_of_pass", "times 0.5"),
    ("boxes", "boxes_all_the_same", "box a is not 'expected_reward': its flips"),
    ("boxes", "boxes_without_letters", "box e is not '(no answer)': its flips"),
    ("boxes", "boxes_as_list", "expected a dict from a letter"),
    ("table_weight", "weight_over_all_rollouts", "J of the OTHER N-1"),
    ("table_weight", "weight_without_the_flip", "after the flip J + 1 rollouts are right"),
    ("table_weight", "weight_of_successes", "the failures' b(J) is missing"),
    ("table_weight", "weight_at_the_failure_rate", "p is the chance of a success"),
    ("table_weight", "weight_without_chances", "without the chances of J"),
    ("table_weight", "weight_that_overflows", "OverflowError"),
    ("quiet", "algorithm_1", "it optimises expected_reward"),
    ("quiet", "control_variate", "a group without success must give 0"),
    ("quiet", "leave_one_out", "1.072 times the least possible"),
    ("quiet", "cross_fitted", "1.109 times the least possible"),
    ("choose", "always_maxrl", "maxrl has not the least error; they are: rloo"),
    ("choose", "unknown_name", "choose one of rloo, grpo"),
    ("loss", "mean_over_the_answer", "off by 1 / length of its answer times 1"),
    ("loss", "mean_over_the_batch", "off by one constant times 0.5"),
    ("loss", "with_padding", "padding is weighted"),
    ("loss", "sum_over_rollouts", "one constant times 2"),
    ("loss", "pooled_loss", "rewards [1, 0], lengths [2, 2]: token 0 of rollout 0 is weighted -0.0833333"),
    ("loss", "ascending", "the loss ASCENDS"),
    ("loss", "only_live_groups", "one constant times 2"),
    ("loss", "loss_not_a_number", "the gradient is not finite"),
    ("loss", "loss_detached", "does not depend on log_probs"),
    ("loss", "loss_of_each_task", "a loss is one number"),
    ("loss", "loss_of_grpo", "rewards [1, 0, 0, 0], lengths [1, 2, 3, 4]: token 0 of rollout 0 is weighted -0.216506"),
    (
        "chances",
        {"blind": "some_success"},
        "blind: at (0, 1) you return 0, right is 1.\nthat is the chance of at least one success",
    ),
    ("chances", {"blind": "successes_only"}, "that is the chance of successes only"),
    ("chances", {"rollouts_needed": "mean_needed"}, "that is the mean number of rollouts, 1/p"),
    ("chances", {"rollouts_needed": "needed_for_the_rest"}, "that is enough for a chance of 1 - `chance`"),
    ("chances", {"first_success": "failures_before"}, "that is the mean number of failures before it"),
    ("budget", "plan_over_budget", "32 rollouts x 100 updates are 3200, over 2400 a level"),
    ("budget", "plan_of_no_estimator", "unknown estimator 'maxrl_best'"),
    ("budget", "plan_that_creeps", "the next threshold is"),
    ("budget", "plan_that_diverges", "the next threshold is"),
    ("budget", "plan_without_updates", "expected a dict with estimator, rollouts, learning_rate, updates"),
    ("break_it", "golden_value", "it rejects 9 of 15 wrong functions; missed:"),
    ("break_it", "golden_value", "K pooled over the batch"),
    ("break_it", "accepts_all", "it rejects 0 of 15"),
    ("break_it", "rejects_a_baseline", "your test rejects a right function (maxrl_"),
    ("break_it", "too_large_a_group", "with N from 2 to 8"),
    ("policy", "scored_raw", "scored with the raw logits, without the temperature"),
    ("policy", "multiplied", "the temperature multiplies the logits"),
    ("policy", "temperature_ignored", "the temperature is ignored"),
    ("policy", "powers", "have to be normalised"),
    ("policy", "scored_detached", "detached?"),
    ("policy", "scored_without_softmax", "without the softmax's normalisation"),
    ("policy", "scored_log_twice", "the score of the first answer is"),
    ("policy", "one_answer_only", "expected probabilities and log-probabilities"),
]
"""Exercise, the wrong function (or functions, by the name that is asked for), and words of the explanation."""
UNUSUAL = [
    ("rloo", "rloo_with_squares"),
    ("order_t", "order_n_with_a_wave"),
    ("order_t", "order_n_in_single_precision"),
    ("order_t", "order_n_group_by_group"),
    ("order_t", "cross_fitted"),
    ("pass_at_k", "pass_at_2_with_a_line"),
    ("loss", "loss_by_loops"),
    ("policy", "policy_by_hand"),
]
RIGHT_PARTS = {"blind": "blind", "rollouts_needed": "needed", "first_success": "first"}


@pytest.fixture(scope="module")
def process():
    opened = Process(FILE)
    yield opened
    opened.close()


@pytest.fixture
def check(process):
    """Check an exercise with functions of the file."""

    def checked(name, functions):
        exercise = EXERCISES[name]
        names = {**RIGHT_PARTS, **functions} if isinstance(functions, dict) else {exercise.functions[0]: functions}
        process.begin(60.0)
        exercise.check(lambda function: Answer(process, names[function]), ASKED)

    return checked


def test_there_are_many():
    assert len({str(functions) for _, functions, _ in WRONG}) >= 70
    assert {name for name, _, _ in WRONG} == set(EXERCISES) - {"fix_it"}  # whose stubs are the wrong answers


@pytest.mark.parametrize(("name", "functions", "words"), WRONG)
def test_a_wrong_answer_is_named(check, name, functions, words):
    with pytest.raises((WrongAnswerError, InputError)) as caught:
        check(name, functions)
    assert words in str(caught.value)


@pytest.mark.parametrize(("name", "function"), UNUSUAL)
def test_a_right_answer_of_unusual_form_passes(check, name, function):
    check(name, function)


@pytest.mark.parametrize(
    ("name", "functions", "points"),
    [
        ("break_it", "golden_value", 2),
        ("break_it", "rejects_a_baseline", 0),
        ("chances", {"blind": "some_success"}, 1),
        ("budget", "plan_halfway", 1),
        ("choose", "always_maxrl", 0),
    ],
)
def test_a_share_of_the_points(check, name, functions, points):
    with pytest.raises(WrongAnswerError) as caught:
        check(name, functions)
    assert int(caught.value.share * EXERCISES[name].points + 1e-9) == points
