"""A recipe as data, and run with TRL on a model of 5 000 weights: what it takes, what it learns, kills and refusals."""

import functools
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_llm_folder import (
    CONTEXT,
    DIGITS,
    END,
    LIKELY,
    PAD,
    UNKNOWN,
    VOCABULARY,
    save_folder,
    small_model,
    small_tokenizer,
)

from maxrl_lab.llm.jobs import evaluating, inputs, memory, training
from maxrl_lab.llm.jobs.memory import Size
from maxrl_lab.llm.jobs.processes import check_devices
from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.models import engines, evaluation, weights
from maxrl_lab.llm.models.loading import Policy, add_end
from maxrl_lab.llm.models.transformers_engine import TransformersEngine
from maxrl_lab.llm.problems import data
from maxrl_lab.llm.trl import config as trl
from maxrl_lab.runs.checkpoint import Checkpoint

CPU = torch.device("cpu")
SUMS = "reasoning_gym/chain_sum"
MADE = {"train_problems": 8, "test_problems": 4}
GIB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def small(folder):
    """Two epochs of two updates: 4 prompts of 8 rollouts each, in two micro-batches."""
    return Recipe(
        model=str(folder),
        source=SUMS,
        config=DIGITS,
        template="plain",
        chat=False,
        extraction="line",
        end="\n",
        prompts=4,
        rollouts=8,
        steps=4,
        learning_rate=1e-2,
        answer_length=2,
        micro_batch=16,
        save_every=2,
        samples=4,
        **MADE,
    )


def policy_of(made):
    return inputs.load_policy(made, CPU)


def trained(made, folder, estimator="maxrl", seed=0, policy=None):
    """The state and a row an update of a run in `folder`."""
    result = training.train(
        made, estimator, policy or policy_of(made), inputs.training_set(made, seed), folder, seed=seed
    )
    return {name: each.detach().clone() for name, each in result.policy.model.named_parameters()}, result.updates


# models


def test_memory_of_adapters_is_that_of_peft_s(small, monkeypatch):
    from peft import get_peft_model

    made = replace(small, lora=3)
    model = get_peft_model(small_model(), training._adapters(made))
    adapters = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    monkeypatch.setattr(memory, "MODELS", {made.model: Size(5000, 1, 16, 24, len(VOCABULARY), 8, 16)})
    parts = memory.memory(made)
    assert parts["gradients and optimiser"] * GIB == pytest.approx(16 * adapters)
    assert parts["weights"] * GIB == pytest.approx(4 * 5000)


def test_a_folder_is_loaded_in_float32(small, folder):
    small_model().to(torch.bfloat16).save_pretrained(folder.parent / "bfloat16")
    small_tokenizer().save_pretrained(folder.parent / "bfloat16")
    for made in (small, replace(small, model=str(folder.parent / "bfloat16"))):
        policy = policy_of(made)
        assert {each.dtype for each in policy.model.parameters()} == {torch.float32}
        assert policy.tokenizer.decode(policy.tokenizer("1 + 2\n")["input_ids"]) == "1 + 2\n"
    expected = small_model().state_dict()
    assert all(torch.equal(each, expected[name]) for name, each in policy_of(small).model.state_dict().items())


def broken(folder, place, remove=(), **files):
    """A copy of the folder without some files, and with others' contents."""
    made = Path(shutil.copytree(folder, place))
    for pattern in remove:
        for file in list(made.glob(pattern)):
            file.unlink()
    for name, content in files.items():
        (made / name.replace("__", ".")).write_bytes(content)
    return made


def test_a_model_that_is_not_there_is_one_line(small, folder, tmp_path, refuses):
    for name in ("/no/such/folder", "no-such-model", "nobody/no-such-model"):
        with pytest.raises(ValueError, match=r"\Acould not load the model '") as error:
            policy_of(replace(small, model=name))
        assert str(error.value).startswith(f"could not load the model {name!r} (")
        assert str(error.value).endswith("; offline: --model embedded, or a local folder")
        assert "\n" not in str(error.value)
    without = broken(folder, tmp_path / "without", ["*.safetensors"])
    with pytest.raises(ValueError, match=r"could not load .*no file named model\.safetensors"):
        policy_of(replace(small, model=str(without)))
    with refuses(f"the embedded language model is not prepared; prepare it with: {weights.COMMAND}"):
        policy_of(replace(small, model="embedded"))


def test_pickled_weights_are_refused(small, folder, tmp_path):
    pickled = broken(folder, tmp_path / "pickled", ["*.safetensors"])
    torch.save(small_model().state_dict(), pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"could not load .*safetensors"):
        policy_of(replace(small, model=str(pickled)))


def strange(folder, place):
    """A model whose code lies in its folder, and would leave a file beside it."""
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": "own.Tokenizer"}
    config |= {"model_type": "strange", "auto_map": own}
    code = f"open({str(place.with_name('executed'))!r}, 'w')\nclass Config: ...\n"
    return broken(folder, place, config__json=json.dumps(config).encode(), own__py=code.encode())


def without_head(folder, place):
    state = load_file(folder / "model.safetensors")
    del state["lm_head.weight"]
    made = broken(folder, place)
    save_file(state, made / "model.safetensors", metadata={"format": "pt"})
    return made


def narrower(folder, place):
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = state["lm_head.weight"][:3].clone()
    made = broken(folder, place)
    save_file(state, made / "model.safetensors", metadata={"format": "pt"})
    return made


@pytest.mark.parametrize(
    "damaged",
    [
        lambda folder, place: broken(folder, place, ["*"]),
        lambda folder, place: broken(folder, place, ["token*"]),
        lambda folder, place: broken(folder, place, ["config.json"]),
        lambda folder, place: broken(folder, place, config__json=b"{"),
        lambda folder, place: broken(folder, place, config__json=b'{"model_type": "clip"}'),
        lambda folder, place: broken(folder, place, tokenizer__json=b"{"),
        lambda folder, place: broken(folder, place, model__safetensors=b"damaged"),
        narrower,
        without_head,
    ],
    ids=["empty", "no tokenizer", "no config", "config", "no language", "tokenizer", "weights", "narrower", "no head"],
)
def test_a_folder_that_holds_no_whole_model_is_one_line(damaged, small, folder, tmp_path):
    """Above all, weights that are missing are not drawn at random."""
    made = damaged(folder, tmp_path / "damaged")
    with pytest.raises(ValueError, match=r"\Acould not load the model '") as error:
        policy_of(replace(small, model=str(made)))
    assert "\n" not in str(error.value)


def test_code_that_comes_with_a_model_is_not_run(small, folder, tmp_path, monkeypatch):
    """Nor is the user asked whether it should."""
    made = strange(folder, tmp_path / "strange")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match=r"\Acould not load the model '.*custom code"):
        policy_of(replace(small, model=str(made)))
    assert not (tmp_path / "executed").exists()


def test_the_end_of_an_answer_is_the_model_s_and_one_s_own(small, refuses):
    end, line = VOCABULARY.index(END), VOCABULARY.index("\n")
    assert policy_of(small).model.generation_config.eos_token_id == [end, line]
    assert policy_of(replace(small, end="")).model.generation_config.eos_token_id == [end]
    for text, what in (("\n\n", "2 tokens"), ("é", "unknown")):  # what the tokenizer does not know it writes as <unk>
        with refuses(f"end must be one token that the model knows, got {text!r}, which is {what}"):
            policy_of(replace(small, end=text))
    # which is a token too, if it is meant: SmolLM2's <|endoftext|> is both
    assert policy_of(replace(small, end=UNKNOWN)).model.generation_config.eos_token_id == [
        end,
        VOCABULARY.index(UNKNOWN),
    ]


def test_all_of_a_model_s_own_ends_stay():
    policy = Policy(small_model(), small_tokenizer())
    policy.model.generation_config.eos_token_id = [7, 2, 9]
    policy.tokenizer.pad_token = None
    add_end(policy, "\n")
    assert policy.model.generation_config.eos_token_id == [2, 7, 9, VOCABULARY.index("\n")]
    assert policy.tokenizer.pad_token == END
    add_end(policy, "\n")  # again, and nothing comes twice
    assert policy.model.generation_config.eos_token_id == [2, 7, 9, VOCABULARY.index("\n")]
    other = Policy(small_model(), small_tokenizer())
    other.model.generation_config.eos_token_id = None
    add_end(other, "")
    assert other.model.generation_config.eos_token_id == [2]
    assert other.tokenizer.pad_token == PAD


# problems


def test_training_and_test_share_no_question(small):
    many = replace(small, train_problems=60, test_problems=20)
    (held_out,) = inputs.held_out_sets(many).values()
    assert len(held_out) == 20
    for seed in (0, 1):
        problems = inputs.training_set(many, seed)
        assert len(set(problems["prompt"])) == 60
        assert not set(problems["prompt"]) & set(held_out["prompt"])
    first, second = (inputs.training_set(many, seed)["prompt"][:] for seed in (0, 1))
    assert first != second
    assert set(held_out["extraction"]) == {"line"}


def test_test_collections_are_the_source_s_own_or_those_that_are_named(small):
    assert list(inputs.held_out_sets(small)) == [SUMS]
    tests = ("reasoning_gym/gcd", SUMS)
    found = inputs.held_out_sets(replace(small, tests=tests))
    assert tuple(found) == tests
    assert all(set(problems["source"]) == {name} for name, problems in found.items())
    # `config` is the source's; another task has its own settings
    assert found[SUMS][:] == inputs.held_out_sets(small)[SUMS][:]


def test_worked_examples_come_before_the_question(small):
    made = replace(small, shots=2, template="Q: {question}")
    shown = data.reasoning_gym_problems("chain_sum", 2, 2047, json.loads(DIGITS), "train")
    lines = "".join(f"Q: {each['question']} {each['answer']}\n" for each in shown)  # each as the question itself
    for problems, plain in (
        (inputs.training_set(made, 0), inputs.training_set(small, 0)),
        (inputs.held_out_sets(made)[SUMS], inputs.held_out_sets(small)[SUMS]),
    ):
        assert problems["prompt"][:] == [f"{lines}Q: {question}" for question in plain["prompt"]]
        assert problems["answer"][:] == plain["answer"][:]
    # the examples are right, one a line, and no question of the test
    assert lines.count("\n") == 2
    for each in shown:
        assert eval(each["question"].split(":")[1].strip(" =")) == int(each["answer"])
        assert each["question"] not in inputs.held_out_sets(small)[SUMS]["prompt"][:]


def test_a_chat_is_a_user_s_turn(small):
    (first, *_) = inputs.training_set(replace(small, chat=True), 0)["prompt"]
    assert first == [{"role": "user", "content": inputs.training_set(small, 0)["prompt"][0]}]


# settings


def test_every_setting_reaches_the_trainer(small, tmp_path):
    made = replace(small, clip=0.3, temperature=0.8, learning_rate=3e-4, steps=7, save_every=3)
    args = training.trainer_settings(made, tmp_path, 5, CPU)
    expected = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 2,
        "num_generations": 8,
        "generation_batch_size": 32,
        "max_completion_length": 2,
        "max_steps": 7,
        "learning_rate": 3e-4,
        "max_grad_norm": 0.3,
        "temperature": 0.8,
        "save_steps": 3,
        "save_total_limit": 2,
        "seed": 5,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "use_vllm": False,
        "loss_type": "luspo",
        "importance_sampling_level": "sequence",
        "num_iterations": 1,
    }
    assert {name: getattr(args, name) for name in expected} == expected
    assert args.get_warmup_steps(100) == 0
    assert str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)) == "constant"
    trl.check_settings(args)


def test_options_reach_the_trainer(small, tmp_path, monkeypatch, refuses):
    args = training.trainer_settings(replace(small, precision="bfloat16", checkpointing=True), tmp_path, 0, CPU)
    assert args.bf16
    assert args.gradient_checkpointing
    args = training.trainer_settings(replace(small, token_mean=True), tmp_path, 0, CPU)
    assert (args.loss_type, args.importance_sampling_level) == ("dapo", "token")
    trl.check_settings(args, allow=("loss_type",))
    with pytest.raises(ValueError, match="loss_type must be 'luspo' or 'dr_grpo', got 'dapo'"):
        trl.check_settings(args)
    monkeypatch.setattr(trl, "settings", lambda _, **changes: changes)  # what follows needs GPUs, or vLLM
    monkeypatch.setenv("WORLD_SIZE", "2")
    given = training.trainer_settings(replace(small, vllm=True, end=""), tmp_path, 0, torch.device("cuda"))
    assert (given["use_vllm"], given["vllm_mode"]) == (True, "colocate")
    assert given["vllm_importance_sampling_correction"] is False
    assert given["gradient_accumulation_steps"] == 1
    assert (given["use_cpu"], given["dataloader_pin_memory"]) == (False, True)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with refuses("4 x 8 rollouts do not split over 3 devices in micro-batches of 16"):
        training.trainer_settings(small, tmp_path, 0, CPU)


@pytest.mark.parametrize(
    ("device", "visible", "processes", "advice"),
    [
        ("cpu", 8, 1, None),
        ("cuda", 1, 1, None),
        ("cuda:0", 1, 1, None),
        ("cuda:5", 8, 8, None),  # accelerate gives each process its own
        ("cuda", 2, 1, "0"),  # the trainer would take both, in threads
        ("cuda:1", 2, 1, "1"),  # the trainer would take the first
        ("cuda:0", 2, 1, "0"),
        ("cuda:1", 1, 1, "1"),
    ],
)
def test_the_trainer_takes_the_first_visible_gpu(device, visible, processes, advice, monkeypatch, refuses):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    if advice is None:
        check_devices(torch.device(device))
        return
    with refuses(
        f"expected one visible GPU, or a process for each (accelerate launch), got {device} of {visible}; "
        f"set CUDA_VISIBLE_DEVICES={advice}"
    ):
        check_devices(torch.device(device))


def test_the_engine_is_for_a_policy_or_for_its_place(small, folder, monkeypatch):
    engine = evaluating.engine(small, policy_of(small))
    assert isinstance(engine, TransformersEngine)
    assert engine.sampling == small.sampling()
    asked = []
    monkeypatch.setattr(engines, "engine", lambda *given: asked.append(given))
    policy = Policy("a model", "its tokenizer")
    for cuda in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        for model in (policy, folder, "name/on-the-hub"):
            evaluating.engine(small, model)
    assert [given[:2] for given in asked] == 2 * [policy, (folder, None), ("name/on-the-hub", None)]
    assert [given[3] for given in asked] == ["cpu"] * 3 + ["cuda"] * 3
    assert inputs.location(small) == str(folder)


def test_rows_of_the_log_by_hand():
    logged = {theirs: place / 10 for place, theirs in enumerate(training.LOGGED)}
    first = {**logged, "step": 1, "num_tokens": 60.0, "sample_time": 1.0, "step_time": 4.0}
    second = {**logged, "step": 2, "num_tokens": 100.0, "sample_time": 0.5, "step_time": 2.0}
    history = [first, {"train_runtime": 3.0}, second]
    common = {ours: index / 10 for index, ours in enumerate(training.LOGGED.values())}
    assert training.update_rows(history) == [{"step": 1, **common}, {"step": 2, **common}]
    assert training.timing_rows(history) == [
        {"step": 1, "seconds_sample": 1.0, "seconds_update": 3.0, "tokens_per_second": 15.0},
        {"step": 2, "seconds_sample": 0.5, "seconds_update": 1.5, "tokens_per_second": 20.0},
    ]


# training


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of the run that nobody kills."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(small, place):
    """Its state and its rows."""
    return trained(small, place)


def test_a_row_an_update_with_what_happened(small, place, whole):
    state, rows = whole
    finished = training.train(small, "maxrl", policy_of(small), inputs.training_set(small, 0), place, seed=0)
    assert finished.updates == rows
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    length = len(inputs.training_set(small, 0)["prompt"][0])  # all prompts have as many characters
    assert {len(each) for each in inputs.training_set(small, 0)["prompt"]} == {length}
    for row in rows:
        assert set(row) == {"step", *training.LOGGED.values()}
        assert all(math.isfinite(value) for value in row.values())
        assert (32 * row["pass_rate"]) % 1 == 0
        assert row["with_success"] == 1 - row["none_right"] / 4 >= row["pass_rate"] >= row["all_right"] / 4
        assert 1 <= row["length"] <= 2
        assert 0 <= row["cut_off"] <= 1
        assert 0 < row["entropy"] < math.log(len(VOCABULARY))
    for row, times in zip(rows, finished.timings, strict=True):
        assert times["step"] == row["step"]
        assert times["seconds_sample"] > 0 < times["seconds_update"]
        seconds = times["seconds_sample"] + times["seconds_update"]
        assert times["tokens_per_second"] * seconds == pytest.approx(32 * (length + row["length"]), rel=1e-6)
    assert any(row["pass_rate"] > 0 for row in rows)
    # a gradient wherever a group has both kinds of answers
    assert [row["gradient_norm"] > 0 for row in rows] == [row["none_right"] + row["all_right"] < 4 for row in rows]
    before = small_model().state_dict()
    assert all(not torch.equal(each, before[name]) for name, each in state.items())


def test_what_is_rewarded_is_learnt(small, tmp_path, monkeypatch):
    """One of six digits, right whatever was asked; without learning the pass rate stays at about 1/6."""

    def threes(prompts, completions, **_):
        return [float(text.startswith("3")) for text in completions]

    monkeypatch.setattr(training.rewards, "correct", threes)
    _, rows = trained(replace(small, steps=12, learning_rate=0.03, save_every=50), tmp_path)
    assert rows[0]["pass_rate"] < 0.4
    assert rows[-1]["pass_rate"] > 0.8


@pytest.mark.parametrize(
    "call",
    [pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 4],
    ids=["before a checkpoint", "between epochs", "in the second epoch"],
)
def test_a_killed_training_ends_as_if_it_had_not_been(call, small, whole, tmp_path, monkeypatch):
    """The rewards of that update never come; the same command then goes on from update 0, 1 or 3."""
    made = replace(small, save_every=1)
    own, calls = training.rewards.correct, []

    @functools.wraps(own)
    def killed(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return own(*arguments, **named)

    monkeypatch.setattr(training.rewards, "correct", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(made, tmp_path)
    state, rows = trained(made, tmp_path)
    assert len(calls) == call + 5 - call  # and what was done is not done again
    assert rows == whole[1]
    assert all(torch.equal(each, whole[0][name]) for name, each in state.items())


def test_bfloat16_arithmetic_is_not_left_behind(small, tmp_path, monkeypatch):
    """A killed training ends as if it had not been, and its policy is sampled in float32, as it is when read again."""
    made = replace(small, precision="bfloat16", steps=2, save_every=1)
    own, calls = training.rewards.correct, []
    problems, ids = inputs.training_set(made, 0), torch.arange(5, 25)[None]

    @functools.wraps(own)
    def killed(*arguments, **named):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return own(*arguments, **named)

    def ended(place):
        policy, rows, _ = training.train(made, "maxrl", policy_of(made), problems, tmp_path / place, seed=0)
        with torch.no_grad():
            return rows, policy.model.eval()(ids).logits

    monkeypatch.setattr(training.rewards, "correct", killed)
    rows, logits = ended("whole")
    assert logits.dtype == torch.float32
    with pytest.raises(KeyboardInterrupt):
        ended("killed")
    for place in ("killed", "killed", "whole"):  # continued, and twice taken from a finished checkpoint
        same_rows, same_logits = ended(place)
        assert same_rows == rows
        assert torch.equal(same_logits, logits)
    assert len(calls) == 5


@pytest.mark.parametrize("steps", [1, 4], ids=["within an epoch", "at its end"])
def test_a_finished_training_is_not_repeated(steps, small, whole, place, tmp_path, monkeypatch):
    """Killed while its policy was evaluated, say: there is not an update more."""
    made, run = replace(small, steps=steps), place if steps == 4 else tmp_path
    expected = whole if steps == 4 else trained(made, run)
    monkeypatch.setattr(training.rewards, "correct", lambda **_: pytest.fail("sampled again"))
    state, rows = trained(made, run)
    assert rows == expected[1]
    assert all(torch.equal(each, expected[0][name]) for name, each in state.items())


def test_the_estimator_and_the_loss_decide_the_gradient(small, whole, tmp_path):
    """Of the first update, whose answers are the same."""
    made = replace(small, steps=1)
    reference = whole[1][0]
    _, (other,) = trained(made, tmp_path / "reinforce", "reinforce")
    _, (mean,) = trained(replace(made, token_mean=True), tmp_path / "mean")
    for row in (other, mean):
        assert {**[reference][0], "gradient_norm": 0, "weight": 0} == {
            **[row][0],
            "gradient_norm": 0,
            "weight": 0,
        }
        assert row["gradient_norm"] != pytest.approx(reference["gradient_norm"], rel=0.05)
    assert other["weight"] == pytest.approx(1.0)  # of the expected reward
    assert mean["weight"] == reference["weight"]


def test_seeds_differ(small, whole, tmp_path):
    _, (row,) = trained(replace(small, steps=1), tmp_path, seed=1)
    assert row["entropy"] != whole[1][0]["entropy"]


def test_another_estimator_does_not_continue(small, tmp_path):
    made = replace(small, steps=2)
    trained(made, tmp_path)
    with pytest.raises(ValueError, match="was trained with estimator = 'maxrl', now it is 'grpo'"):
        trained(made, tmp_path, "grpo")
    with pytest.raises(ValueError, match="was trained with max_completion_length = 2, now it is 3"):
        trained(replace(made, answer_length=3), tmp_path)


@pytest.mark.parametrize(
    "changes", [{"precision": "bfloat16"}, {"checkpointing": True}, {"lora": 2, "checkpointing": True}], ids=str
)
def test_options_train(changes, small, whole, tmp_path):
    made = replace(small, steps=2, **changes)
    state, rows = trained(made, tmp_path)
    assert {each.dtype for each in state.values()} == {torch.float32}
    assert sum(row["gradient_norm"] for row in rows) > 0
    if changes == {"checkpointing": True}:  # computes the same, twice
        assert [row["pass_rate"] for row in rows] == [row["pass_rate"] for row in whole[1][:2]]
        assert [row["gradient_norm"] for row in rows] == pytest.approx(
            [row["gradient_norm"] for row in whole[1][:2]], rel=1e-4
        )


def test_adapters_are_trained_and_evaluated(small, tmp_path):
    """The weights stay, the adapters move, evaluation is of both, and both come back after a kill."""
    made = replace(small, lora=4, learning_rate=0.1, save_every=2, samples=20, test_temperature=1.0)
    problems = inputs.training_set(made, 0)
    policy, rows, _ = training.train(made, "maxrl", policy_of(made), problems, tmp_path / "run", seed=0)
    adapters = {name for name, each in policy.model.named_parameters() if each.requires_grad}
    assert len(adapters) == 2 * 7  # two matrices beside each of a layer's seven
    assert all("lora" in name for name in adapters)
    before = small_model().state_dict()
    for name, each in policy.model.get_base_model().state_dict().items():
        assert "lora" in name or torch.equal(each, before[name.replace(".base_layer", "")]), name

    def evaluated(policy, name):
        sets = inputs.held_out_sets(made)
        return evaluation.evaluate(evaluating.engine(made, policy), list(sets[SUMS]), Checkpoint(tmp_path / name))

    found = evaluated(policy, "trained")
    assert found != evaluated(policy_of(made), "base")
    again, same, _ = training.train(made, "maxrl", policy_of(made), problems, tmp_path / "run", seed=0)
    assert same == rows
    assert evaluated(again, "again") == found
    merged = Policy(policy.model.merge_and_unload(), policy.tokenizer)
    assert evaluated(merged, "merged") == found


def test_evaluation_counts_right_samples(small, tmp_path):
    """The untrained model writes each of six digits about as often, and a line's end; the rest is rare."""
    made = replace(small, samples=200, test_temperature=1.0, test_top_p=1.0, test_problems=12)
    problems = inputs.held_out_sets(made)[SUMS]
    rows = evaluation.evaluate(
        evaluating.engine(made, policy_of(made)), list(problems), Checkpoint(tmp_path / "rows"), key="base"
    )
    assert [row["problem"] for row in rows] == list(range(12))
    for answer, row in zip(problems["answer"], rows, strict=True):
        if answer in LIKELY:
            assert 10 < row["correct"] < 70
        else:
            assert row["correct"] < 10
        assert row["cut_off"] < 0.2


def test_a_prompt_beyond_the_context_is_one_line(small, tmp_path, refuses):
    made = replace(small, answer_length=CONTEXT)
    length = len(inputs.held_out_sets(made)[SUMS]["prompt"][0])
    with refuses(
        f"the model's context holds {CONTEXT} tokens, got a prompt of {length} and answers of up to {CONTEXT}"
    ):
        evaluation.evaluate(
            evaluating.engine(made, policy_of(made)),
            list(inputs.held_out_sets(made)[SUMS]),
            Checkpoint(tmp_path / "r"),
            key="base",
        )
