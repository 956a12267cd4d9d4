"""Captured gradients and updates: the ordinary ones up to rounding, whatever is padded, dropped or done in parts."""

import copy
import importlib
from contextlib import nullcontext

import pytest
import torch
from replay import OneDevice, record_tape
from small_policy import END, random_answers, random_prompts, small_policy, watch_tokens

from maxrl_lab import captured
from maxrl_lab.captured import WARM_UPS
from maxrl_lab.randomness import generator
from maxrl_lab.tokens import captured_gradients
from maxrl_lab.tokens.batch import TokenBatch
from maxrl_lab.tokens.captured_gradients import CapturedGradient
from maxrl_lab.tokens.captured_step import CapturedStep
from maxrl_lab.tokens.captured_writing import widened
from maxrl_lab.tokens.gradients import accumulate
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.writing import Prompts, Writing, write
from maxrl_lab.training import fit
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.methods import Exact, Inverse, Sampled
from maxrl_lab.training.step import run_losses, take_step

WRITING = Writing(6, END)
ADAM = importlib.import_module("torch.optim.adam")  # torch.optim hides it
TOLERANCE = {"called": 1e-7, "replayed": 2e-4}
"""Learning rates are float32 numbers; as on a GPU, where Adam counts in tensors, so is 1 - 0.999, off by 6e-5."""


@pytest.fixture(params=["called", "replayed"])
def how(request, monkeypatch):
    """Captured work is called, as on every CPU, or replayed from a tape, as from a CUDA graph."""
    if request.param == "replayed":
        monkeypatch.setattr(captured, "_record_call", record_tape)
        # torch lets Adam run without Python's numbers on a GPU alone; the arithmetic is the same on a CPU
        monkeypatch.setattr(ADAM, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
    return request.param


def make_step(how, policy, writing, method, optimiser, clip=None):
    """A captured step; replayed from a tape its optimiser must count in tensors, as on a GPU."""
    step = CapturedStep(policy, writing, method, optimiser, clip)
    for group in optimiser.param_groups:
        assert not group["capturable"]
        group["capturable"] = how == "replayed"
    return step


def odd(written, lengths):
    counted = torch.arange(written.shape[-1]) < lengths[..., None]
    return (written * counted).sum(-1) % 2 == 1


def rare(written, lengths):
    """Right in a third of the groups at most, so that others are without signal."""
    right = odd(written, lengths)
    right[::3] = False
    right[1::3] = True
    return right


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def close(one, other, tolerance=1e-10):
    return float((one - other).norm()) <= tolerance * float(other.norm())


def some_answers(lengths):
    """Answers of these lengths, with what an ordinary gradient reads of them."""
    tokens, lengths = random_answers(lengths)
    none = torch.zeros(lengths.shape, dtype=torch.float64)
    return Answers(tokens, lengths, lengths > 0, none, none)


class TestGradient:
    LENGTHS = ([3, 6, 2, 4, 5], [[1, 6, 3], [2, 2, 4], [6, 5, 1], [3, 3, 3], [1, 1, 2]])

    def slopes(self, seed=0):
        """Some of them 0, for a whole prompt too."""
        slopes = torch.randn(5, 3, dtype=torch.float64, generator=generator("slopes", seed))
        slopes[1], slopes[0, 2] = 0.0, 0.0
        return slopes

    def ordinary(self, policy, prompts, answers, writing, by_log_prob, by_entropy):
        parameters = list(policy.parameters())
        return flat(accumulate(policy, parameters, prompts, answers, writing, by_log_prob, by_entropy))

    @pytest.mark.parametrize("memory", [1.0, 2.3e-4, 1e-4])
    @pytest.mark.parametrize("temperature", [1.0, 0.7])
    def test_it_is_the_ordinary_one(self, memory, temperature, how):
        policy = small_policy()
        prompts, answers = Prompts(*random_prompts(self.LENGTHS[0])), some_answers(self.LENGTHS[1])
        wide, writing = Writing(6, END, temperature), Writing(6, END, temperature, memory=memory)
        gradient = CapturedGradient(policy, writing)
        for seed in range(3):
            by_log_prob, by_entropy = self.slopes(seed), self.slopes(seed + 10)
            gradient.zero()
            gradient.accumulate(prompts, answers, by_log_prob, by_entropy)
            wanted = self.ordinary(policy, prompts, answers, wide, by_log_prob, by_entropy)
            assert close(flat(parameter.grad for parameter in policy.parameters()), wanted)
        at_once = {1.0: (5, 3), 2.3e-4: (2, 3), 1e-4: (1, 2)}
        assert gradient._at_once(widened(prompts), answers) == at_once[memory]

    def test_without_entropies(self, how):
        policy = small_policy()
        prompts, answers = Prompts(*random_prompts(self.LENGTHS[0])), some_answers(self.LENGTHS[1])
        gradient = CapturedGradient(policy, WRITING)
        gradient.zero()
        gradient.accumulate(prompts, answers, self.slopes())
        wanted = self.ordinary(policy, prompts, answers, WRITING, self.slopes(), torch.zeros(5, 3))
        assert close(flat(gradient.totals), wanted)

    def test_gradients_add_up(self, how):
        policy = small_policy()
        prompts, answers = Prompts(*random_prompts(self.LENGTHS[0])), some_answers(self.LENGTHS[1])
        gradient = CapturedGradient(policy, WRITING)
        gradient.zero()
        gradient.accumulate(prompts, answers, self.slopes())
        once = flat(gradient.totals)
        gradient.accumulate(prompts, answers, self.slopes())
        assert close(flat(gradient.totals), 2 * once)

    def test_parameters_that_have_moved_are_noticed(self, how):
        policy = small_policy()
        prompts, answers = Prompts(*random_prompts(self.LENGTHS[0])), some_answers(self.LENGTHS[1])
        gradient = CapturedGradient(policy, WRITING)
        gradient.accumulate(prompts, answers, self.slopes())
        for parameter in policy.parameters():  # as `policy.to` does
            parameter.data = parameter.data * 0.9
        gradient.zero()
        gradient.accumulate(prompts, answers, self.slopes())
        wanted = self.ordinary(policy, prompts, answers, WRITING, self.slopes(), torch.zeros(5, 3))
        assert close(flat(gradient.totals), wanted)

    def test_answers_of_one_token(self, how, monkeypatch):
        policy, prompts = small_policy(), Prompts(*random_prompts([3, 6]))
        answers = some_answers([[1, 1], [1, 1]])
        slopes = torch.tensor([[1.0, -2], [0.5, 0]], dtype=torch.float64)
        gradient = CapturedGradient(policy, Writing(1, END))
        gradient.zero()
        seen = watch_tokens(policy, monkeypatch)
        gradient.accumulate(prompts, answers, slopes, 0.3 * slopes)
        assert set(seen) == {2 * 16}  # the prompts alone
        assert close(flat(gradient.totals), self.ordinary(policy, prompts, answers, WRITING, slopes, 0.3 * slopes))

    def test_what_stands_behind_an_answer_does_not_matter(self, how):
        policy = small_policy()
        prompts, answers = Prompts(*random_prompts(self.LENGTHS[0])), some_answers(self.LENGTHS[1])
        gradients = []
        for filling in (0, 4):
            behind = torch.arange(6) >= answers.lengths[..., None]
            gradient = CapturedGradient(policy, WRITING)
            gradient.zero()
            gradient.accumulate(
                prompts, answers._replace(tokens=answers.tokens.masked_fill(behind, filling)), self.slopes()
            )
            gradients.append(flat(gradient.totals))
        assert close(*gradients)

    def test_every_tensor_is_on_the_policys_device(self, monkeypatch):
        monkeypatch.setattr(captured_gradients, "arithmetic", lambda *_: nullcontext())  # "meta" has no autocast
        gradient = CapturedGradient(small_policy().to("meta"), WRITING)
        prompts, answers = random_prompts(self.LENGTHS[0]), some_answers(self.LENGTHS[1])
        inputs = [*prompts, answers.tokens, answers.lengths, self.slopes(), self.slopes()]
        inputs = [value.to("meta") for value in inputs]
        with OneDevice():
            gradient._add(*inputs)

    def test_bfloat16_is_close(self, how):
        policy = small_policy(dtype=torch.float32, width=64, mlp=128)
        prompts, answers = Prompts(*random_prompts(self.LENGTHS[0])), some_answers(self.LENGTHS[1])
        slopes = self.slopes().float()
        gradient = CapturedGradient(policy, Writing(6, END, precision="bfloat16"))
        gradient.zero()
        gradient.accumulate(prompts, answers, slopes)
        wanted = self.ordinary(policy, prompts, answers, WRITING, slopes, torch.zeros(5, 3))
        assert not torch.equal(flat(gradient.totals), wanted)
        assert close(flat(gradient.totals), wanted, 0.05)


METHODS = {
    "maxrl": Sampled("maxrl", 4),
    "rloo": Sampled("rloo", 4),
    "entropy bonus": Sampled("grpo", 4, "entropy_bonus:coefficient=0.1"),
    "greedy gate": Sampled("rloo", 4, "greedy_gate"),
    "inverse": Inverse(successes=2, cap=5),
}


def ordinary_updates(policy, prompts, verify, method, optimiser, clip, steps, writing=WRITING):
    """Make updates as `fit` does; return what the answers of each were like."""
    seen = []
    for step in range(steps):
        batch = TokenBatch(policy, prompts(step), verify, writing, 3, step)
        take_step(run_losses(batch, [method]), optimiser, clip)
        seen.append(batch.seen)
    return seen


def optimise(policy, rate=3e-3, name="adamw"):
    return fit.make_optimiser(fit.Optimisation(steps=9, optimiser=name), [policy], [rate])


class TestUpdates:
    @pytest.mark.parametrize("name", METHODS)
    @pytest.mark.parametrize("clip", [None, 0.05])
    def test_several_are_the_ordinary_ones(self, name, clip, how):
        ordinary = small_policy()
        policy = copy.deepcopy(ordinary)
        before = flat(policy.parameters()).clone()
        prompts = [Prompts(*random_prompts([3, 6, 2, 4, 5, 3], seed=seed)) for seed in range(5)]
        wanted = ordinary_updates(ordinary, prompts.__getitem__, rare, METHODS[name], optimise(ordinary), clip, 5)
        step = make_step(how, policy, WRITING, METHODS[name], optimise(policy), clip)
        seen = [step.update(prompts[index], rare, 3, index) for index in range(5)]
        assert seen == [pytest.approx(row, rel=TOLERANCE[how]) for row in wanted]
        assert 0 < min(row["signal"] for row in seen) <= max(row["signal"] for row in seen) < 1
        moved = flat(ordinary.parameters()) - before
        assert close(flat(policy.parameters()) - before, moved, TOLERANCE[how])
        assert float(moved.abs().max()) > 5e-3

    @pytest.mark.parametrize("name", ["adam", "adamw"])
    def test_the_learning_rate_follows_its_schedule(self, name, how):
        ordinary = small_policy()
        policy = copy.deepcopy(ordinary)
        before = flat(policy.parameters()).clone()
        prompts, method = Prompts(*random_prompts([3, 6, 2, 4])), METHODS["rloo"]
        optimisers = [optimise(ordinary, name=name), optimise(policy, name=name)]
        step = make_step(how, policy, WRITING, method, optimisers[1])
        schedules = [torch.optim.lr_scheduler.LambdaLR(one, lambda time: 1 / (1 + time)) for one in optimisers]
        for index in range(4):
            batch = TokenBatch(ordinary, prompts, odd, WRITING, 3, index)
            take_step(run_losses(batch, [method]), optimisers[0])
            step.update(prompts, odd, 3, index)
            for schedule in schedules:
                schedule.step()
        assert close(flat(policy.parameters()) - before, flat(ordinary.parameters()) - before, TOLERANCE[how])

    def test_a_state_that_was_loaded_goes_on(self, how):
        """Interrupted after two updates: a new step with the saved optimiser ends where an uninterrupted one does."""
        policy, method = small_policy(), METHODS["maxrl"]
        prompts = Prompts(*random_prompts([3, 6, 2, 4]))
        optimiser = optimise(policy)
        step = make_step(how, policy, WRITING, method, optimiser)
        for index in range(2):
            step.update(prompts, odd, 3, index)
        other = copy.deepcopy(policy)
        again = optimise(other)
        again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        for group in again.param_groups:
            group["capturable"] = False
        resumed = make_step(how, other, WRITING, method, again)
        for index in range(2, 4):
            step.update(prompts, odd, 3, index)
            resumed.update(prompts, odd, 3, index)
        assert close(flat(other.parameters()), flat(policy.parameters()), 1e-12)

    def test_loading_into_the_same_optimiser_is_noticed(self, how):
        policy, method = small_policy(), METHODS["maxrl"]
        prompts = Prompts(*random_prompts([3, 6, 2, 4]))
        optimiser = optimise(policy)
        step = make_step(how, policy, WRITING, method, optimiser)
        step.update(prompts, odd, 3, 0)
        weights, state = copy.deepcopy(policy.state_dict()), copy.deepcopy(optimiser.state_dict())
        step.update(prompts, odd, 3, 1)
        wanted = flat(policy.parameters()).clone()
        step.update(prompts, odd, 3, 2)
        policy.load_state_dict(weights)
        optimiser.load_state_dict(state)
        step.update(prompts, odd, 3, 1)
        assert close(flat(policy.parameters()), wanted, 1e-12)

    def test_making_a_step_moves_nothing(self):
        policy = small_policy()
        before = flat(policy.parameters()).clone()
        optimiser = torch.optim.AdamW(policy.parameters(), lr=0.1, weight_decay=0.5)
        CapturedStep(policy, WRITING, METHODS["rloo"], optimiser)
        assert torch.equal(flat(policy.parameters()), before)
        assert all(not value.any() for state in optimiser.state.values() for value in state.values())

    def test_without_signal_nothing_moves(self, how):
        policy = small_policy()
        before = flat(policy.parameters()).clone()
        step = make_step(how, policy, WRITING, METHODS["rloo"], optimise(policy))
        prompts = Prompts(*random_prompts([3, 6]))
        seen = step.update(prompts, lambda written, lengths: torch.zeros(lengths.shape, dtype=torch.bool), 3, 0)
        assert seen["signal"] == 0
        assert torch.equal(flat(policy.parameters()), before)

    def test_python_runs_while_recording_alone(self, monkeypatch):
        monkeypatch.setattr(captured, "_record_call", record_tape)
        monkeypatch.setattr(ADAM, "_get_capturable_supported_devices", lambda *_, **__: ["cpu"])
        policy = small_policy()
        step = make_step("replayed", policy, WRITING, METHODS["rloo"], optimise(policy))
        calls = {"add": 0, "move": 0}
        for holder, captured_function in ((step.gradient.add, "add"), (step.move, "move")):
            run = holder.function

            def counted(*inputs, run=run, name=captured_function):
                calls[name] += 1
                return run(*inputs)

            holder.function = counted
        for index in range(4):
            step.update(Prompts(*random_prompts([3, 6, 2], seed=index)), odd, 3, index)
        assert calls == {"add": WARM_UPS + 1, "move": WARM_UPS + 1}


class TestRefused:
    def test_methods_that_sample_nothing(self, refuses):
        policy = small_policy()
        with refuses("a captured step needs a method that samples, got exact"):
            CapturedStep(policy, WRITING, Exact("maximum_likelihood"), optimise(policy))

    def test_other_optimisers(self, refuses):
        policy = small_policy()
        with refuses("a captured step needs Adam or AdamW, got SGD"):
            CapturedStep(policy, WRITING, METHODS["rloo"], torch.optim.SGD(policy.parameters(), lr=0.1))

    def test_part_of_the_distribution(self, refuses):
        policy = small_policy()
        with refuses("a policy learns from its whole distribution, expected top_p 1, got 0.9"):
            CapturedStep(policy, Writing(6, END, top_p=0.9), METHODS["rloo"], optimise(policy))

    @pytest.mark.parametrize("weight", ["norm", "embedding"])
    def test_a_policy_that_is_nan(self, weight):
        """All answers are NaN, or only those that have to do with word 3, which stands in the second prompt."""
        policy, prompts = small_policy(tied=False), Prompts(torch.tensor([[1, 4], [1, 3]]), torch.tensor([2, 2]))
        with torch.no_grad():
            getattr(policy, weight)[3] = torch.nan
        written = write(policy, prompts, 4, WRITING, generator("answers", 3, 7, 4))
        assert bool(written.log_probs.isfinite().any()) == (weight == "embedding")
        step = CapturedStep(policy, WRITING, METHODS["rloo"], optimise(policy))
        with pytest.raises(DivergedError, match="the policy of run 0 is NaN after 7 updates"):
            step.update(prompts, odd, 3, 7)

    def test_an_answer_that_does_not_fit(self):
        policy, prompts = small_policy(), Prompts(*random_prompts([3, 6]))
        answers = write(policy, prompts, 2, WRITING, generator("answers", 0))
        gradient = CapturedGradient(policy, Writing(6, END, memory=1e-7))
        with pytest.raises(ValueError, match="the gradient of one answer of 6 tokens needs"):
            gradient.accumulate(prompts, answers, torch.ones(2, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    ordinary = small_policy().cuda()
    policy = copy.deepcopy(ordinary)
    before = flat(policy.parameters()).clone()
    prompts = [Prompts(*(part.cuda() for part in random_prompts([3, 6, 2, 4], seed=seed))) for seed in range(4)]

    def verify(written, lengths):
        return rare(written.cpu(), lengths.cpu()).cuda()

    for method in (METHODS["maxrl"], METHODS["entropy bonus"]):
        ordinary_updates(ordinary, prompts.__getitem__, verify, method, optimise(ordinary), 0.05, 4)
        step = CapturedStep(policy, WRITING, method, optimise(policy), 0.05)
        for index in range(4):
            step.update(prompts[index], verify, 3, index)
        assert close(flat(policy.parameters()) - before, flat(ordinary.parameters()) - before, 1e-3)
