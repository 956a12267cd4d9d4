"""Policies on disk: `transformers` opens what the lab saved, the lab opens what it saved, and their logits agree."""

import json

import pytest
import torch
import transformers
from small_policy import random_prompts, small_policy

from maxrl_lab.llm.models import loading
from maxrl_lab.policies.stack import seeded
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.tokens import attention, pretrained
from maxrl_lab.tokens.sampling import sample
from maxrl_lab.tokens.scoring import read

WORDS = ["<pad>", "<bos>", "<eos>", "UP", "DOWN", "12", "+", "x_1"]


def logits_of(policy, tokens):
    with torch.no_grad():
        return policy.logits(policy.hidden(tokens, torch.arange(tokens.shape[1]), attention.Causal()))


def theirs(model, tokens):
    with torch.no_grad():
        return model(tokens).logits


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def saved(request, tmp_path_factory):
    policy = small_policy(len(WORDS), dtype=torch.float32, tied=request.param)
    folder = tmp_path_factory.mktemp("policy")
    pretrained.save(policy, folder, WORDS)
    return policy, folder


def test_opens_what_the_lab_saved_with_equal_logits(saved):
    policy, folder = saved
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "Qwen2ForCausalLM"
    assert model.dtype == torch.float32
    assert sum(part.numel() for part in model.parameters()) == sum(part.numel() for part in policy.parameters())
    tokens, _ = random_prompts([20, 20, 20], len(WORDS))
    found, wanted = logits_of(policy, tokens), theirs(model, tokens)
    assert wanted.std() > 1
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_papers_shape(tmp_path):
    policy = seeded(lambda: Transformer(Shape()), 0)
    pretrained.save(policy, tmp_path, [f"w{word}" for word in range(32)])
    tokens, _ = random_prompts([100, 100], 32)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits_of(policy, tokens), theirs(model, tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_what_it_saved_opens_in_the_lab(tmp_path, tied):
    config = transformers.Qwen2Config(
        vocab_size=11,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=3,
        intermediate_size=40,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model.save_pretrained(tmp_path)
    policy = pretrained.load(tmp_path)
    rope_theta = json.loads((tmp_path / "config.json").read_text())["rope_parameters"]["rope_theta"]
    assert policy.shape == Shape(11, 24, 3, 6, 3, 40, 64, rope_theta, 1e-5, tied)
    tokens, _ = random_prompts([30, 30], 11)
    assert torch.allclose(logits_of(policy, tokens), theirs(model, tokens), atol=1e-5, rtol=1e-5)


def test_generates_the_labs_greedy_answers(saved):
    policy, folder = saved
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens, lengths = random_prompts([5, 5, 5, 5], len(WORDS))
    tokens = tokens.clamp(min=3)  # no end and no padding in a prompt
    found = sample(policy, read(policy, tokens, lengths), None, end=2, answers=(1, 8)).tokens[:, 0]
    with torch.no_grad():
        written = model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=8)[
            :, 5:
        ]
    assert torch.equal(torch.nn.functional.pad(written, (0, 8 - written.shape[1])), found)


def test_a_padding_token_in_a_text_has_its_gradient(saved):
    """`transformers` gives none to the embedding of a padding token that config.json names."""
    policy, folder = saved
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.tensor([[1, 3, 0, 4, 2]])
    targets = torch.tensor([[3, 0, 4, 2, 3]])

    def gradient(logits, parameter):
        log_probs = logits.log_softmax(-1).gather(-1, targets[..., None])
        return torch.autograd.grad(log_probs.sum(), parameter)[0]

    wanted = gradient(model(tokens).logits, model.model.embed_tokens.weight)
    found = gradient(policy.logits(policy.hidden(tokens, torch.arange(5), attention.Causal())), policy.embedding)
    assert wanted[0].abs().max() > 0.01
    assert torch.allclose(found, wanted, atol=1e-4, rtol=1e-4)
    assert model.generation_config.pad_token_id == 0  # what ended answers are filled with


def test_its_tokenizer_knows_the_words_by_their_ids(saved):
    _, folder = saved
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert len(tokenizer) == len(WORDS)
    assert tokenizer("UP DOWN 12 + x_1").input_ids == [3, 4, 5, 6, 7]
    assert tokenizer("<bos> UP <eos> <pad>").input_ids == [1, 3, 2, 0]
    assert tokenizer("UP elsewhere").input_ids == [3, 0]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.decode([1, 3, 6, 5, 2]) == "<bos> UP + 12 <eos>"
    assert tokenizer.decode([1, 3, 6, 5, 2], skip_special_tokens=True) == "UP + 12"
    assert tokenizer.model_max_length == 32


def test_the_lab_reads_back_the_words_that_it_saved(saved):
    _, folder = saved
    tokenizer = loading.load(folder).tokenizer
    assert tokenizer.decode([3, 6, 5, 7]) == "UP + 12 x_1"
    assert tokenizer("UP + 12 x_1")["input_ids"] == [3, 6, 5, 7]
