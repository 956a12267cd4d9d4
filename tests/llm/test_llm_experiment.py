"""The experiment `llm` on a model of 5 000 weights: rows, kills, the command, what is missing, and its figure."""

import json
from dataclasses import replace

import pytest
import torch
from small_llm_folder import DIGITS, save_folder

from experiments.llm import llm
from figures import style
from figures.llm import llm as figure_module
from maxrl_lab.command import main
from maxrl_lab.llm.jobs import evaluating, inputs, training
from maxrl_lab.llm.models import evaluation, transformers_engine, weights
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.folder import execute, read_tables

SUMS = "reasoning_gym/chain_sum"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def settings(folder):
    """Three updates, two of them an epoch, of 4 prompts and 8 rollouts each."""
    return replace(
        llm.PRESETS["quick"],
        model=str(folder),
        config=DIGITS,
        train_problems=8,
        test_problems=5,
        prompts=4,
        rollouts=8,
        steps=3,
        micro_batch=16,
        learning_rate=0.03,
        answer_length=2,
        save_every=1,
        samples=6,
        estimators=("grpo", "pkpo:k=N/2"),
    )


def executed(settings, folder):
    """The tables of a run in the folder, as the command runs it."""
    return execute(
        folder,
        "llm",
        settings,
        lambda checkpoint: llm.run(settings, Context(torch.device("cpu"), checkpoint, quiet=True)),
    )


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The folder of the run that nobody kills."""
    folder = tmp_path_factory.mktemp("whole")
    executed(settings, folder)
    return folder


def test_tables(settings, whole):
    tables = read_tables(whole)
    assert set(tables) == {"problems", "training", "timings"}
    problems, updates = tables["problems"], tables["training"]
    names = ("base", *settings.estimators)
    keys = problems[["estimator", "seed", "source", "problem"]].itertuples(index=False, name=None)
    assert list(keys) == [(name, 0, SUMS, index) for name in names for index in range(5)]
    assert problems.correct.between(0, 6).all()
    assert problems.vote_right.isin([True, False]).all()
    # what all rows share is in the settings: 6 samples of each problem, 8 rollouts, the temperature, ...
    assert set(problems) == {
        *("estimator", "seed", "source", "problem"),
        *("correct", "vote_right", "distinct", "tokens_mean", "cut_off"),
    }
    assert set(updates) == {"estimator", "seed", "step", *training.LOGGED.values()}
    keys = updates[["estimator", "seed", "step"]].itertuples(index=False, name=None)
    assert list(keys) == [(name, 0, step) for name in settings.estimators for step in (1, 2, 3)]
    assert problems.notna().all(axis=None)
    assert updates.notna().all(axis=None)
    # before the first update all are the same policy, and both see the same answers
    first = updates[updates.step == 1].set_index("estimator")
    grpo, pkpo = (first.loc[name] for name in settings.estimators)
    assert (grpo.pass_rate, grpo.entropy, grpo.length) == (pkpo.pass_rate, pkpo.entropy, pkpo.length)
    assert grpo.gradient_norm != pkpo.gradient_norm


def test_times_have_a_table_of_their_own(whole):
    tables = read_tables(whole)
    keys = ["estimator", "seed", "step"]
    assert tables["timings"][keys].equals(tables["training"][keys])
    times = tables["timings"][["seconds_sample", "seconds_update", "tokens_per_second"]]
    assert (times > 0).all(axis=None)
    for name in ("problems", "training"):
        assert not set(times) & set(tables[name])


def test_the_base_is_the_untrained_model(settings, whole, tmp_path):
    policy = inputs.load_policy(settings, torch.device("cpu"))
    (problems,) = inputs.held_out_sets(settings).values()
    rows = evaluation.evaluate(
        evaluating.engine(settings, policy), list(problems), Checkpoint(tmp_path / "rows"), key="base"
    )
    table = read_tables(whole)["problems"]
    assert table[table.estimator == "base"].correct.tolist() == [row["correct"] for row in rows]


@pytest.mark.parametrize(
    ("kind", "last"),
    [pytest.param("complete", 1, marks=pytest.mark.slow), ("complete", 2), ("correct", 5)],
    ids=["the base's evaluation", "the first one's evaluation", "the second training"],
)
def test_a_killed_run_ends_with_the_same_rows(kind, last, settings, whole, tmp_path, monkeypatch):
    """Killed in a call that samples for an evaluation, or in one that rewards an update; there are 3 and 6 of them."""
    calls = {"complete": [], "correct": []}

    def killing(name, own):
        def call(*arguments, **named):
            calls[name].append(1)
            if (name, len(calls[name])) == (kind, last):
                raise KeyboardInterrupt
            return own(*arguments, **named)

        call.__name__ = name  # which TRL logs
        return call

    engine = transformers_engine.TransformersEngine
    monkeypatch.setattr(engine, "complete", killing("complete", engine.complete))
    monkeypatch.setattr(training.rewards, "correct", killing("correct", training.rewards.correct))
    with pytest.raises(KeyboardInterrupt):
        executed(settings, tmp_path)
    assert not list(tmp_path.glob("*.csv"))
    # of a finished estimator the rows are kept, and no longer its checkpoints; a name is one folder, whatever is in it
    trainers = {"complete": {1: set(), 2: {"grpo-0"}}, "correct": {5: {"pkpo-k=N_2-0"}}}[kind][last]
    held = tmp_path / "checkpoint/run"
    assert {each.parent.name for each in held.rglob("checkpoint-*") if each.parent.parent == held} == trainers
    assert {each.parent.name for each in held.rglob("checkpoint-*")} == trainers
    assert (held / "grpo-0-tables.pt").exists() == (kind == "correct")
    executed(settings, tmp_path)
    for name in ("problems.csv", "training.csv"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()
    assert len(json.loads((tmp_path / "provenance.json").read_text())["sessions"]) == 2
    assert not (tmp_path / "checkpoint").exists()
    # nothing that was finished has been done again
    assert {name: len(each) for name, each in calls.items()} == {
        "complete": 3 + (kind == "complete"),
        "correct": 6 + (kind == "correct"),
    }


def test_another_gpu_than_the_trainer_s_is_refused_before_anything_is_read(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(inputs, "load_policy", lambda *_: pytest.fail("read a model"))
    with pytest.raises(ValueError, match="expected one visible GPU"):
        llm.run(settings, Context(torch.device("cuda:1"), Checkpoint(tmp_path / "rows"), quiet=True))


# the command


def test_the_command_as_it_is_typed(folder, tmp_path, capsys):
    flags = ["--model", folder, "--preset", "smoke", "--config", DIGITS, "--seeds", "0", "1", "--estimators", "maxrl"]
    places = ["--out", tmp_path / "rows", "--pictures", tmp_path / "pictures", "--quiet", "--device", "cpu"]
    assert main(["run", "llm", *map(str, (*flags, *places))]) == 0
    written = {path.name for path in (tmp_path / "rows/smoke/llm").iterdir()}
    assert written == {"settings.json", "problems.csv", "training.csv", "timings.csv", "provenance.json"}
    assert (tmp_path / "pictures/smoke/llm.png").read_bytes().startswith(b"\x89PNG")
    tables = read_tables(tmp_path / "rows/smoke/llm")
    counts = {name: tables[name].groupby(["estimator", "seed"]).size().to_dict() for name in ("problems", "training")}
    assert counts == {
        "problems": {("base", 0): 2, ("maxrl", 0): 2, ("maxrl", 1): 2},
        "training": {("maxrl", 0): 1, ("maxrl", 1): 1},
    }
    head, base, trained, difference = capsys.readouterr().out.splitlines()[:4]
    assert "base needs @4" in head
    assert base.split()[:2] == [SUMS, "base"]
    assert trained.split()[0] == "maxrl"
    assert difference.split()[:3] == ["maxrl", "-", "base"]


def test_without_the_embedded_model_the_command_says_how_to_prepare_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "llm", "--preset", "smoke", "--quiet"]) == 2
    assert capsys.readouterr().err == (
        "maxrl-lab: error: the embedded language model is not prepared; prepare it with: "
        "python -m maxrl_lab.llm.models.weights\n"
    )
    assert weights.COMMAND == "python -m maxrl_lab.llm.models.weights"
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "llm", "--preset", "smoke", "--quiet", "--model", "no/such"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("maxrl-lab: error: could not load the model 'no/such' (")
    assert error.endswith("; offline: --model embedded, or a local folder\n")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_tables_of_a_run_are_plotted_from_their_files(settings, whole):
    tables = read_tables(whole)
    figure = figure_module.plot(tables, settings)
    labels = [style.label(name) for name in ("base", *settings.estimators)]
    assert [line.get_label() for line in figure.axes[0].lines] == labels
    assert all(len(ax.lines) == 2 for ax in figure.axes[1:])
    table = figure_module.summarise(tables, settings)
    problems = tables["problems"]
    rates = problems[problems.estimator == "grpo"].correct / 6
    assert table.loc[SUMS, "grpo"]["pass@1"].startswith(f"{rates.mean():.3f} [")
    assert len(table) == 3 + 2


def test_settings_of_another_run_are_refused(settings, whole):
    with pytest.raises(ValueError, match=r"holds a run with other settings \(learning_rate = 0.03 there, 0.1 now\)"):
        executed(replace(settings, learning_rate=0.1), whole)
