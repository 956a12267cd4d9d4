"""Recipes as data, which need no extra: bounds, the numbers of the paper, tokens, memory, presets, descriptions."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import _reproduce
from experiments.catalogue import EXPERIMENTS
from experiments.llm import llm
from experiments.llm.llm import PRESETS
from maxrl_lab import extras
from maxrl_lab.command import main
from maxrl_lab.errors import InputError
from maxrl_lab.fields import fields_of
from maxrl_lab.llm import need
from maxrl_lab.llm.jobs import describe
from maxrl_lab.llm.jobs.memory import MODELS, memory
from maxrl_lab.llm.jobs.recipe import Recipe, shrunk
from maxrl_lab.llm.jobs.recipes import RECIPES, Job, job_of
from maxrl_lab.llm.problems.sources import SOURCES

SUMS = "reasoning_gym/chain_sum"
MADE = {"train_problems": 8, "test_problems": 4}
GSM8K, QWEN, OFFLINE = "smollm2_360m_gsm8k", "qwen3_1p7b_polaris", "smollm2_135m_offline"
GIB = 2**30
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({name: 0}, f"{name} must be a whole number >= 1, got 0")
            for name in ("prompts", "rollouts", "steps", "answer_length", "prompt_length", "micro_batch", "save_every")
        ),
        *(
            ({name: -1}, f"{name} must be a whole number >= 0, got -1")
            for name in ("train_problems", "test_problems", "lora", "shots")
        ),
        *(
            ({name: value}, f"{name} must be positive and finite, got {value}")
            for name in ("learning_rate", "clip", "temperature")
            for value in (0.0, -1.0, math.inf, math.nan)
        ),
        ({"precision": "float16"}, "unknown precision 'float16'; choose one of: float32, bfloat16"),
        ({"extraction": "last"}, "unknown extraction 'last'; choose one of: boxed, line, tag, number"),
        *(
            ({name: 0}, f"{SUMS} makes its problems: train_problems and test_problems must be at least 1")
            for name in MADE
        ),
        ({"source": "gsm8k", "shots": 2}, "shots are for reasoning_gym/TASK; 'gsm8k' takes none"),
        (
            {"vllm": True, "end": "\n"},
            "vLLM ends answers by the model's own tokens only, got vllm with end = '\\n'",
        ),
        ({"micro_batch": 3}, "micro_batch must divide the 1024 rollouts of an update, got 3"),
        ({"config": "[1]"}, "config must be a JSON object, got '[1]'"),
        (
            {"config": "{"},
            "config must be JSON, got '{': Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ({"samples": 0}, "samples must be a whole number >= 1, got 0"),
        ({"test_top_p": 0.0}, "test_top_p must lie in (0, 1], got 0.0"),
        ({"test_temperature": -1.0}, "test_temperature must be finite and not negative, got -1.0"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_line(changes, message, refuses):
    with refuses(message):
        Recipe(**{**MADE, **changes})


def test_a_collection_needs_no_number_of_problems():
    made = Recipe(source="gsm8k", train_problems=0, test_problems=0)
    assert (made.train_problems, made.test_problems) == (0, 0)


def test_the_default_recipe_is_a_job_without_a_network():
    assert (Recipe().model, Recipe().source) == ("embedded", SUMS)


def test_estimators_are_checked_at_n(refuses):
    Recipe(**MADE, rollouts=4).check_estimator("pkpo:k=4")
    with refuses("pkpo with k=8 needs at least 8 rollouts in a group, got N = 4"):
        Recipe(**MADE, rollouts=4).check_estimator("pkpo:k=8")


def test_evaluation_samples_as_the_recipe_says():
    found = Recipe(**MADE, samples=5, test_temperature=0.9, test_top_p=0.8, answer_length=7).sampling(seed=3)
    asked = (found.samples, found.temperature, found.top_p, found.answer_length, found.seed)
    assert asked == (5, 0.9, 0.8, 7, 3)


def test_tokens_and_micro_batches_of_an_update(refuses):
    made = Recipe(**MADE, prompts=6, rollouts=8, micro_batch=4, prompt_length=10, answer_length=20)
    assert made.tokens_per_step == 48 * 30
    assert [made.accumulation(processes) for processes in (1, 2, 3, 12)] == [12, 6, 4, 1]
    with refuses("6 x 8 rollouts do not split over 5 devices in micro-batches of 4"):
        made.accumulation(5)
    with refuses("6 x 8 rollouts do not split over 24 devices in micro-batches of 4"):
        made.accumulation(24)


def bytes_of(*arguments):
    return {name: part * GIB for name, part in memory(*arguments).items()}


def test_memory_of_the_embedded_model_by_hand():
    # 4 + 12 bytes a parameter; 32 x 1024 tokens x 30 layers x (10 x 576 + 4 x 1536 + 3 x 192 = 12480) x 4 bytes
    expected = {
        "weights": 538.0e6,
        "gradients and optimiser": 1614.0e6,
        "activations": 49_073_356_800,
    }
    assert bytes_of(Recipe(**MADE)) == pytest.approx({**expected, "total": sum(expected.values())})


def test_memory_of_eight_gpus_by_hand():
    made = Recipe(
        model="Qwen/Qwen3-1.7B-Base",
        source="gsm8k",
        answer_length=4096,
        micro_batch=4,
        precision="bfloat16",
        checkpointing=True,
        vllm=True,
    )
    # tokens 4 x 4608 = 18432; a layer 10 x 2048 + 4 x 6144 + 3 x 1024 = 48128, beside 28 x 2048 inputs; 2 bytes
    expected = {
        "weights": 4 * 1.721e9 / 8,
        "gradients and optimiser": 12 * 1.721e9 / 8,
        "activations": 2 * 18432 * (28 * 2048 + 48128),
        # not sharded; keys and values of 64 rollouts, 2 bytes each
        "vLLM": 2 * 1.721e9 + 64 * 4608 * 28 * 2 * 1024 * 2,
    }
    assert bytes_of(made, 8) == pytest.approx({**expected, "total": sum(expected.values())})


def test_memory_of_heads_wider_than_the_model_by_hand():
    """Qwen3-4B: 32 heads of 128 beside a width of 2560; a layer keeps 8 x 2560 + 2 x 4096 + 4 x 9728 + 3 x 1024."""
    found = bytes_of(Recipe(model="Qwen/Qwen3-4B-Base", source="gsm8k", micro_batch=2, answer_length=488, lora=8))
    assert found["activations"] == pytest.approx(4 * 2 * 1000 * 36 * 70656)
    # a pair of matrices beside each of a layer's seven: q and o 2560 + 4096, k and v 2560 + 1024, three of 2560 + 9728
    adapters = 8 * 36 * (2 * 6656 + 2 * 3584 + 3 * 12288)
    assert found["gradients and optimiser"] == pytest.approx(16 * adapters)


def test_sizes_of_models_are_those_of_their_parameters():
    """Llama and Qwen3 count by their shapes; Qwen3-4B has 32 heads of 128, wider than the model."""
    assert {name: size.query_width - size.width for name, size in MODELS.items() if size.query_width != size.width} == {
        "Qwen/Qwen3-4B-Base": 4096 - 2560
    }
    for name, size in MODELS.items():
        norms = 2 * size.width + (2 * 128 if "Qwen" in name else 0)
        layer = 2 * size.width * size.query_width + 2 * size.width * size.key_width + 3 * size.width * size.mlp + norms
        counted = size.vocabulary * size.width + size.layers * layer + size.width
        assert size.parameters == pytest.approx(counted, rel=3e-4)


def test_memory_of_an_unknown_model_is_refused():
    with pytest.raises(InputError, match=r"unknown size of model 'somebody/else'; choose one of: embedded, Hugging"):
        memory(Recipe(model="somebody/else"))


def test_a_shrunk_recipe_is_the_same_job():
    made = Recipe(source="gsm8k", lora=4, token_mean=True, vllm=True, precision="bfloat16", tests=("gsm8k",))
    found = shrunk(made)
    assert found.prompts * found.rollouts * found.steps <= 16
    assert not found.vllm
    names = ("source", "lora", "token_mean", "precision", "tests", "end", "template", "learning_rate")
    assert all(getattr(found, name) == getattr(made, name) for name in names)
    assert shrunk(Recipe(source="gsm8k", end="\n")).end == "\n"


class TestNumbers:
    def test_are_those_of_the_paper(self):
        """arXiv:2602.02710v1, Tables 5 and 6: B, N, updates, rate, most tokens of a prompt and of an answer."""
        names = ("prompts", "rollouts", "steps", "learning_rate", "prompt_length", "answer_length")
        found = {key: tuple(getattr(recipe, name) for name in names) for key, recipe in RECIPES.items()}
        assert found[GSM8K] == (256, 128, 1500, 1e-5, 512, 2048)
        assert found[QWEN] == found["qwen3_4b_polaris"] == (256, 16, 1000, 1e-6, 1024, 4096)
        paper = [recipe for key, recipe in RECIPES.items() if key != OFFLINE]
        assert {(each.temperature, each.test_temperature, each.test_top_p) for each in paper} == {(1.0, 0.6, 0.95)}
        assert all(each.token_mean and each.source in ("gsm8k", "polaris") for each in paper)

    def test_answers_to_test_problems_are_as_many_as_the_papers_largest_k(self):
        """Table 4 shows pass@1024 of GSM8K; Fig. 5 pass@4096, and Table 7 votes among 4096, of POLARIS."""
        samples = {name: recipe.samples for name, recipe in RECIPES.items() if name != OFFLINE}
        assert samples == {GSM8K: 1024, QWEN: 4096, "qwen3_4b_polaris": 4096}
        shown = {"aime2024", "aime2025", "beyond_aime", "math500", "minerva", "hmmt_feb_2025", "hmmt_nov_2025"}
        assert set(RECIPES[QWEN].tests) == shown <= SOURCES.keys()

    def test_of_the_offline_recipe_are_the_experiments(self):
        full = PRESETS["full"]
        assert vars(RECIPES[OFFLINE]).items() <= vars(full).items()
        assert vars(full).keys() - vars(RECIPES[OFFLINE]).keys() == {"estimators", "seeds"}

    @pytest.mark.parametrize(
        ("name", "tokens"), [(GSM8K, 83_886_080), (QWEN, 20_971_520), ("qwen3_4b_polaris", 20_971_520)]
    )
    def test_tokens_of_an_update(self, name, tokens):
        assert RECIPES[name].tokens_per_step == tokens  # 256 x 128 x 2560; 256 x 16 x 5120

    def test_memory_of_one_by_hand(self):
        """SmolLM2-360M on 8 devices, 16 rollouts of 2560 tokens together, bfloat16, checkpointed, vLLM beside it."""
        found = memory(RECIPES[GSM8K], devices=8)
        kept = 32 * 960 + 10 * 960 + 4 * 2560 + 3 * 320  # each layer's input, and the insides of one layer
        expected = {
            "weights": 4 * 361.8e6 / 8,
            "gradients and optimiser": 12 * 361.8e6 / 8,
            "activations": 2 * 16 * 2560 * kept,
            "vLLM": 2 * 361.8e6 + 64 * 2560 * 32 * 2 * 320 * 2,
        }
        assert found.pop("total") == pytest.approx(sum(expected.values()) / GIB)
        assert found == pytest.approx({name: each / GIB for name, each in expected.items()})

    def test_fit_the_hardware_that_they_name(self):
        assert memory(RECIPES[GSM8K], 8)["total"] < 24
        assert memory(RECIPES[QWEN], 8)["total"] < 80
        assert memory(RECIPES["qwen3_4b_polaris"], 32)["total"] < 141  # an H200
        assert memory(RECIPES[OFFLINE], 1)["total"] < 12


class TestJob:
    def test_is_its_recipe_with_an_estimator_and_a_seed(self):
        for name, recipe in RECIPES.items():
            added = vars(job_of(name)).items() - vars(recipe).items()
            assert dict(added) == {"estimator": "maxrl", "seed": 0, "data": ""}

    def test_help_comes_in_groups(self):
        assert list(dict.fromkeys(field.group for field in fields_of(Job))) == [
            "The model.",
            "The problems.",
            "Training.",
            "Evaluation.",
            "Hardware.",
            "The run of the recipe.",
        ]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"estimator": "best"}, "unknown estimator 'best'"),
            ({"estimator": "pkpo:k=33"}, "pkpo with k=33 needs at least 33 rollouts in a group, got N = 32"),
            ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
            ({"seed": 2048}, f"seed must be at most 2047 for {SUMS}, got 2048"),
        ],
    )
    def test_that_cannot_be_is_refused(self, changes, message):
        with pytest.raises(InputError, match=message):
            replace(job_of(OFFLINE), **changes)

    def test_of_a_collection_takes_any_seed(self):
        assert replace(job_of(GSM8K), seed=2048).seed == 2048


class TestExperiment:
    def test_declares_no_field_of_the_recipe_again(self):
        assert set(vars(llm.Settings)["__annotations__"]) == {"estimators", "seeds"}

    def test_presets_are_one_job_at_three_sizes(self):
        smoke, quick, standard, full = PRESETS.values()
        assert standard == replace(quick, seeds=(0, 1, 2))
        for name in ("source", "config", "template", "chat", "extraction", "end"):
            assert getattr(smoke, name) == getattr(quick, name) == getattr(full, name)
        assert smoke.tokens_per_step * smoke.steps < quick.tokens_per_step * quick.steps
        assert quick.tokens_per_step * quick.steps < full.tokens_per_step * full.steps

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"seeds": ()}, "seeds needs at least one value, got none"),
            ({"seeds": (1, 1)}, "seeds must be distinct, got 1 1"),
            ({"estimators": ("maxrll",)}, "unknown estimator 'maxrll'"),
            ({"estimators": ("grpo", "grpo")}, "estimators must be distinct, got grpo grpo"),
            (
                {"estimators": ("pkpo:k=32",), "rollouts": 16},
                "pkpo with k=32 needs at least 32 rollouts in a group, got N = 16",
            ),
            ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
            ({"seeds": (0, -1)}, "seeds must be a whole number >= 0, got -1"),
            ({"seeds": (2047, 2048)}, "seeds must be at most 2047, got 2048"),
            ({"vllm": True}, r"vLLM ends answers by the model's own tokens only, got vllm with end = '\\n'"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            replace(PRESETS["quick"], **changes)


class TestDescription:
    def test_of_every_recipe_names_commands_that_its_rollouts_split_over(self):
        for name in RECIPES:
            job = job_of(name)
            devices = {"one_gpu": 1, "eight_gpus": 8, "several_nodes": 32}
            for command in describe.commands(name, job):
                for config in (each for each in devices if each in command):
                    job.accumulation(devices[config])
                if "verl_job" in command:
                    nodes, gpus = (int(command.split(flag)[1].split()[0]) for flag in ("--nodes", "--gpus"))
                    job.accumulation(nodes * gpus)
        assert not any("several" in each for each in describe.commands(OFFLINE, job_of(OFFLINE)))

    def test_of_another_model_says_that_its_size_is_not_known(self):
        assert "unknown size of model" in describe.text(GSM8K, replace(job_of(GSM8K), model="somebody/else"))


NOTHING_OF_THE_EXTRA = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.path.insert(0, {root!r})
sys.meta_path.insert(0, Block())
from maxrl_lab.command import main
status = [main(["list"]), main(["run", "llm", "--preset", "smoke"]), main(["recipe", "smollm2_135m_offline"])]
sys.exit(f"{{status}}" if status != [0, 2, 2] else 0)
"""


class TestWithoutTheExtra:
    MESSAGE = "transformers is not installed; it comes with the extra llm: pip install -e '.[llm]'"

    def test_the_commands_say_how_to_install_it_and_write_nothing(self, tmp_path):
        code = NOTHING_OF_THE_EXTRA.format(names=set(extras.EXTRAS["llm"]), root=str(ROOT))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == len(EXPERIMENTS)
        assert done.stderr.splitlines() == [f"maxrl-lab: error: {self.MESSAGE}"] * 2
        assert list(tmp_path.iterdir()) == []

    def test_what_needs_it_says_so(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(InputError, match=rf"\A{re.escape(self.MESSAGE)}\Z"):
            need("transformers")

    def test_reproduce_leaves_its_experiment_out(self, tmp_path, monkeypatch):
        reproduced = []
        monkeypatch.setattr(_reproduce, "reproduce", lambda entries, _flags: reproduced.extend(entries))
        assert main(["reproduce", "--preset", "smoke", "--out", str(tmp_path)]) == 0
        assert [entry.name for entry in reproduced] == [name for name in EXPERIMENTS if name != "llm"]


class TestTelemetry:
    CODE = """
import os
os.environ.pop("HF_HUB_DISABLE_TELEMETRY", None)
before = dict(os.environ)
import maxrl_lab.llm.jobs.train, maxrl_lab.llm.jobs.verl_job, maxrl_lab.llm.models.weights, maxrl_lab.llm.verl.config
import experiments.llm.llm, experiments.llm.difficulty
assert dict(os.environ) == before
from maxrl_lab.llm import need
need("json")
assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
"""

    def test_is_turned_off_where_the_hub_is_first_needed_and_not_when_something_is_imported(self):
        done = subprocess.run([sys.executable, "-c", self.CODE], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
