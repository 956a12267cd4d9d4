"""Recipes for fine-tuning: numbers, descriptions, dry runs, and their form for accelerate and verl."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env

from experiments import __main__ as cli
from experiments.llm.llm import PRESETS
from maxrl_lab.command import main
from maxrl_lab.llm.jobs import describe, dry_run, train, training, verl_job
from maxrl_lab.llm.jobs.recipe import Recipe, memory
from maxrl_lab.llm.jobs.recipes import RECIPES, settings_of
from maxrl_lab.llm.problems import rewards
from maxrl_lab.llm.trl import trainer as trl
from maxrl_lab.llm.verl import config as verl_config
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.files import write_json
from maxrl_lab.runs.folder import is_complete, read_tables

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "experiments/llm/accelerate"
GSM8K, QWEN, OFFLINE = "smollm2_360m_gsm8k", "qwen3_1p7b_polaris", "smollm2_135m_offline"
GIB = 2**30


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The GSM8K recipe at the size of a dry run: a tiny model, local problems."""
    folder = tmp_path_factory.mktemp("tiny")
    return dry_run.prepared(dry_run.small(settings_of(GSM8K)), folder)


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

    def test_of_the_offline_recipe_are_the_experiments(self):
        names = [field.name for field in fields(Recipe) if field.name != "hardware"]
        assert all(getattr(RECIPES[OFFLINE], name) == getattr(PRESETS["full"], name) for name in names)

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


class TestDescription:
    def test_by_the_command_that_a_user_types(self, monkeypatch, capsys):
        monkeypatch.chdir(ROOT)  # the commands name files from here
        assert main(["recipe", QWEN, "--describe", "--estimator", "pkpo:k=4"]) == 0
        said = capsys.readouterr().out
        lines = said.splitlines()
        assert "hardware: 32 H200s, 4 nodes of 8, as in the paper; 8 GPUs of 80 GB hold it" in lines
        assert "20,971,520 tokens" in said
        table = {line.split()[0]: line.split()[-1] for line in lines if line.split()[:1] in (["1"], ["8"], ["32"])}
        assert table == {str(count): f"{memory(RECIPES[QWEN], count)['total']:.1f}" for count in (1, 8, 32)}
        for command in (line.strip() for line in lines if "_gpu" in line or "several_nodes" in line):
            assert Path(ROOT, command.split()[3]).is_file()
            assert "pkpo:k=4" in command

    def test_of_every_recipe_names_commands_that_its_rollouts_split_over(self):
        for name in RECIPES:
            settings = settings_of(name)
            devices = {"one_gpu": 1, "eight_gpus": 8, "several_nodes": 32}
            for command in describe.commands(name, settings):
                for config in (each for each in devices if each in command):
                    settings.accumulation(devices[config])
                if "verl_job" in command:
                    nodes, gpus = (int(command.split(flag)[1].split()[0]) for flag in ("--nodes", "--gpus"))
                    settings.accumulation(nodes * gpus)
        assert not any("several" in each for each in describe.commands(OFFLINE, settings_of(OFFLINE)))

    def test_repeats_what_the_user_has_changed(self):
        changed = {"learning_rate": 3e-6, "tests": ("math500", "minerva"), "vllm": False, "estimator": "pkpo:k=N/2"}
        changed |= {"template": 'Q: {question}\nIt\'s "A": ', "end": "\n", "seed": 7}
        asked = replace(settings_of(QWEN), **changed)
        listed = describe.commands(QWEN, asked)
        assert len(listed) == 5
        for command in listed:
            arguments = shlex.split(command)
            arguments = arguments[arguments.index(QWEN) :]
            if "verl_job" in command:
                assert arguments[-5:] == ["--nodes", "4", "--gpus", "8", "--run"]
                arguments = arguments[:-5]
            name, found, _ = train.read(arguments)
            assert (name, replace(found, tests=tuple(found.tests))) == (QWEN, asked)
        assert describe.commands(QWEN, settings_of(QWEN))[0] == (
            f"python -m experiments.llm.train {QWEN} --estimator maxrl --dry-run"
        )

    def test_of_another_model_says_that_its_size_is_not_known(self):
        assert "unknown size of model" in describe.text(GSM8K, replace(settings_of(GSM8K), model="somebody/else"))


class TestDryRun:
    @pytest.mark.parametrize(("name", "kind"), [pytest.param(GSM8K, "llama", marks=pytest.mark.slow), (QWEN, "qwen3")])
    def test_goes_from_end_to_end(self, name, kind, tmp_path, monkeypatch, capfd):
        monkeypatch.chdir(tmp_path)
        assert main(["recipe", name, "--dry-run", "--estimator", "pkpo:k=2"]) == 0
        said = capfd.readouterr().out
        assert "killed after update 1" in said
        assert f"by pkpo:k=2 on a random {kind}; pass rates" in said
        assert "weights moved" in said
        assert said.count("ok: ") == len(said.splitlines()) == 6
        assert list(tmp_path.iterdir()) == []

    def test_is_one_process(self, monkeypatch, capsys):
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert main(["recipe", GSM8K, "--dry-run"]) == 2
        assert "a dry run is one process; start it without accelerate launch" in capsys.readouterr().err

    def test_takes_groups_in_which_the_estimator_exists(self):
        assert dry_run.small(replace(settings_of(GSM8K), estimator="pkpo:k=16")).rollouts == 16
        with pytest.raises(ValueError, match=r"groups of up to 64 rollouts: pkpo with k=100"):
            dry_run.small(replace(settings_of(GSM8K), estimator="pkpo:k=100"))

    def test_fails_where_everything_is_right(self, tiny, monkeypatch):
        monkeypatch.setattr(rewards, "is_right", lambda text, problem: True)
        with pytest.raises(ValueError, match="the reward must tell"):
            dry_run._inputs(tiny)

    def test_fails_where_a_killed_run_starts_again(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setattr(trl, "last_checkpoint", lambda folder: None)
        with pytest.raises(ValueError, match=r"began at \[0, 0\]"):
            dry_run._training(GSM8K, tiny, tmp_path / "run")


class TestTraining:
    def test_a_killed_run_ends_where_one_that_was_not_does(self, tiny, tmp_path):
        whole = train.run(GSM8K, tiny, tmp_path / "whole", "cpu")
        kill = dry_run._Watch().callback(kill=True)
        with pytest.raises(KeyboardInterrupt):
            train.run(GSM8K, tiny, tmp_path / "killed", "cpu", callbacks=[kill])
        assert not is_complete(tmp_path / "killed")
        with pytest.raises(ValueError, match=r"other settings \(learning_rate = 1e-05 there, 0.001 now\)"):
            train.run(GSM8K, replace(tiny, learning_rate=1e-3), tmp_path / "killed", "cpu")
        continued = train.run(GSM8K, tiny, tmp_path / "killed", "cpu")
        assert continued.equals(whole)
        weights = [(tmp_path / name / "policy/model.safetensors").read_bytes() for name in ("whole", "killed")]
        assert weights[0] == weights[1]
        assert not (tmp_path / "killed/checkpoint").exists()
        assert not list(tmp_path.rglob("*.bin"))

    def test_leaves_out_prompts_that_are_too_long(self, tiny, capsys):
        problems = training.training_set(tiny, 0, Path(tiny.data))
        tokenizer = training.load_policy(tiny, train.torch.device("cpu")).tokenizer
        lengths = [len(train.sampling.encode(tokenizer, each["prompt"])) for each in problems]
        assert min(lengths) < max(lengths)
        found = train.fits(problems, tokenizer, max(lengths) - 1)
        assert len(found) == sum(length < max(lengths) for length in lengths)
        assert "are left out" in capsys.readouterr().err
        assert train.fits(problems, tokenizer, max(lengths)) is problems
        with pytest.raises(ValueError, match="none of the 8 prompts has at most prompt_length = 3 tokens"):
            train.fits(problems, tokenizer, 3)

    def test_needs_vllm_where_the_recipe_does_before_anything_is_computed(self, tmp_path, monkeypatch, refuses):
        monkeypatch.setattr(train, "find_spec", lambda _: None)
        monkeypatch.setattr(train, "Processes", lambda _: pytest.fail("has begun"))
        with refuses(f"{GSM8K} draws answers with vLLM, which is not installed: pip install vllm, or --vllm False"):
            train.run(GSM8K, settings_of(GSM8K), tmp_path / "run", "cpu")
        assert list(tmp_path.iterdir()) == []

    def test_needs_a_gpu_of_its_own(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setattr(train.cli, "find_device", train.torch.device)
        monkeypatch.setattr(train.torch.cuda, "device_count", lambda: 2)
        with pytest.raises(ValueError, match=r"expected one visible GPU, .* got cuda:1 of 2"):
            train.run(GSM8K, tiny, tmp_path / "run", "cuda:1")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("vllm", "changes", "when", "by_name"),
        [
            (True, {}, "before", True),
            (True, {}, "after", True),
            (True, {"end": "\n"}, "before", False),  # the folder does not name that end yet
            (True, {"end": "\n"}, "after", True),
            (True, {"lora": 2}, "after", False),
            (False, {}, "after", False),
        ],
    )
    def test_is_evaluated_by_vllm_where_that_knows_the_whole_model(
        self, tiny, tmp_path, monkeypatch, vllm, changes, when, by_name
    ):
        asked = []

        def engine(recipe, policy):
            asked.append((recipe.model, policy))
            raise KeyboardInterrupt

        monkeypatch.setattr(train.engines, "has_vllm", lambda _: vllm)
        monkeypatch.setattr(training, "load_policy", lambda recipe, _: f"read from {recipe.model}")
        monkeypatch.setattr(training, "engine", engine)
        with pytest.raises(KeyboardInterrupt):
            train.evaluate(replace(tiny, **changes), "a/model", when, Checkpoint(tmp_path), train.torch.device("cpu"))
        assert asked == [("a/model", "a/model" if by_name else "read from a/model")]

    def test_goes_to_one_folder_whatever_the_estimator_s_name(self, monkeypatch):
        asked = []
        monkeypatch.setattr(train, "run", lambda name, settings, folder, *_, **__: asked.append(folder))
        for estimator in ("maxrl_order:order=N/2", "maxrl_order:order=N-2"):
            assert train.main([OFFLINE, "--estimator", estimator, "--seed", "3"]) == 0
        place = Path("results/recipes") / OFFLINE
        assert asked == [place / "maxrl_order-order=N_2-3", place / "maxrl_order-order=N-2-3"]

    @pytest.mark.slow  # three times 20 s
    def test_of_two_processes_is_that_of_one(self, tiny, tmp_path):
        base, own = settings_of(GSM8K), {field.name: getattr(tiny, field.name) for field in fields(tiny)}
        flags = [f"--{key}={value}" for key, value in own.items() if value != getattr(base, key)]
        command = ["-m", "experiments.llm.train", GSM8K, *flags, "--micro_batch=2", "--device=cpu"]
        launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1"]
        launch += ["--mixed_precision=no", "--dynamo_backend=no"]
        for name, start in (("alone", []), ("together", launch)):
            asked = [sys.executable, *start, *command, f"--out={tmp_path / name}"]
            done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        alone, together = (read_tables(tmp_path / name)["rows"] for name in ("alone", "together"))
        assert len(alone) == len(together) == 6
        assert set(together.columns) == set(alone.columns)
        assert len(json.loads((tmp_path / "together/provenance.json").read_text())["sessions"]) == 1
        again = [sys.executable, *launch, *command, f"--out={tmp_path / 'together'}", "--estimator=rloo"]
        done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, timeout=300)  # nobody waits for ever
        assert done.returncode != 0
        assert "maxrl-lab: error: " in done.stderr


class TestAccelerate:
    @pytest.mark.parametrize(("name", "processes"), [("one_gpu", 1), ("eight_gpus", 8), ("several_nodes", 32)])
    def test_reads_the_configurations(self, name, processes):
        config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
        assert config.num_processes == processes
        assert config.num_machines == max(1, processes // 8)
        assert config.mixed_precision == "no"  # the recipe's own word counts
        assert str(config.distributed_type.value) == ("FSDP" if processes > 1 else "NO")

    @pytest.mark.parametrize("name", ["eight_gpus", "several_nodes"])
    def test_shards_by_fsdp2(self, name, monkeypatch):
        """As `accelerate launch` hands the file to its processes, and as those read it."""
        given = ["--config_file", str(CONFIGS / f"{name}.yaml"), "-m", "experiments.llm.train"]
        arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(given))
        for key, value in prepare_multi_gpu_env(arguments).items():
            monkeypatch.setenv(key, value)
        assert os.environ["ACCELERATE_USE_FSDP"] == "true"
        plugin = FullyShardedDataParallelPlugin()
        assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
        assert str(plugin.state_dict_type) == "StateDictType.FULL_STATE_DICT"
        assert not plugin.cpu_ram_efficient_loading
        assert not plugin.activation_checkpointing

    def test_leaves_the_precision_to_the_recipe(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        for name in RECIPES:
            asked = replace(settings_of(name), vllm=False)
            args = training.trainer_settings(asked, tmp_path, 0, train.torch.device("cpu"))
            assert args.mixed_precision == "bf16"
            assert args.gradient_accumulation_steps * args.per_device_train_batch_size == asked.prompts * asked.rollouts


class TestVerl:
    @pytest.mark.parametrize("name", RECIPES)
    def test_configuration_says_what_the_recipe_says(self, name, tmp_path):
        settings = replace(settings_of(name), estimator="pkpo:k=N/2", learning_rate=3e-7, seed=5)
        folder = tmp_path / "with a space, and {signs}"
        config = verl_config.compose(verl_job.overrides(settings, folder, 1, 8))
        verl_config.check_config(config)
        actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
        assert config.algorithm.adv_estimator == "maxrl_lab/pkpo"
        assert config.algorithm.maxrl_lab.k == settings.rollouts // 2
        assert (config.data.train_batch_size, actor.ppo_mini_batch_size) == (settings.prompts,) * 2
        assert (rollout.n, rollout.val_kwargs.n) == (settings.rollouts, settings.samples)
        assert (actor.optim.lr, actor.optim.weight_decay, actor.grad_clip) == (3e-7, 0, settings.clip)
        assert actor.loss_agg_mode == ("token-mean" if settings.token_mean else "seq-mean-token-sum")
        assert (config.data.max_prompt_length, rollout.response_length) == (
            settings.prompt_length,
            settings.answer_length,
        )
        assert (rollout.val_kwargs.temperature, rollout.val_kwargs.top_p) == (0.6, 0.95)
        assert config.trainer.total_training_steps == settings.steps
        assert (config.trainer.nnodes, config.trainer.n_gpus_per_node, config.data.seed) == (1, 8, 5)
        assert config.data.train_files == str(folder / "train.parquet")
        assert len(config.data.val_files) == len(settings.tests or (1,))
        model = config.actor_rollout_ref.model
        assert model.path == (str(folder / "model") if name == OFFLINE else settings.model)
        assert bool(model.custom_chat_template) is not settings.chat

    def test_is_refused_without_the_permission_to_average_over_tokens(self, tmp_path):
        asked = verl_job.overrides(settings_of(GSM8K), tmp_path, 1, 8)
        (allowed,) = (each for each in asked if "allow" in each)
        asked.remove(allowed)
        with pytest.raises(ValueError, match="favours short right answers"):
            verl_config.check_config(verl_config.compose(asked))

    def test_dry_run_uses_verls_own_code_and_says_what_it_leaves_out(self, capfd):
        assert verl_job.main([OFFLINE, "--dry-run", "--estimator", "pkpo:k=N/2"]) == 0
        said = capfd.readouterr().out
        assert "verl's compute_advantage of 2 x 32 rollouts gives pkpo:k=N/2" in said
        assert "8 of train, 2 of test-reasoning_gym-chain_sum" in said
        assert "State the final answer" in said  # a plain prompt stays one
        assert "not checked: Ray's workers" in said

    def test_job_writes_its_files_and_prints_its_command(self, tiny, tmp_path, capsys):
        flags = ["--data", tiny.data, "--train_problems", "8", "--test_problems", "2", "--out", str(tmp_path / "job")]
        assert verl_job.main([GSM8K, *flags, "--nodes", "4"]) == 0
        names = {each.name for each in (tmp_path / "job").iterdir()}
        assert names == {"train.parquet", "test-gsm8k_platinum.parquet", "settings.json"}
        python, module, main, *asked = shlex.split(capsys.readouterr().out)
        assert (python, module, main) == ("python", "-m", "verl.trainer.main_ppo")
        assert asked == verl_job.overrides(
            replace(settings_of(GSM8K), data=tiny.data, train_problems=8, test_problems=2), tmp_path / "job", 4, 8
        )
        asked = replace(settings_of(GSM8K), data=tiny.data, train_problems=8, test_problems=2)
        verl_job.refuse_other_job(tmp_path / "job", asked)  # the same goes on
        with pytest.raises(
            ValueError, match=r"job holds a job with other settings \(tests = \['gsm8k_platinum'\] there"
        ):
            verl_job.refuse_other_job(tmp_path / "job", replace(asked, tests=("math500",)))

    def test_job_of_other_settings_is_not_continued(self, tmp_path, refuses):
        asked, file = settings_of(GSM8K), tmp_path / "settings.json"
        verl_job.refuse_other_job(tmp_path / "none", asked)
        assert not (tmp_path / "none").exists()
        write_json(file, asdict(asked))
        before = file.read_bytes()
        verl_job.refuse_other_job(tmp_path, asked)
        with refuses(
            f"{tmp_path} holds a job with other settings (estimator = 'maxrl' there, 'rloo' now); choose another --out"
        ):
            verl_job.refuse_other_job(tmp_path, replace(asked, estimator="rloo"))
        assert file.read_bytes() == before
        file.write_bytes(before[:-5])
        with pytest.raises(ValueError, match=r"settings.json is not readable JSON \(.*\); choose another --out\Z"):
            verl_job.refuse_other_job(tmp_path, asked)


WRONG = [
    ([], "usage: maxrl-lab recipe NAME [flags]; NAME is one of: smollm2_135m_offline, "),
    (["nothing"], "unknown recipe 'nothing'; choose one of: smollm2_135m_offline, "),
    ([GSM8K, "--estimator", "best"], "unknown estimator 'best'"),
    ([GSM8K, "--estimator", "pkpo:k=129"], "pkpo with k=129 needs at least 129 rollouts in a group, got N = 128"),
    ([GSM8K, "--roll", "8"], "unrecognized arguments: --roll 8"),
    ([GSM8K, "--micro_batch", "7"], "micro_batch must divide the 32768 rollouts of an update, got 7"),
    ([GSM8K, "--describe", "--dry-run"], "not allowed with argument"),
    ([GSM8K], f"{GSM8K} draws answers with vLLM, which is not installed: pip install vllm, or --vllm False"),
    ([GSM8K, "--vllm", "False", "--device", "gpu"], "--device must be auto, cpu, cuda or cuda:INDEX, got 'gpu'"),
    ([OFFLINE, "--model", "no/such"], "could not load the model 'no/such'"),
    ([OFFLINE, "--vllm", "True"], "vLLM ends answers by the model's own tokens only, got vllm with end = '\\n'"),
    ([OFFLINE, "--seed", "2048"], "seed must be at most 2047 for reasoning_gym/chain_sum, got 2048"),
    ([GSM8K, "--seed", "-1"], "seed must be a whole number >= 0, got -1"),
    (
        [GSM8K, "--vllm", "False", "--data", "empty"],
        "expected one file gsm8k_platinum-test.jsonl (or .json, .csv, .parquet) in empty",
    ),
]
WRONG_FOR_VERL = [
    (["nothing"], "unknown recipe 'nothing'"),
    ([GSM8K, "--gpus", "0"], "--gpus must be a whole number >= 1, got 0"),
    ([OFFLINE, "--nodes", "4"], "32 x 32 rollouts do not split over 32 devices in micro-batches of 128"),
    ([GSM8K, "--precision", "float32"], "verl computes in bfloat16; this recipe says precision = 'float32'"),
    ([GSM8K, "--data", "empty"], "expected one file gsm8k-train.jsonl"),
]


class TestBadInput:
    @pytest.mark.parametrize(
        ("command", "arguments", "message"),
        [(lambda given: main(["recipe", *given]), *each) for each in WRONG]
        + [(lambda given: cli.guarded(verl_job.main, given), *each) for each in WRONG_FOR_VERL],
    )
    def test_is_one_line_and_status_2_and_leaves_nothing(
        self, command, arguments, message, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(train, "find_spec", lambda _: None)  # as if vLLM were not there
        Path("empty").mkdir()
        assert command(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("maxrl-lab: error: ")
        assert error.count("\n") == 1
        assert [each for each in tmp_path.rglob("*") if each.name != "empty"] == []

    def test_help_explains_every_setting(self, capsys):
        with pytest.raises(SystemExit):
            main(["recipe", GSM8K, "--help"])
        said = capsys.readouterr().out
        assert all(f"--{field.name} " in said for field in fields(settings_of(GSM8K)))
