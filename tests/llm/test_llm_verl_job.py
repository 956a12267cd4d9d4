"""Jobs for verl: its own configuration says what the recipe says, its files are whole, its dry run runs verl's code."""

import shlex
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from maxrl_lab.llm.jobs import dry_run, verl_files, verl_job
from maxrl_lab.llm.jobs.recipes import RECIPES, job_of
from maxrl_lab.llm.jobs.verl_overrides import overrides
from maxrl_lab.llm.verl import config as verl_config
from maxrl_lab.runs.command_line import guarded
from maxrl_lab.runs.files import write_json

GSM8K, OFFLINE = "smollm2_360m_gsm8k", "smollm2_135m_offline"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The GSM8K recipe at the size of a dry run: a tiny model, local problems."""
    return dry_run.prepared(dry_run.small(job_of(GSM8K)), tmp_path_factory.mktemp("tiny"))


class TestVerl:
    @pytest.mark.parametrize("name", RECIPES)
    def test_configuration_says_what_the_recipe_says(self, name, tmp_path):
        job = replace(job_of(name), estimator="pkpo:k=N/2", learning_rate=3e-7, seed=5)
        folder = tmp_path / "with a space, and {signs}"
        config = verl_config.compose(overrides(job, folder, 1, 8))
        verl_config.check_config(config)
        actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
        assert config.algorithm.adv_estimator == "maxrl_lab/pkpo"
        assert config.algorithm.maxrl_lab.k == job.rollouts // 2
        assert (config.data.train_batch_size, actor.ppo_mini_batch_size) == (job.prompts,) * 2
        assert (rollout.n, rollout.val_kwargs.n) == (job.rollouts, job.samples)
        assert (actor.optim.lr, actor.optim.weight_decay, actor.grad_clip) == (3e-7, 0, job.clip)
        assert actor.loss_agg_mode == ("token-mean" if job.token_mean else "seq-mean-token-sum")
        assert (config.data.max_prompt_length, rollout.response_length) == (
            job.prompt_length,
            job.answer_length,
        )
        assert (rollout.val_kwargs.temperature, rollout.val_kwargs.top_p) == (0.6, 0.95)
        assert config.trainer.total_training_steps == job.steps
        assert config.trainer.test_freq == job.steps  # the last update only: a test takes thousands of answers
        assert config.trainer.val_before_train
        assert (config.trainer.nnodes, config.trainer.n_gpus_per_node, config.data.seed) == (1, 8, 5)
        assert config.data.train_files == str(folder / "train.parquet")
        assert len(config.data.val_files) == len(job.tests or (1,))
        model = config.actor_rollout_ref.model
        assert model.path == (str(folder / "model") if name == OFFLINE else job.model)
        assert bool(model.custom_chat_template) is not job.chat

    def test_is_refused_without_the_permission_to_average_over_tokens(self, tmp_path):
        asked = overrides(job_of(GSM8K), tmp_path, 1, 8)
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
        flags = ["--data", tiny.data, "--train-problems", "8", "--test-problems", "2", "--out", str(tmp_path / "job")]
        assert verl_job.main([GSM8K, *flags, "--nodes", "4"]) == 0
        names = {each.name for each in (tmp_path / "job").iterdir()}
        assert names == {"train.parquet", "test-gsm8k_platinum.parquet", "settings.json"}
        python, module, main, *asked = shlex.split(capsys.readouterr().out)
        assert (python, module, main) == ("python", "-m", "verl.trainer.main_ppo")
        assert asked == overrides(
            replace(job_of(GSM8K), data=tiny.data, train_problems=8, test_problems=2), tmp_path / "job", 4, 8
        )
        asked = replace(job_of(GSM8K), data=tiny.data, train_problems=8, test_problems=2)
        verl_files.refuse_other_job(tmp_path / "job", asked)  # the same goes on
        with pytest.raises(
            ValueError, match=r"job holds a job with other settings \(tests = \['gsm8k_platinum'\] there"
        ):
            verl_files.refuse_other_job(tmp_path / "job", replace(asked, tests=("math500",)))

    def test_job_of_other_settings_is_not_continued(self, tmp_path, refuses):
        asked, file = job_of(GSM8K), tmp_path / "settings.json"
        verl_files.refuse_other_job(tmp_path / "none", asked)
        assert not (tmp_path / "none").exists()
        write_json(file, asdict(asked))
        before = file.read_bytes()
        verl_files.refuse_other_job(tmp_path, asked)
        with refuses(
            f"{tmp_path} holds a job with other settings (estimator = 'maxrl' there, 'rloo' now); choose another --out"
        ):
            verl_files.refuse_other_job(tmp_path, replace(asked, estimator="rloo"))
        assert file.read_bytes() == before
        file.write_bytes(before[:-5])
        with pytest.raises(ValueError, match=r"settings.json is not readable JSON \(.*\); choose another --out\Z"):
            verl_files.refuse_other_job(tmp_path, asked)


WRONG = [
    (["nothing"], "unknown recipe 'nothing'"),
    ([GSM8K, "--gpus", "0"], "--gpus must be a whole number >= 1, got 0"),
    ([OFFLINE, "--nodes", "4"], "32 x 32 rollouts do not split over 32 devices in micro-batches of 128"),
    ([GSM8K, "--precision", "float32"], "verl computes in bfloat16; this recipe says precision = 'float32'"),
    ([GSM8K, "--data", "empty"], "expected one file gsm8k-train.jsonl"),
]


class TestBadInput:
    @pytest.mark.parametrize(("arguments", "message"), WRONG)
    def test_is_one_line_and_status_2_and_leaves_nothing(self, arguments, message, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        Path("empty").mkdir()
        assert guarded(verl_job.main, arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("maxrl-lab: error: ")
        assert error.count("\n") == 1
        assert [path for path in tmp_path.rglob("*") if path.name != "empty"] == []
