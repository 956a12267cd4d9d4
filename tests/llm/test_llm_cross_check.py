"""The lab's own trainer against TRL with the lab's estimators: the same gradients, and curves that chance explains."""

import os

import numpy as np
import pytest
import torch
from small_policy import small_policy

from benchmarks import llm_cross_check as cross
from maxrl_lab.tokens.batch import TokenBatch
from maxrl_lab.tokens.decoding import Vocabulary
from maxrl_lab.tokens.simple import SimpleTask
from maxrl_lab.tokens.writing import Prompts


class Digits(SimpleTask):
    """Prompts of 1 to 7 tokens; any answer of an odd sum of ids is right."""

    name = "digits"
    vocabulary = Vocabulary.of("0 1 2 3 4")
    answer_length = 5

    def sample_one(self, random):
        return tuple(random.integers(0, 5, random.integers(1, 8)).tolist())

    def prompt(self, problem):
        return [*map(str, problem)]

    def is_right(self, problem, answer):
        return bool(sum(self.vocabulary.encode(answer)) % 2)


def small_batch(update):
    """The task's problems, their answers judged by `cross.odd`, under a policy that is far from uniform."""
    task = Digits()
    problems = task.problems(update.prompts)
    assert len(set(problems.lengths.tolist())) > 2
    policy = small_policy(len(task.vocabulary), dtype=torch.float32, context=64)
    held = Prompts(problems.prompts, problems.lengths)
    return TokenBatch(policy, held, cross.odd, update.writing(), seed=0, step=0), task.vocabulary


class TestFirstStep:
    @pytest.mark.parametrize("estimator", ["maxrl", "grpo", "rloo", "maxrl_leave_one_out", "pkpo:k=2"])
    def test_has_the_same_gradient_whatever_the_lengths(self, estimator):
        update = cross.Update(estimator, prompts=6, rollouts=4, answer_length=5, temperature=0.8, clip=0.0)
        batch, words = small_batch(update)
        lab = cross.lab_gradient(batch, estimator, update.rollouts)
        found = cross.trl_gradient(batch, words, update)
        assert cross.apart(*map(cross.without_padding, (found, lab))) < 1e-5
        other = cross.lab_gradient(batch, "reinforce", update.rollouts)
        assert cross.apart(*map(cross.without_padding, (found, other))) > 0.01

    @pytest.mark.parametrize("names", [("maxrl",), pytest.param(("grpo", "rloo"), marks=pytest.mark.slow)])
    def test_of_the_papers_maze_policy_has_the_same_gradient(self, names):
        """3.9M parameters, 9 x 9 mazes, N = 8, float32, all parameters together."""
        gaps = cross.paper_gaps(names, prompts=2)
        assert gaps.keys() == {*names}
        assert max(gaps.values()) < 1e-4  # the promise is 1e-3


class TestComparison:
    def test_by_hand(self):
        """Gaps 0.1 and 0.3 over the last update: mean 0.2, standard error 0.1; Student's t with 1 at 50 %: 1."""
        lab, trl = np.array([[0.0, 0.1], [0.2, 0.5]]), np.array([[9.0, 0.2], [9.0, 0.8]])
        found = cross.Comparison(lab, trl, last=1, level=0.5)
        assert found.difference() == pytest.approx((0.2, 0.1))
        assert found.gain() == pytest.approx(0.2)

    def test_apart_by_hand(self):
        wanted = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
        assert cross.apart({"a": torch.tensor([3.3]), "b": torch.tensor([4.4])}, wanted) == pytest.approx(0.1)
        with pytest.raises(ValueError, match="expected the tensors a, b, got a"):
            cross.apart({"a": wanted["a"]}, wanted)


@pytest.mark.slow
def test_learning_curves_differ_by_chance_only():
    """Were the seeds not fixed, one run in 100 would fail (interval of 99 %, Student's t over 8 paired seeds)."""
    found = cross.curves()
    difference, half_width = found.difference()
    assert abs(difference) < half_width
    assert half_width < found.gain()  # and it is sharp: to learn nothing, or the opposite, would be seen
    assert found.lab.shape == found.trl.shape == (8, 30)


def test_the_hub_is_not_asked():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
