"""Jobs: what the command describes, its dry run, kills and continuations, refusals, accelerate's configurations."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env

from maxrl_lab.command import main
from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs import describe, dry_run, evaluating, inputs, processes, run, train, training
from maxrl_lab.llm.jobs.memory import memory
from maxrl_lab.llm.jobs.recipes import RECIPES, job_of
from maxrl_lab.llm.models import engines, sampling
from maxrl_lab.llm.problems import rewards
from maxrl_lab.llm.trl import trainer as trl
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.folder import is_complete, read_tables

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "maxrl_lab/llm/jobs/accelerate"
GSM8K, QWEN, OFFLINE = "smollm2_360m_gsm8k", "qwen3_1p7b_polaris", "smollm2_135m_offline"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The GSM8K recipe at the size of a dry run: a tiny model, local problems."""
    folder = tmp_path_factory.mktemp("tiny")
    return dry_run.prepared(dry_run.small(job_of(GSM8K)), folder)


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

    def test_repeats_what_the_user_has_changed(self):
        changed = {"learning_rate": 3e-6, "tests": ("math500", "minerva"), "vllm": False, "estimator": "pkpo:k=N/2"}
        changed |= {"template": 'Q: {question}\nIt\'s "A": ', "end": "\n", "seed": 7}
        asked = replace(job_of(QWEN), **changed)
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
        assert describe.commands(QWEN, job_of(QWEN))[0] == (
            f"python -m maxrl_lab.llm.jobs.train {QWEN} --estimator maxrl --dry-run"
        )


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
        assert dry_run.small(replace(job_of(GSM8K), estimator="pkpo:k=16")).rollouts == 16
        with pytest.raises(ValueError, match=r"groups of up to 64 rollouts: pkpo with k=100"):
            dry_run.small(replace(job_of(GSM8K), estimator="pkpo:k=100"))

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
        whole = run.run(GSM8K, tiny, tmp_path / "whole", "cpu")
        kill = dry_run._Watch().callback(kill=True)
        with pytest.raises(KeyboardInterrupt):
            run.run(GSM8K, tiny, tmp_path / "killed", "cpu", callbacks=[kill])
        assert not is_complete(tmp_path / "killed")
        with pytest.raises(ValueError, match=r"other settings \(learning_rate = 1e-05 there, 0.001 now\)"):
            run.run(GSM8K, replace(tiny, learning_rate=1e-3), tmp_path / "killed", "cpu")
        continued = run.run(GSM8K, tiny, tmp_path / "killed", "cpu")
        for name in ("problems", "training"):
            assert continued[name].equals(whole[name])
        assert continued["timings"].step.equals(continued["training"].step)
        assert list(whole["problems"].groupby("when", sort=False).size().items()) == [("before", 2), ("after", 2)]
        weights = [(tmp_path / name / "policy/model.safetensors").read_bytes() for name in ("whole", "killed")]
        assert weights[0] == weights[1]
        assert not (tmp_path / "killed/checkpoint").exists()
        assert not list(tmp_path.rglob("*.bin"))

    def test_that_is_forced_replaces_the_old_run_and_its_policy_when_it_is_complete(self, tiny, tmp_path):
        folder, other = tmp_path / "run", replace(tiny, learning_rate=1e-3)
        old = run.run(GSM8K, tiny, folder, "cpu")
        policy = (folder / "policy/model.safetensors").read_bytes()
        kill = dry_run._Watch().callback(kill=True)
        with pytest.raises(KeyboardInterrupt):
            run.run(GSM8K, other, folder, "cpu", force=True, callbacks=[kill])
        assert read_tables(folder)["training"].equals(old["training"])
        assert (folder / "policy/model.safetensors").read_bytes() == policy
        run.run(GSM8K, other, folder, "cpu")  # continues what was forced
        assert (folder / "policy/model.safetensors").read_bytes() != policy
        assert {path.name for path in folder.iterdir()} == {
            *("settings.json", "provenance.json", "problems.csv", "training.csv", "timings.csv", "policy"),
        }

    def test_is_stale_where_other_code_has_made_it(self, tiny, tmp_path, monkeypatch):
        made = run.run(GSM8K, tiny, tmp_path / "run", "cpu")
        monkeypatch.setattr(run, "fingerprint", lambda _: {"maxrl_lab/estimators/likelihood.py": "another"})
        with pytest.raises(InputError, match="--stale"):
            run.run(GSM8K, tiny, tmp_path / "run", "cpu")
        assert run.run(GSM8K, tiny, tmp_path / "run", "cpu", stale=True)["problems"].equals(made["problems"])

    def test_leaves_out_prompts_that_are_too_long(self, tiny, capsys):
        problems = inputs.training_set(tiny, 0, Path(tiny.data))
        tokenizer = inputs.load_policy(tiny, CPU).tokenizer
        lengths = [len(sampling.encode(tokenizer, each["prompt"])) for each in problems]
        assert min(lengths) < max(lengths)
        found = run.short_enough(problems, tokenizer, max(lengths) - 1)
        assert len(found) == sum(length < max(lengths) for length in lengths)
        assert "are left out" in capsys.readouterr().err
        assert run.short_enough(problems, tokenizer, max(lengths)) is problems
        with pytest.raises(ValueError, match="none of the 8 prompts has at most prompt_length = 3 tokens"):
            run.short_enough(problems, tokenizer, 3)

    def test_needs_vllm_where_the_recipe_does_before_anything_is_computed(self, tmp_path, monkeypatch, refuses):
        monkeypatch.setattr(run, "find_spec", lambda _: None)
        monkeypatch.setattr(run, "Processes", lambda _: pytest.fail("has begun"))
        with refuses(f"{GSM8K} samples answers with vLLM, which is not installed: pip install vllm, or --vllm False"):
            run.run(GSM8K, job_of(GSM8K), tmp_path / "run", "cpu")
        assert list(tmp_path.iterdir()) == []

    def test_needs_a_gpu_of_its_own(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setattr(processes, "find_device", torch.device)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(ValueError, match=r"expected one visible GPU, .* got cuda:1 of 2"):
            run.run(GSM8K, tiny, tmp_path / "run", "cuda:1")
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

        monkeypatch.setattr(engines, "has_vllm", lambda _: vllm)
        monkeypatch.setattr(inputs, "load_policy", lambda recipe, _: f"read from {recipe.model}")
        monkeypatch.setattr(evaluating, "engine", engine)
        with pytest.raises(KeyboardInterrupt):
            run.evaluate(replace(tiny, **changes), "a/model", when, Checkpoint(tmp_path), CPU)
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
        base, own = job_of(GSM8K), {field.name: getattr(tiny, field.name) for field in fields(tiny)}
        flags = [f"--{key}={value}" for key, value in own.items() if value != getattr(base, key)]
        command = ["-m", "maxrl_lab.llm.jobs.train", GSM8K, *flags, "--micro_batch=2", "--device=cpu"]
        launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1"]
        launch += ["--mixed_precision=no", "--dynamo_backend=no"]
        for name, start in (("alone", []), ("together", launch)):
            asked = [sys.executable, *start, *command, f"--out={tmp_path / name}"]
            done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        alone, together = (read_tables(tmp_path / name) for name in ("alone", "together"))
        for name, count in (("problems", 4), ("training", 2), ("timings", 2)):
            assert len(alone[name]) == len(together[name]) == count
            assert set(together[name]) == set(alone[name])
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
        given = ["--config_file", str(CONFIGS / f"{name}.yaml"), "-m", "maxrl_lab.llm.jobs.train"]
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
            asked = replace(job_of(name), vllm=False)
            args = training.trainer_settings(asked, tmp_path, 0, CPU)
            assert args.mixed_precision == "bf16"
            assert args.gradient_accumulation_steps * args.per_device_train_batch_size == asked.prompts * asked.rollouts


WRONG = [
    ([], "usage: maxrl-lab recipe NAME [flags]; NAME is one of: smollm2_135m_offline, "),
    (["nothing"], "unknown recipe 'nothing'; choose one of: smollm2_135m_offline, "),
    ([GSM8K, "--estimator", "best"], "unknown estimator 'best'"),
    ([GSM8K, "--estimator", "pkpo:k=129"], "pkpo with k=129 needs at least 129 rollouts in a group, got N = 128"),
    ([GSM8K, "--roll", "8"], "unrecognized arguments: --roll 8"),
    ([GSM8K, "--micro-batch", "7"], "micro_batch must divide the 32768 rollouts of an update, got 7"),
    ([GSM8K, "--describe", "--dry-run"], "not allowed with argument"),
    ([GSM8K, "--force", "--stale"], "not allowed with argument"),
    ([GSM8K], f"{GSM8K} samples answers with vLLM, which is not installed: pip install vllm, or --vllm False"),
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


def test_help_without_a_name_lists_the_recipes(capsys):
    with pytest.raises(SystemExit) as left:
        main(["recipe", "--help"])
    assert left.value.code == 0
    usage = f"usage: maxrl-lab recipe NAME [flags]; NAME is one of: {', '.join(RECIPES)}\n"
    assert capsys.readouterr().out.startswith(usage)


class TestBadInput:
    @pytest.mark.parametrize(("arguments", "message"), WRONG)
    def test_is_one_line_and_status_2_and_leaves_nothing(self, arguments, message, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(run, "find_spec", lambda _: None)  # as if vLLM were not there
        Path("empty").mkdir()
        assert main(["recipe", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("maxrl-lab: error: ")
        assert error.count("\n") == 1
        assert [path for path in tmp_path.rglob("*") if path.name != "empty"] == []


class TestFlags:
    def test_are_dashed_and_help_explains_them_in_groups(self, capsys):
        with pytest.raises(SystemExit):
            main(["recipe", GSM8K, "--help"])
        said = capsys.readouterr().out
        assert all(f"--{field.name.replace('_', '-')} " in said for field in fields(job_of(GSM8K)))
        for heading in (
            "The model:",
            "The problems:",
            "Training:",
            "Evaluation:",
            "Hardware:",
            "The run of the recipe:",
        ):
            assert f"\n{heading}\n" in said

    @pytest.mark.parametrize("flag", ["--learning-rate", "--learning_rate"])
    def test_may_be_written_with_underscores(self, flag):
        _, job, _ = train.read([GSM8K, flag, "0.5"])
        assert job == replace(job_of(GSM8K), learning_rate=0.5)
