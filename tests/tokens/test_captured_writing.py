"""Writing answers with the step captured: the answers of `write`, token for token, and what a replay may not do."""

from contextlib import nullcontext

import pytest
import torch
from replay import OneDevice, record_tape
from small_policy import END, random_prompts, small_policy, watch_tokens

from maxrl_lab import captured
from maxrl_lab.captured import WARM_UPS
from maxrl_lab.randomness import generator
from maxrl_lab.tokens import captured_writing
from maxrl_lab.tokens.attention import Prefix
from maxrl_lab.tokens.captured_writing import CapturedWriting, widened
from maxrl_lab.tokens.scoring import read
from maxrl_lab.tokens.writing import Prompts, Writing, write

CASES = {
    "prompts of many lengths": ([3, 6, 2, 4], 5, 7),
    "equal prompts": ([4, 4, 4], 3, 9),
    "one answer": ([5], 1, 6),
    "wider than 16": ([17, 3, 20], 4, 8),
    "answers of one token": ([3, 2], 4, 1),
    "answers of two tokens": ([3, 2], 4, 2),
    "many answers that end early": ([3, 2], 60, 12),
}
"""Lengths of the prompts, N and T."""


@pytest.fixture(params=["called", "replayed"])
def how(request, monkeypatch):
    """The step is called, as on every CPU, or replayed from a tape, as from a CUDA graph."""
    if request.param == "replayed":
        monkeypatch.setattr(captured, "_record_call", record_tape)
    return request.param


def same(one, other, tolerance=1e-12):
    """Whether answers are equal, token for token, and worth the same up to rounding."""
    exactly = all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("tokens", "lengths", "ended"))
    pairs = ((getattr(one, name), getattr(other, name)) for name in ("log_probs", "entropies"))
    return exactly and all(torch.allclose(*pair, rtol=tolerance, atol=tolerance) for pair in pairs)


def stream(seed=0):
    return generator("captured", seed)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_answers_are_those_of_write(case, temperature, how):
    lengths, rollouts, longest = CASES[case]
    policy, writing = small_policy(), Writing(longest, END, temperature)
    writer = CapturedWriting(policy, writing)
    for seed in range(3):  # later calls replay what the first has recorded
        prompts = Prompts(*random_prompts(lengths, seed=seed))
        wanted = write(policy, prompts, rollouts, writing, stream(seed))
        assert same(writer.write(prompts, rollouts, stream(seed)), wanted)
    if longest > 2:
        assert bool(wanted.ended.any())
    assert len(writer.decoders) == 1


def test_greedy_answers_are_those_of_write(how):
    policy, writing = small_policy(), Writing(7, END)
    prompts = Prompts(*random_prompts([3, 6, 2, 4]))
    wanted = write(policy, prompts, 1, writing, None)
    assert same(CapturedWriting(policy, writing).write(prompts, 1, None), wanted)


def test_a_nucleus(how):
    policy, writing = small_policy(), Writing(7, END, top_p=0.6)
    prompts = Prompts(*random_prompts([3, 6, 2, 4]))
    wanted = write(policy, prompts, 5, writing, stream())
    assert same(CapturedWriting(policy, writing).write(prompts, 5, stream()), wanted)
    assert not same(wanted, write(policy, prompts, 5, Writing(7, END), stream()))


def test_a_policy_that_learns_is_followed(how):
    policy, writing = small_policy(), Writing(7, END)
    writer, prompts = CapturedWriting(policy, writing), Prompts(*random_prompts([3, 6, 2, 4]))
    before = writer.write(prompts, 5, stream())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=stream(9)), alpha=0.3)
    after = writer.write(prompts, 5, stream())
    assert same(after, write(policy, prompts, 5, writing, stream()))
    assert not torch.equal(before.tokens, after.tokens)


def test_parameters_that_have_moved_are_noticed(how):
    policy, writing = small_policy(), Writing(7, END)
    writer, prompts = CapturedWriting(policy, writing), Prompts(*random_prompts([3, 6, 2, 4]))
    before = writer.write(prompts, 5, stream())
    for parameter in policy.parameters():  # as `policy.to` does
        parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape, generator=stream(9))
    after = writer.write(prompts, 5, stream())
    assert same(after, write(policy, prompts, 5, writing, stream()))
    assert not torch.equal(before.tokens, after.tokens)


def test_other_shapes_in_between(how):
    policy, writing = small_policy(), Writing(7, END)
    writer = CapturedWriting(policy, writing, most=2)
    for lengths, rollouts in (([3, 6], 5), ([3, 6, 2], 5), ([3, 6], 2), ([3, 18], 5), ([3, 6], 5)):
        prompts = Prompts(*random_prompts(lengths))
        assert same(writer.write(prompts, rollouts, stream()), write(policy, prompts, rollouts, writing, stream()))
    assert len(writer.decoders) == 2


def test_what_does_not_fit_into_memory_is_written_in_parts(how):
    policy, prompts = small_policy(), Prompts(*random_prompts([3, 6, 2, 4, 5]))
    # a prompt of 6 needs 4 * 6 * (2 * 2 * 2 * 4 + 4 * 40) bytes, an answer 4 * (2 * 32 * 7 + 8 * 40)
    one_prompt, one_answer = 4 * 6 * 192, 4 * (2 * 32 * 7 + 8 * 40)
    for answers, prompts_at_once in ((2, 1), (5, 2)):  # 2, 2 and 1 answers of each prompt; 2, 2 and 1 prompts
        memory = prompts_at_once * (one_prompt + answers * one_answer + 1) / 2**30
        writing = Writing(7, END, memory=memory)
        writer = CapturedWriting(policy, writing)
        wanted = write(policy, prompts, 5, writing, stream())
        assert same(writer.write(prompts, 5, stream()), wanted)
        assert len(writer.decoders) == 2  # the last part is smaller


def test_answers_last(how):
    """They are the caller's: the next rollout does not overwrite them."""
    policy, writing = small_policy(), Writing(7, END)
    writer, prompts = CapturedWriting(policy, writing), Prompts(*random_prompts([3, 6]))
    first = writer.write(prompts, 5, stream(1))
    kept = [part.clone() for part in first]
    writer.write(prompts, 5, stream(2))
    assert all(torch.equal(part, copy) for part, copy in zip(first, kept, strict=True))


def test_writing_stops_when_all_have_ended(monkeypatch):
    policy, writing = small_policy(), Writing(20, END)
    prompts = Prompts(*random_prompts([3, 6, 2, 4]))
    writer = CapturedWriting(policy, writing)
    writer.write(prompts, 1, stream(3))
    seen = watch_tokens(policy, monkeypatch)
    longest = int(writer.write(prompts, 1, stream(3)).lengths.max())
    assert longest < 20
    assert seen == [4 * 16, *[4] * (longest - 1)]  # prompts as wide as 16, then a token of each answer


def test_the_step_is_recorded_once(monkeypatch):
    monkeypatch.setattr(captured, "_record_call", record_tape)
    policy, writing = small_policy(), Writing(20, 99)
    seen = watch_tokens(policy, monkeypatch)
    writer = CapturedWriting(policy, writing)
    for seed in range(3):
        writer.write(Prompts(*random_prompts([3, 6], seed=seed)), 5, stream(seed))
    steps = [tokens for tokens in seen if tokens == 10]
    assert len(steps) == WARM_UPS + 1
    assert len(seen) == len(steps) + 3  # and the prompts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_of_what_answers_are_worth(dtype, how):
    policy, writing = small_policy(dtype=dtype), Writing(7, END)
    prompts = Prompts(*random_prompts([3, 6, 2, 4]))
    wanted = write(policy, prompts, 5, writing, stream())
    answers = CapturedWriting(policy, writing).write(prompts, 5, stream())
    assert same(answers, wanted, 1e-12 if dtype == torch.float64 else 1e-5)
    assert answers.log_probs.dtype == wanted.log_probs.dtype == dtype


def test_bfloat16_is_close(how):
    policy = small_policy(dtype=torch.float32, width=64, mlp=128)
    writing, prompts = Writing(6, END, precision="bfloat16"), Prompts(*random_prompts([5, 5, 5, 5]))
    wanted = write(policy, prompts, 8, writing, stream())
    answers = CapturedWriting(policy, writing).write(prompts, 8, stream())
    equal = (answers.tokens == wanted.tokens).all(-1)
    assert equal.float().mean() > 0.8  # rounding decides what is nearly a tie
    gap = (answers.log_probs - wanted.log_probs)[equal].abs()
    assert gap.max() < 0.3  # 8 bits: 2^-9 an operation
    exactly = write(policy, prompts, 8, Writing(6, END), stream())
    assert not torch.equal(exactly.log_probs, answers.log_probs)


def test_bfloat16_follows_weights_under_somebody_elses_autocast(how):
    """Torch keeps weights that it has cast while an autocast is open; a capture must cast them in every replay."""
    policy = small_policy(dtype=torch.float32, width=64, mlp=128)
    writing, prompts = Writing(6, END, precision="bfloat16"), Prompts(*random_prompts([5, 5, 5, 5]))
    writer = CapturedWriting(policy, writing)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        writer.write(prompts, 8, stream())
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.mul_(0.2)
    wanted = write(policy, prompts, 8, writing, stream())
    answers = writer.write(prompts, 8, stream())
    equal = (answers.tokens == wanted.tokens).all(-1)
    assert equal.float().mean() > 0.8
    assert (answers.log_probs - wanted.log_probs)[equal].abs().max() < 0.3


def test_every_tensor_is_on_the_policys_device(monkeypatch):
    monkeypatch.setattr(captured_writing, "arithmetic", lambda *_: nullcontext())  # "meta" has no autocast
    policy, writing = small_policy(), Writing(7, END, 0.8)
    prefix = read(policy, *widened(Prompts(*random_prompts([3, 6]))))
    keys, values = (tuple(layer.to("meta") for layer in layers) for layers in (prefix.keys, prefix.values))
    there = Prefix(keys, values, prefix.lengths.to("meta"), prefix.logits.to("meta"))
    numbers, policy = torch.zeros(2, 5, 7, device="meta"), policy.to("meta")
    with torch.no_grad(), OneDevice():
        decoder = captured_writing._Decoder(policy, writing, there, 5, greedy=False)
        decoder.begin(there, numbers)
        decoder.advance()


def test_prompts_are_widened_and_cut():
    tokens, lengths = random_prompts([3, 17])
    wide = widened(Prompts(tokens, lengths))
    assert wide.tokens.shape == (2, 32)
    assert torch.equal(wide.tokens[:, :17], tokens)
    assert not wide.tokens[:, 17:].any()
    assert widened(Prompts(wide.tokens[:1], lengths[:1])).tokens.shape == (1, 16)


class TestRefused:
    def test_a_nucleus_of_many_words(self, refuses):
        policy = small_policy(300)
        with refuses("captured sampling takes top_p 1 or at most 256 words, got top_p 0.9 and 300 words"):
            CapturedWriting(policy, Writing(6, END, top_p=0.9))

    def test_answers_that_would_outgrow_the_context(self, refuses):
        prompts = Prompts(torch.ones(2, 30, dtype=torch.long), torch.tensor([20, 30]))
        with refuses("the context holds 32 tokens, got a prompt of 30 and answers of up to 3"):
            CapturedWriting(small_policy(), Writing(3, END)).write(prompts, 2, stream())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("case", CASES)
def test_on_a_gpu(case):
    lengths, rollouts, longest = CASES[case]
    policy, writing = small_policy().cuda(), Writing(longest, END)
    writer = CapturedWriting(policy, writing)
    for seed in range(3):
        prompts = Prompts(*(part.cuda() for part in random_prompts(lengths, seed=seed)))
        streams = [generator("captured", seed, device="cuda") for _ in range(2)]
        wanted = write(policy, prompts, rollouts, writing, streams[0])
        assert same(writer.write(prompts, rollouts, streams[1]), wanted, 1e-10)
