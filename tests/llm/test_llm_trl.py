"""TRL's trainer with the lab's estimators: what reaches its loss, the gradient it follows, and what it refuses.

TRL draws, shuffles and splits rollouts as it likes, so rows are told apart by their prompt and answer, not by place.
"""

import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from packaging.requirements import Requirement
from peft import LoraConfig
from scipy import stats
from small_llm import (
    END,
    LONGEST,
    MIXED,
    PROMPTS,
    WORDS,
    Parity,
    always,
    small_model,
    small_settings,
    small_state,
    small_tokenizer,
    small_trainer,
)
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM
from trl import GRPOTrainer

from maxrl_lab.llm.trl import check_settings, settings
from maxrl_lab.llm.trl import trainer as trl
from maxrl_lab.llm.trl.config import RULES

ROOT = Path(__file__).parents[2]


def maxrl(rewards):
    mean = sum(rewards) / len(rewards)
    return [(reward - mean) / mean if mean else 0.0 for reward in rewards]


def grpo(rewards):
    mean = sum(rewards) / len(rewards)
    deviation = (sum((reward - mean) ** 2 for reward in rewards) / len(rewards)) ** 0.5
    return [(reward - mean) / deviation if deviation else 0.0 for reward in rewards]


def rloo(rewards):
    others = [(sum(rewards) - reward) / (len(rewards) - 1) for reward in rewards]
    return [reward - other for reward, other in zip(rewards, others, strict=True)]


def pass_at_2(rewards):
    """2 C(N-K, 1) / C(N-1, 1) for a success: it counts if another rollout, drawn at random, has failed."""
    failures = rewards.count(0.0)
    return [2 * reward * failures / (len(rewards) - 1) for reward in rewards]


def twice_centred(rewards):
    """A user's own function, of tensors or lists."""
    mean = sum(rewards) / len(rewards)
    return [2 * (reward - mean) for reward in rewards]


def as_tensor(rewards):
    return torch.tensor(twice_centred(rewards.tolist()))


ESTIMATORS = {"maxrl": maxrl, "grpo": grpo, "rloo": rloo, "pkpo:k=2": pass_at_2, as_tensor: twice_centred}
"""What the trainer is given, and the same by hand."""
SCHEDULES = {
    "accumulated": {"max_steps": 2},
    "each generation used twice": {"num_iterations": 2, "max_steps": 4},
    "two updates a generation": {"per_device_train_batch_size": 3, "steps_per_generation": 4, "max_steps": 4},
    "one update a micro-batch": {"gradient_accumulation_steps": 1, "steps_per_generation": 2, "max_steps": 4},
}
"""Two generations of 12 rollouts each."""


def expected_rows(call, by_hand, repeats):
    """How often each (prompt ids, answer ids, advantage) of one call of the reward should reach the loss."""
    prompts, answers, rewards = call
    rows = Counter()
    for first in range(0, len(rewards), 4):
        group = slice(first, first + 4)
        assert len(set(prompts[group])) == 1
        advantages = by_hand(rewards[group])
        for prompt, answer, advantage in zip(prompts[group], answers[group], advantages, strict=True):
            rows[tuple(small_tokenizer()(prompt)["input_ids"]), tuple(answer), round(advantage, 5) + 0.0] += repeats
    return rows


class TestAdvantages:
    """What reaches `compute_loss` is the estimator of each group's own rewards."""

    @pytest.mark.parametrize(
        ("estimator", "schedule"),
        [(each, "accumulated") for each in ESTIMATORS]
        + [
            pytest.param(each, schedule, marks=[pytest.mark.slow] if each is as_tensor else [])
            for each in ("maxrl", as_tensor)
            for schedule in SCHEDULES
            if schedule != "accumulated"
        ],
    )
    def test_are_the_estimators_whatever_trl_does_with_the_rollouts(self, estimator, schedule, tmp_path):
        trainer = small_trainer(tmp_path, estimator, **SCHEDULES[schedule])
        trainer.train()
        calls = trainer.reward_funcs[0].calls
        assert len(calls) == 2
        assert 0 < sum(map(sum, (rewards for *_, rewards in calls))) < 24
        repeats = SCHEDULES[schedule].get("num_iterations", 1)
        for generation, call in enumerate(calls):
            assert trainer.rows(generation) == expected_rows(call, ESTIMATORS[estimator], repeats)
        order = [row[2] for batch in trainer.seen for row in batch if row[0] == 0][:12]
        assert order != [tuple(ids) for ids in calls[0][1]]  # and TRL has shuffled: places would not do

    def test_of_several_reward_functions_are_those_of_the_weighted_sum(self, tmp_path):
        parity = Parity()

        def watched(completion_ids, **_):
            """Counts for nothing, and has no opinion on the last answer."""
            return [0.3] * (len(completion_ids) - 1) + [None]

        trainer = small_trainer(tmp_path, reward=[parity, watched], others=always(MIXED), reward_weights=[1.0, 0.0])
        trainer.train()
        assert trainer.rows(0) == expected_rows(parity.calls[0], maxrl, 1)

    def test_of_an_evaluation_are_trls_own(self, tmp_path):
        others = {"eval_dataset": Dataset.from_dict({"prompt": list(PROMPTS[:2])}), **always(MIXED[4:8])}
        trainer = small_trainer(tmp_path, others=others, num_generations_eval=2, per_device_eval_batch_size=4)
        logged = trainer.evaluate()
        assert logged["eval_reward"] == pytest.approx(sum(trainer.reward_funcs[0].calls[0][2]) / 4)
        assert not [name for name in logged if "group" in name]
        (batch,) = trainer.seen
        rewards = trainer.reward_funcs[0].calls[0][2]
        assert rewards == [1, 0, 0, 0]
        assert [row[3] for row in batch] == [0.5, -0.5, 0, 0]  # groups of 2; maxrl's of 4 would be 3, -1, -1, -1
        trainer.train()  # a step after it is a step of ours
        assert trainer.rows(1) == expected_rows(trainer.reward_funcs[0].calls[1], maxrl, 1)


def by_sequence(model, prompt, answer, temperature):
    """The log-probability of one answer after one prompt, nothing padded and nothing shared."""
    ids = torch.tensor([[*prompt, *answer]])
    log_probs = (model(ids).logits[0] / temperature).log_softmax(-1)
    places = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return log_probs[places, torch.tensor(answer)].sum()


def slow_gradient(call, by_hand, temperature):
    """-(1/BN) sum A_i grad log m(z_i) of the untrained model, by name: one sequence at a time, in float64."""
    model = small_model(torch.float64)
    prompts, answers, rewards = call
    advantages = [each for first in range(0, len(rewards), 4) for each in by_hand(rewards[first : first + 4])]
    total = 0.0
    for prompt, answer, advantage in zip(prompts, answers, advantages, strict=True):
        ids = small_tokenizer()(prompt)["input_ids"]
        total = total - advantage * by_sequence(model, ids, answer, temperature) / len(rewards)
    total.backward()
    return {name: each.grad for name, each in model.named_parameters()}


def apart(found, wanted):
    """The norm of the difference over the norm of `wanted`, all parameters together."""
    assert found.keys() == wanted.keys()
    gap = sum(float((found[name].double() - wanted[name].double()).square().sum()) for name in wanted)
    return (gap / sum(float(each.double().square().sum()) for each in wanted.values())) ** 0.5


LOSSES = [
    ("luspo", "sequence", 1),
    ("luspo", "token", 1),
    ("dr_grpo", "sequence", LONGEST),
    ("dr_grpo", "token", LONGEST),
]


class TestGradient:
    @pytest.mark.parametrize(("loss", "level", "constant"), LOSSES)
    def test_of_a_step_is_the_estimate_summed_over_tokens(self, loss, level, constant, tmp_path):
        trainer = small_trainer(
            tmp_path,
            model=small_model(torch.float64),
            loss_type=loss,
            importance_sampling_level=level,
            temperature=0.7,
        )
        trainer.train()
        call = trainer.reward_funcs[0].calls[0]
        assert {len(answer) for answer in call[1]} >= {1, LONGEST}
        assert all(len({len(row[1]) for row in batch}) > 1 for batch in trainer.seen)  # prompts are padded
        assert 0 < sum(call[2]) < 12
        found = {name: constant * each for name, each in trainer.gradients[0].items()}
        # advantages, and the last layer's softmax, are float32 inside TRL
        assert apart(found, slow_gradient(call, maxrl, 0.7)) < 1e-6
        assert apart(found, slow_gradient(call, maxrl, 1.0)) > 0.01
        assert apart(found, slow_gradient(call, rloo, 0.7)) > 0.01

    def test_is_not_another_one_with_checkpointed_activations(self, tmp_path):
        gradients = []
        for checkpointing in (False, True):
            trainer = small_trainer(tmp_path, others=always(MIXED), gradient_checkpointing=checkpointing)
            trainer.train()
            gradients += trainer.gradients
        assert apart(*gradients) < 1e-6


class TestSeveralProcesses:
    @pytest.mark.slow  # two more imports of TRL
    def test_share_groups_and_end_where_one_process_does(self, tmp_path):
        """Each process holds a group and a half; the advantages of the middle group need the rewards of both."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1]), "WORLD_SIZE": "2"}
        listener.close()
        common |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "tests/support/small_llm.py", str(tmp_path)]
        workers = [
            subprocess.Popen(
                command,
                env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]
        said = [worker.communicate(timeout=300)[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], said
        found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
        alone = small_trainer(tmp_path, others=always(MIXED), max_steps=2)
        alone.train()
        for step, call in enumerate(alone.reward_funcs[0].calls):
            together = [row for each in found for batch in each["seen"] for row in batch if row[0] == step]
            assert Counter(row[1:] for row in together) == expected_rows(call, maxrl, 1)
        own = [{row[1] for batch in each["seen"] for row in batch if row[0] == 0} for each in found]
        assert [len(prompts) for prompts in own] == [2, 2]
        assert len(own[0] & own[1]) == 1  # the group that both have a half of
        wanted, start = small_state(alone), small_state_of(small_model())
        moved = {name: wanted[name] - start[name] for name in wanted}
        for each in found:
            assert apart({name: each["state"][name] - start[name] for name in wanted}, moved) < 1e-4


def small_state_of(model):
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def generating(**own):
    """The small model with settings of its own for generation."""
    model = small_model()
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    return model


SAMPLING = "answers would be sampled from another distribution than the one whose log-probabilities are learnt from"
BREAKING = {
    "scale_rewards": ({"scale_rewards": "group"}, "'none', got 'group': the estimator alone decides the scale"),
    "loss_type": ({"loss_type": "dapo"}, "'luspo' or 'dr_grpo', got 'dapo': the others divide by numbers of tokens"),
    "beta": ({"beta": 0.1}, "0, got 0.1: a KL penalty is another objective"),
    "router_aux_loss_coef": ({"router_aux_loss_coef": 0.1}, "0, got 0.1: a balancing loss of experts"),
    "entropy_coef": ({"entropy_coef": 0.5}, "0, got 0.5: a bonus is another objective"),
    "top_entropy_quantile": ({"top_entropy_quantile": 0.2}, "1, got 0.2: leaving tokens out"),
    "delta": ({"delta": 0.5}, "None, got 0.5: a bound on ratios below 1"),
    "vllm_structured_outputs_regex": (
        {"vllm_structured_outputs_regex": "a*"},
        "None, got 'a*': answers would be sampled",
    ),
    "vllm_importance_sampling_correction": ({"use_vllm": True}, "False, got True: it drops or reweighs rollouts"),
    "off_policy_mask_threshold": ({"off_policy_mask_threshold": 0.5}, "None, got 0.5: dropped rollouts still count"),
    "multi_objective_aggregation": (
        {"multi_objective_aggregation": "normalize_then_sum"},
        "'sum_then_normalize', got 'normalize_then_sum': an estimator needs one reward of 0 or 1",
    ),
    "top_p": ({"top_p": 0.9}, "1, got 0.9: answers would be sampled from another distribution"),
    "top_k": ({"top_k": 5}, "0, got 5: answers would be sampled"),
    "min_p": ({"min_p": 0.1}, "None, got 0.1: answers would be sampled"),
    "repetition_penalty": ({"repetition_penalty": 1.1}, "1, got 1.1: answers would be sampled"),
    "generation_kwargs": ({"generation_kwargs": {"temperature": 0.5}}, "none of "),
}
"""For every rule: settings that break it and no other, and how the refusal goes on after `NAME must be`."""


class TestSettings:
    def test_every_rule_is_broken_below(self):
        assert BREAKING.keys() == RULES.keys()

    @pytest.mark.parametrize("name", BREAKING)
    def test_that_make_another_objective_are_refused_unless_meant(self, name, tmp_path):
        changes, message = BREAKING[name]
        allow = f"; if it is meant, say allow=('{name}',)"
        with pytest.raises(ValueError, match=rf"\A{name} must be {re.escape(message)}.*{re.escape(allow)}\Z"):
            small_trainer(tmp_path / "out", **changes)
        assert not list(tmp_path.iterdir())
        check_settings(small_settings(tmp_path, **changes), allow=(name,))

    @pytest.mark.parametrize(
        "extra", [{"do_sample": False}, {"typical_p": 0.9}, {"min_new_tokens": 3}, {"no_repeat_ngram_size": 2}]
    )
    def test_other_ways_to_change_the_distribution_are_refused(self, extra, tmp_path):
        with pytest.raises(ValueError, match=r"\Ageneration_kwargs must be none of "):
            check_settings(small_settings(tmp_path, generation_kwargs=extra))
        check_settings(small_settings(tmp_path, generation_kwargs={"use_cache": False}))

    def test_no_number_of_likely_tokens_is_transformers_50(self, tmp_path, refuses):
        with pytest.raises(ValueError, match=r"\Atop_k must be 0, got None: answers would be sampled"):
            check_settings(small_settings(tmp_path, top_k=None))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("no_repeat_ngram_size", 2),
            ("no_repeat_ngram_size", 1),
            ("typical_p", 0.9),
            ("min_p", 0.1),
            ("min_new_tokens", 1),
            ("suppress_tokens", [4]),
            ("num_beams", 2),
        ],
    )
    def test_of_the_model_s_own_that_change_the_distribution_are_refused_unless_meant(
        self, name, value, tmp_path, refuses
    ):
        """transformers takes from a model's generation_config what TRL leaves open."""
        model = generating(**{name: value})
        allow = "; if it is meant, say allow=('generation_kwargs',)"
        with refuses(f"the model's generation_config has {name} = {value!r}, expected none: {SAMPLING}{allow}"):
            small_trainer(tmp_path, model=model)
        small_trainer(tmp_path, model=model, allow=("generation_kwargs",))

    def test_of_the_model_s_own_that_trl_sets_are_not_used(self, tmp_path):
        """As chat models have them, here so narrow that one token would be left. 200 answers to each of 3 prompts."""
        narrow = {"temperature": 0.6, "top_p": 0.01, "top_k": 1, "repetition_penalty": 5.0, "do_sample": False}
        neutral = {"min_length": 0, "typical_p": 1.0, "no_repeat_ngram_size": 0, "num_beams": 1, "suppress_tokens": []}
        trainer = small_trainer(
            tmp_path,
            model=generating(**narrow, **neutral),
            num_generations=200,
            per_device_train_batch_size=600,
            gradient_accumulation_steps=1,
            max_completion_length=1,
        )
        trainer.train()
        ((prompts, answers, _),) = trainer.reward_funcs[0].calls
        model, tokenizer, expected = small_model(torch.float64), small_tokenizer(), torch.zeros(len(WORDS))
        for prompt, count in Counter(prompts).items():
            with torch.no_grad():
                expected += count * model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1].softmax(-1)
        found = torch.bincount(torch.tensor([token for (token,) in answers]), minlength=len(WORDS))
        assert expected.min() > 3
        assert stats.chisquare(found, expected).pvalue > 0.01

    def test_without_a_batch_are_a_group_a_device(self, tmp_path):
        args = settings(tmp_path, num_generations=16)
        assert (args.num_generations, args.per_device_train_batch_size, args.generation_batch_size) == (16, 16, 16)
        check_settings(args)
        args = settings(tmp_path, num_generations=4, per_device_train_batch_size=8)
        assert (args.num_generations, args.per_device_train_batch_size, args.generation_batch_size) == (4, 8, 8)
        check_settings(settings(tmp_path))

    def test_a_mixture_of_experts_brings_its_own_balancing_loss(self, tmp_path):
        config = Qwen2MoeConfig(
            vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, moe_intermediate_size=16, num_hidden_layers=1,
            shared_expert_intermediate_size=16, num_attention_heads=2, num_key_value_heads=1, num_experts=2,
            num_experts_per_tok=1, eos_token_id=END, pad_token_id=0, router_aux_loss_coef=0.01,
        )  # fmt: skip
        with pytest.raises(ValueError, match=r"\Arouter_aux_loss_coef must be 0, got 0.01: a balancing loss"):
            small_trainer(tmp_path, model=Qwen2MoeForCausalLM(config))
        small_trainer(tmp_path, model=Qwen2MoeForCausalLM(config), router_aux_loss_coef=0.0)
        small_trainer(tmp_path, model=Qwen2MoeForCausalLM(config), allow=("router_aux_loss_coef",))

    def test_that_are_meant_train(self, tmp_path):
        small_trainer(tmp_path, allow=("loss_type",), loss_type="dapo").train()

    def test_of_trls_are_refused_as_they_come(self, tmp_path):
        """TRL's own defaults scale rewards and average over tokens: nobody gets that by accident."""
        args = small_settings(tmp_path, scale_rewards="group", loss_type="dapo")
        with pytest.raises(ValueError, match=r"\Ascale_rewards must be"):
            check_settings(args)
        with pytest.raises(ValueError, match=r"\Aloss_type must be"):
            check_settings(args, allow=("scale_rewards",))

    def test_unknown_names_are_not_allowed(self, tmp_path, refuses):
        with refuses(f"unknown setting to allow 'losstype'; choose one of: {', '.join(RULES)}"):
            small_trainer(tmp_path, allow=("losstype",))

    def test_an_estimator_must_exist_at_n(self, tmp_path, refuses):
        with refuses("pkpo with k=5 needs at least 5 rollouts in a group, got N = 4"):
            small_trainer(tmp_path / "out", "pkpo:k=5")
        with pytest.raises(ValueError, match=r"\Aunknown estimator 'maxlr'; choose one of: reinforce, "):
            small_trainer(tmp_path / "out", "maxlr")
        with pytest.raises(ValueError, match="order"):
            small_trainer(tmp_path / "out", lambda rewards: rewards * torch.arange(len(rewards)))
        assert not list(tmp_path.iterdir())


class TestModels:
    def test_that_are_named_are_read_from_safetensors_only(self, tmp_path):
        for place in ("safe", "pickled"):
            small_model().save_pretrained(tmp_path / place)
            small_tokenizer().save_pretrained(tmp_path / place)
        trainer = small_trainer(tmp_path / "out", model=str(tmp_path / "safe"))
        wanted = small_model().state_dict()
        assert all(torch.equal(each, wanted[name]) for name, each in trainer.model.state_dict().items())
        (tmp_path / "pickled/model.safetensors").unlink()
        torch.save(small_model().state_dict(), tmp_path / "pickled/pytorch_model.bin")
        with pytest.raises(OSError, match="safetensors"):
            small_trainer(tmp_path / "out", model=str(tmp_path / "pickled"))


LEAVE_OUT = "lost='leave_out' takes such rollouts out of their groups"


class TestRewards:
    @pytest.mark.parametrize(
        ("reward", "message"),
        [
            (0.5, "rewards must be 0 or 1 (right or wrong), got 0.5"),
            (float("inf"), "rewards must be 0 or 1 (right or wrong), got inf"),
            (None, f"every rollout needs a reward of 0 or 1, got None from all reward functions at 7; {LEAVE_OUT}"),
            ("1", "the reward function 'parity' must return numbers or None, got '1' at 7"),
        ],
    )
    def test_other_than_0_and_1_end_the_training(self, reward, message, tmp_path, refuses):
        class Wrong(Parity):
            def __call__(self, prompts, completion_ids, **others):
                rewards = super().__call__(prompts, completion_ids, **others)
                return rewards if len(self.calls) == 1 else [*rewards[:7], reward, *rewards[8:]]

        trainer = small_trainer(tmp_path, reward=Wrong(), max_steps=3, save_strategy="steps", save_steps=1)
        with refuses(message):
            trainer.train()
        assert len(trainer.gradients) == 1  # the second step is not made
        assert [each.name for each in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
        assert trl.last_checkpoint(tmp_path) == tmp_path / "checkpoint-1"

    def test_of_a_function_that_is_awaited_are_taken(self, tmp_path):
        class Awaited(Parity):
            async def __call__(self, prompts, completion_ids, **others):
                return Parity.__call__(self, prompts, completion_ids, **others)

        trainer = small_trainer(tmp_path, reward=Awaited())
        trainer.train()
        assert len(trainer.gradients) == 1

    def test_of_fewer_prompts_than_a_step_takes_are_an_error(self, tmp_path, refuses):
        """TRL says so in its log alone, and ends after 0 steps."""
        trainer = small_trainer(tmp_path)
        trainer.train_dataset = trainer.train_dataset.select(range(1))
        with refuses("nothing was trained: a generation takes 3 prompts, more than the data set has"):
            trainer.train()


class TestLogs:
    def test_by_hand(self, tmp_path):
        """Groups with K = 0, 1, 4 of 4: w_N of maxrl is (1 - (1-p)^3) / p, at p = 0, 1/4, 1: 3, 2.3125, 1."""
        trainer = small_trainer(tmp_path, others=always(MIXED), logging_strategy="steps", logging_steps=1)
        trainer.train()
        logged = trainer.state.log_history[0]
        assert {name: each for name, each in logged.items() if name.startswith("group/")} == {
            "group/pass_rate": pytest.approx(5 / 12),
            "group/with_success": pytest.approx(2 / 3),
            "group/none_right": 1,
            "group/all_right": 1,
            "group/weight": pytest.approx((3 + 2.3125 + 1) / 3),
            "group/left": 1,
        }
        assert logged["reward"] == pytest.approx(5 / 12)
        assert list(trainer._logs["advantages"]) == [0, 0, 0, 0, 3, -1, -1, -1, 0, 0, 0, 0]
        assert len(trainer._logs["prompt"]) == 12

    def test_are_means_over_the_generations_since_the_last_ones(self, tmp_path):
        trainer = small_trainer(tmp_path, logging_strategy="steps", logging_steps=2, max_steps=2)
        trainer.train()
        calls = trainer.reward_funcs[0].calls
        wanted = sum(sum(rewards) for *_, rewards in calls) / 24
        assert len(calls) == 2
        assert trainer.state.log_history[0]["group/pass_rate"] == pytest.approx(wanted)


SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4, "optim": "adamw_torch"}


class TestCheckpoints:
    @pytest.fixture(scope="class")
    @staticmethod
    def finished(tmp_path_factory):
        """The folder of a run of four steps, two of each epoch, and its parameters."""
        folder = tmp_path_factory.mktemp("finished")
        trainer = small_trainer(folder, **SAVING)
        trainer.train()
        return folder, small_state(trainer)

    def test_say_what_the_run_is(self, finished):
        folder, _ = finished
        for step in (1, 2, 3, 4):
            found = json.loads((folder / f"checkpoint-{step}" / trl.RECORD).read_text())
            assert found["estimator"] == "maxrl"
            assert found["num_generations"] == 4
            assert found["loss_type"] == "luspo"
            assert (found["steps_per_generation"], found["gradient_accumulation_steps"]) == (2, 2)
            assert found["learning_rate"] == 0.05
            assert re.fullmatch("[0-9a-f]{64}", found["table_sha256"])
        assert trl.last_checkpoint(folder) == folder / "checkpoint-4"

    @pytest.mark.parametrize("done", [1, 2, 3])
    def test_a_resumed_run_ends_where_the_whole_one_did(self, finished, tmp_path, done):
        """After 2 steps an epoch ends: the next one has another order, which is not that of the first."""
        folder, wanted = finished
        trainer = small_trainer(tmp_path, model=moved_model(), **SAVING)
        trainer.train(resume_from_checkpoint=folder / f"checkpoint-{done}")
        assert len(trainer.gradients) == 4 - done
        assert all(torch.equal(small_state(trainer)[name], wanted[name]) for name in wanted)

    def test_true_takes_the_last_complete_one(self, finished, tmp_path):
        folder, wanted = finished
        (tmp_path / "checkpoint-2").symlink_to(folder / "checkpoint-2")
        unfinished = tmp_path / "checkpoint-3"
        unfinished.mkdir()
        (unfinished / "model.safetensors").write_bytes(b"half")
        assert trl.last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
        trainer = small_trainer(tmp_path, model=moved_model(), **SAVING)
        trainer.train(resume_from_checkpoint=True)
        assert len(trainer.gradients) == 2
        assert all(torch.equal(small_state(trainer)[name], wanted[name]) for name in wanted)

    def test_the_last_one_is_last_by_number(self, tmp_path):
        for step in (9, 10, 11):
            (tmp_path / f"checkpoint-{step}").mkdir()
            if step < 11:
                (tmp_path / f"checkpoint-{step}" / trl.RECORD).write_text("{}")
        assert trl.last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"

    def test_true_starts_if_there_is_none(self, finished, tmp_path):
        _, wanted = finished
        trainer = small_trainer(tmp_path, **SAVING | {"save_strategy": "no"})
        trainer.train(resume_from_checkpoint=True)
        assert all(torch.equal(small_state(trainer)[name], wanted[name]) for name in wanted)

    @pytest.mark.parametrize(
        ("estimator", "changes", "message"),
        [
            ("rloo", {}, "estimator = 'maxrl', now it is 'rloo'"),
            ("maxrl", {"num_generations": 6}, "table_sha256 = "),
            ("maxrl", {"loss_type": "dr_grpo"}, "loss_type = 'luspo', now it is 'dr_grpo'"),
            ("maxrl", {"temperature": 0.5}, "temperature = 1.0, now it is 0.5"),
            ("maxrl", {"num_iterations": 2}, "num_iterations = 1, now it is 2"),
            ("maxrl", {"steps_per_generation": 4}, "steps_per_generation = 2, now it is 4"),
            (
                "maxrl",
                {"gradient_accumulation_steps": 1, "steps_per_generation": 2},
                "gradient_accumulation_steps = 2, now it is 1",
            ),
            ("maxrl", {"learning_rate": 0.01}, "learning_rate = 0.05, now it is 0.01"),
        ],
    )
    def test_of_another_run_are_refused(self, finished, tmp_path, estimator, changes, message):
        checkpoint = finished[0] / "checkpoint-2"
        trainer = small_trainer(tmp_path, estimator, **SAVING | changes)
        before = small_state(trainer)
        with pytest.raises(ValueError, match=rf"\A{re.escape(f'{checkpoint} was trained with {message}')}[^\n]*\Z"):
            trainer.train(resume_from_checkpoint=checkpoint)
        assert not trainer.gradients
        assert all(torch.equal(each, before[name]) for name, each in small_state(trainer).items())

    @pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"])
    @pytest.mark.parametrize("damage", ["a bit", "cut off", "removed"])
    def test_a_damaged_file_is_named_and_not_trusted(self, finished, tmp_path, name, damage):
        checkpoint = shutil.copytree(finished[0] / "checkpoint-2", tmp_path / "checkpoint-2")
        content = bytearray((checkpoint / name).read_bytes())
        content[len(content) // 2] ^= 2
        (checkpoint / name).write_bytes(content if damage == "a bit" else content[: len(content) // 2])
        if damage == "removed":
            (checkpoint / name).unlink()
        with pytest.raises(ValueError, match=rf"checkpoint-2 is damaged \({name}\): remove it to go on") as error:
            trl.refuse_other_record(checkpoint, {})
        assert "\n" not in str(error.value)

    def test_a_function_of_the_same_name_is_another_estimator(self, tmp_path):
        def same(rewards):
            return rewards - rewards.mean()

        small_trainer(tmp_path, same, **SAVING | {"max_steps": 2}).train()

        def same(rewards):
            return 2 * (rewards - rewards.mean())

        with pytest.raises(ValueError, match=r"was trained with table_sha256 = "):
            small_trainer(tmp_path, same, **SAVING).train(resume_from_checkpoint=True)

    def test_an_older_record_does_not_vouch_for_one_that_is_half_written(self, tmp_path, monkeypatch):
        trainer = small_trainer(tmp_path)
        monkeypatch.setattr(GRPOTrainer, "_save_checkpoint", lambda *_: None)
        trainer._save_checkpoint(trainer.model, None)
        assert trl.last_checkpoint(tmp_path) == tmp_path / "checkpoint-0"

        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(GRPOTrainer, "_save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            trainer._save_checkpoint(trainer.model, None)
        assert trl.last_checkpoint(tmp_path) is None

    def test_without_a_record_are_refused_by_name(self, tmp_path):
        (tmp_path / "checkpoint-1").mkdir()
        with pytest.raises(ValueError, match=r"checkpoint-1 is no complete checkpoint of this trainer: maxrl_lab.json"):
            small_trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def moved_model():
    """The small model with other weights: what a checkpoint must replace."""
    model = small_model()
    with torch.no_grad():
        for each in model.parameters():
            each.mul_(0.5)
    return model


TWO_STEPS = {"max_steps": 2, "optim": "adamw_torch"}


class TestVariants:
    """Two steps of each way to save memory, and what they change."""

    def moved(self, trainer):
        before = small_state(trainer)
        trainer.train()
        return {name for name, each in small_state(trainer).items() if not torch.equal(each, before[name])}

    def test_bfloat16_arithmetic_moves_float32_weights(self, tmp_path):
        trainer = small_trainer(tmp_path, others=always(MIXED), bf16=True, **TWO_STEPS)
        moved = self.moved(trainer)
        assert moved == set(small_state(trainer))
        assert {each.dtype for each in trainer.model.parameters()} == {torch.float32}
        exact = small_trainer(tmp_path, others=always(MIXED))
        exact.train()
        assert 1e-5 < apart(trainer.gradients[0], exact.gradients[0]) < 0.1

    def test_checkpointed_activations_move_all(self, tmp_path):
        trainer = small_trainer(tmp_path, gradient_checkpointing=True, **TWO_STEPS)
        assert self.moved(trainer) == set(small_state(trainer))

    def test_lora_moves_its_adapters_only(self, tmp_path):
        lora = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        trainer = small_trainer(tmp_path, others={"peft_config": lora}, **TWO_STEPS)
        moved = self.moved(trainer)
        assert moved == {name for name in small_state(trainer) if "lora_" in name}
        assert len(moved) == 2 * 2 * 2  # layers, projections, A and B


class TestWhatTrlMustKeep:
    """`maxrl_lab.llm.trl` wraps private methods of TRL's; these say what has moved, if something has."""

    def hint(self, what):
        return f"TRL {version('trl')}: {what}; maxrl_lab/llm/trl/trainer.py relies on it, see its docstring"

    def test_the_installed_version_is_in_the_range_of_the_extra(self):
        tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["llm"]
        (wanted,) = [Requirement(each) for each in extras if Requirement(each).name == "trl"]
        assert str(wanted.specifier), "the extra `llm` must pin TRL"
        assert wanted.specifier.contains(version("trl")), self.hint(f"the extra `llm` asks for {wanted.specifier}")

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("_calculate_rewards", ["inputs", "prompts", "completions", "completion_ids_list"]),
            ("_generate_and_score_completions", ["inputs"]),
            ("_save_checkpoint", ["model", "trial"]),
            ("_get_output_dir", ["trial"]),
        ],
    )
    def test_private_methods_take_what_they_took(self, name, parameters):
        method = getattr(GRPOTrainer, name, None)
        assert method is not None, self.hint(f"GRPOTrainer.{name} is gone")
        found = list(inspect.signature(method).parameters)[1:]
        assert found == parameters, self.hint(f"GRPOTrainer.{name} takes {found}, not {parameters}")

    def test_rewards_are_gathered_inside_of_scoring_and_advantages_come_out(self, tmp_path, monkeypatch):
        trainer = small_trainer(tmp_path, reward=[Parity(), Parity()], reward_weights=[1.0, 0.0], others=always(MIXED))
        events = []

        def note(name):
            own = getattr(GRPOTrainer, name)

            def noted(self, *args, **others):
                events.append(f"{name} begins")
                found = own(self, *args, **others)
                events.append(found)
                return found

            monkeypatch.setattr(GRPOTrainer, name, noted)

        for name in ("_calculate_rewards", "_generate_and_score_completions"):
            note(name)
        trainer.train()
        outer, inner, rewards, batch = events
        order = ["_generate_and_score_completions begins", "_calculate_rewards begins"]
        assert [outer, inner] == order, self.hint("the order of generation and rewards is another one")
        assert rewards.shape == (12, 2), self.hint(f"rewards have shape {tuple(rewards.shape)}, not (B N, functions)")
        assert batch["advantages"].shape == (12,), self.hint("the batch has no advantages (B N,)")
        for name in ("train", "eval"):
            assert name in trainer._metrics, self.hint(f"_metrics has no {name!r}")
        assert trainer._logs["advantages"].maxlen == 12, self.hint("_logs['advantages'] holds another number of rows")

    def test_a_batch_without_rewards_is_an_error(self, tmp_path, monkeypatch):
        def own(self, inputs):
            return {"advantages": torch.zeros(len(inputs))}

        trainer = small_trainer(tmp_path)
        monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", own)
        trainer.model.train()
        with pytest.raises(RuntimeError, match="its internals have moved"):
            trainer._generate_and_score_completions([{"prompt": "a"}])


def test_the_fixed_answers_are_what_they_say():
    rewards = [sum(answer) % 2 for answer in MIXED]
    assert [sum(rewards[first : first + 4]) for first in (0, 4, 8)] == [0, 1, 4]
    assert {answer[-1] == END for answer in MIXED} == {True, False}
