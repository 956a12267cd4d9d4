"""The experiment `llm` on a model of 5 000 weights: rows, kills, the command, what is missing, and its figure."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_llm_folder import DIGITS, save_folder

from experiments import EXPERIMENTS, EXTRAS
from experiments import __main__ as cli
from experiments.llm import llm
from figures import FIGURES, style
from figures.llm import llm as figure_module
from maxrl_lab import evaluate
from maxrl_lab.command import main
from maxrl_lab.llm.jobs import training
from maxrl_lab.llm.models import evaluation, weights
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.context import Context
from maxrl_lab.runs.folder import execute, read_tables
from maxrl_lab.runs.tables import TIMING_COLUMNS

ROOT = Path(__file__).parents[2]
SUMS = "reasoning_gym/chain_sum"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def settings(folder):
    """Three updates, two of them an epoch, of 4 prompts and 8 rollouts each."""
    return llm.Settings(
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
    """The rows of a run in the folder, as the command runs it."""
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


def test_rows_of_both_views(settings, whole):
    rows = read_tables(whole)["rows"]
    assert set(rows.rollouts) == {8}
    problems, updates = rows[rows["view"] == "problem"], rows[rows["view"] == "training"]
    assert len(problems) + len(updates) == len(rows)
    names = ("base", *settings.estimators)
    keys = problems[["estimator", "seed", "source", "problem"]].itertuples(index=False, name=None)
    assert list(keys) == [(name, 0, SUMS, place) for name in names for place in range(5)]
    assert problems.correct.between(0, 6).all()
    assert set(problems.samples) == {6}
    assert problems.vote_right.isin([True, False]).all()
    keys = updates[["estimator", "seed", "step"]].itertuples(index=False, name=None)
    assert list(keys) == [(name, 0, step) for name in settings.estimators for step in (1, 2, 3)]
    for column in training.LOGGED.values():
        assert updates[column].notna().all()
        assert problems[column].isna().all() == (column != "cut_off")  # which both have
    # before the first update all are the same policy, and both see the same answers
    first = updates[updates.step == 1].set_index("estimator")
    grpo, pkpo = (first.loc[name] for name in settings.estimators)
    assert (grpo.pass_rate, grpo.entropy, grpo.length) == (pkpo.pass_rate, pkpo.entropy, pkpo.length)
    assert grpo.gradient_norm != pkpo.gradient_norm


def test_rows_hold_no_time(whole):
    assert not set(TIMING_COLUMNS) & set(read_tables(whole)["rows"])
    timings = pd.read_csv(whole / "timings.csv", index_col="row")
    rows = read_tables(whole)["rows"]
    assert timings.index.tolist() == rows.index[rows["view"] == "training"].tolist()
    assert (timings[["seconds_sample", "seconds_update", "tokens_per_second"]] > 0).all(axis=None)


def test_the_base_is_the_untrained_model(settings, whole, tmp_path):
    policy = training.load_policy(settings, torch.device("cpu"))
    (problems,) = training.held_out_sets(settings).values()
    found = evaluation.evaluate(
        training.engine(settings, policy), list(problems), Checkpoint(tmp_path / "rows"), key="base"
    )
    rows = read_tables(whole)["rows"]
    base = rows[(rows["view"] == "problem") & (rows.estimator == "base")]
    assert base.correct.tolist() == [row["correct"] for row in found]


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

    engine = training.evaluation.TransformersEngine
    monkeypatch.setattr(engine, "complete", killing("complete", engine.complete))
    monkeypatch.setattr(training.rewards, "correct", killing("correct", training.rewards.correct))
    with pytest.raises(KeyboardInterrupt):
        executed(settings, tmp_path)
    assert not (tmp_path / "rows.csv").exists()
    # of a finished estimator the rows are kept, and no longer its checkpoints; a name is one folder, whatever is in it
    trainers = {"complete": {1: set(), 2: {"grpo-0"}}, "correct": {5: {"pkpo-k=N_2-0"}}}[kind][last]
    held = tmp_path / "checkpoint/run"
    assert {each.parent.name for each in held.rglob("checkpoint-*") if each.parent.parent == held} == trainers
    assert {each.parent.name for each in held.rglob("checkpoint-*")} == trainers
    assert (held / "grpo-0-rows.pt").exists() == (kind == "correct")
    executed(settings, tmp_path)
    assert (tmp_path / "rows.csv").read_bytes() == (whole / "rows.csv").read_bytes()
    assert len(json.loads((tmp_path / "provenance.json").read_text())["sessions"]) == 2
    assert not (tmp_path / "checkpoint").exists()
    # nothing that was finished has been done again
    assert {name: len(each) for name, each in calls.items()} == {
        "complete": 3 + (kind == "complete"),
        "correct": 6 + (kind == "correct"),
    }


def test_presets_are_one_job_at_three_sizes():
    smoke, quick, full = llm.PRESETS.values()
    for each in (smoke, full):
        assert (each.source, each.config, each.template, each.end) == (
            quick.source,
            quick.config,
            quick.template,
            quick.end,
        )
    assert quick == llm.Settings()
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
def test_what_cannot_be_compared_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        llm.Settings(**changes)


def test_another_gpu_than_the_trainer_s_is_refused_before_anything_is_read(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(training, "load_policy", lambda *_: pytest.fail("read a model"))
    with pytest.raises(ValueError, match="expected one visible GPU"):
        llm.run(settings, Context(torch.device("cuda:1"), Checkpoint(tmp_path / "rows"), quiet=True))


# the command


def test_the_command_as_it_is_typed(folder, tmp_path, capsys):
    flags = ["--model", folder, "--preset", "smoke", "--config", DIGITS, "--seeds", "0", "1", "--estimators", "maxrl"]
    places = ["--out", tmp_path / "rows", "--pictures", tmp_path / "pictures", "--quiet", "--device", "cpu"]
    assert main(["run", "llm", *map(str, (*flags, *places))]) == 0
    written = {path.name for path in (tmp_path / "rows/smoke/llm").iterdir()}
    assert written == {"settings.json", "rows.csv", "timings.csv", "provenance.json"}
    assert (tmp_path / "pictures/smoke/llm.png").read_bytes().startswith(b"\x89PNG")
    rows = read_tables(tmp_path / "rows/smoke/llm")["rows"]
    assert rows.groupby(["view", "estimator", "seed"]).size().to_dict() == {
        ("problem", "base", 0): 2,
        ("problem", "maxrl", 0): 2,
        ("problem", "maxrl", 1): 2,
        ("training", "maxrl", 0): 1,
        ("training", "maxrl", 1): 1,
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
        "python -m maxrl_lab.llm.weights\n"
    )
    assert weights.COMMAND == "python -m maxrl_lab.llm.weights"
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "llm", "--preset", "smoke", "--quiet", "--model", "no/such"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("maxrl-lab: error: could not load the model 'no/such' (")
    assert error.endswith("; offline: --model embedded, or a local folder\n")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
from experiments import __main__ as cli
status = [main(["list"]), main(["run", "llm", "--preset", "smoke"])]
sys.exit(f"{{status}}" if status != [0, 2] else 0)
"""


def test_without_the_extra_the_command_says_how_to_install_it(tmp_path):
    """None of its packages is there; the other experiments are, and nothing is written."""
    names = {"trl", "transformers", "datasets", "peft", "accelerate", "gguf", "math_verify", "reasoning_gym"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})" + BLOCKED.format(names=names)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(EXPERIMENTS)
    assert done.stderr == (
        "maxrl-lab: error: transformers is not installed; it comes with: pip install -e '.[llm]' (make llm)\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_trl_alone_the_command_says_how_to_install_it(folder, tmp_path, monkeypatch, capsys):
    import maxrl_lab.llm

    for name in ("trl", "trl_config"):
        monkeypatch.delattr(maxrl_lab.llm, name, raising=False)
        monkeypatch.delitem(sys.modules, f"maxrl_lab.llm.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "trl", None)
    flags = ["--model", str(folder), "--out", str(tmp_path), "--pictures", str(tmp_path), "--quiet"]
    assert main(["run", "llm", "--preset", "smoke", *flags]) == 2
    error = capsys.readouterr().err
    assert error == "maxrl-lab: error: trl is not installed; it comes with: pip install -e '.[llm]' (make llm)\n"


def test_reproduce_leaves_it_out(tmp_path, monkeypatch, capsys):
    asked = []

    def ran(name, settings, places, flags):
        asked.append(name)
        return pd.DataFrame({"row": [0]})

    monkeypatch.setattr(cli, "_run", ran)
    monkeypatch.setattr(cli, "save", lambda *_: None)
    monkeypatch.setattr(runs, "wall_seconds", lambda _: 0.0)
    for module in FIGURES.values():
        monkeypatch.setattr(module, "draw", lambda _: None)
    assert main(["reproduce", "--preset", "smoke", "--out", str(tmp_path)]) == 0
    assert asked == [name for name in EXPERIMENTS if name != "llm"]
    assert EXTRAS == ("llm",)


# the figure


def problem_rows(name, correct, *, seed=0, samples=4, source=SUMS):
    return [
        {"view": "problem", "estimator": name, "seed": seed, "rollouts": 8, "source": source, "problem": place}
        | {"samples": samples, "correct": each, "vote_right": each > samples / 2, "distinct": each + 1, "cut_off": 0.25}
        for place, each in enumerate(correct)
    ]


def training_rows(name, pass_rates, *, seed=0):
    return [
        {"view": "training", "estimator": name, "seed": seed, "rollouts": 8, "step": step, "pass_rate": each}
        | {"with_success": each / 2, "entropy": 1 + each}
        for step, each in enumerate(pass_rates, 1)
    ]


OTHERS = ("majority", "distinct answers", "cut off")


def frame(*rows):
    return pd.DataFrame([row for each in rows for row in each])


def text(values):
    low, high = evaluate.bootstrap_interval(np.array(values)[:, None])[1:]
    return f"{np.mean(values):.3f} [{float(low[0]):.3f}, {float(high[0]):.3f}]"


ONE = frame(
    problem_rows("base", (0, 2, 4)),
    problem_rows("grpo", (1, 4, 2)),
    training_rows("grpo", (0.1, 0.3, 0.2, 0.4, 0.5, 0.6)),
)
TWO = frame(
    problem_rows("base", (0, 2, 4)),
    problem_rows("maxrl", (1, 4, 2), seed=0),
    problem_rows("maxrl", (3, 2, 2), seed=3),
    training_rows("maxrl", (0.1, 0.3), seed=0),
    training_rows("maxrl", (0.3, 0.5), seed=3),
)


def test_the_table_by_hand():
    # pass@1 is the share right; pass@4 of 4 samples is whether any is
    table = figure_module.summarise(ONE)
    assert list(table.index) == [(SUMS, "base"), (SUMS, "grpo"), (SUMS, "grpo - base")]
    assert list(table.columns) == [
        "pass@1",
        "pass@4",
        "base needs @1",
        "base needs @4",
        "majority",
        "distinct answers",
        "cut off",
    ]
    base, grpo, gained = (table.loc[SUMS, name] for name in ("base", "grpo", "grpo - base"))
    assert base["pass@1"] == text([0, 0.5, 1])
    assert base["pass@4"] == text([0, 1, 1])
    assert grpo["pass@1"] == text([0.25, 1, 0.5])
    assert grpo["pass@4"] == "1.000 [1.000, 1.000]"
    # the base has 1/2 at k = 1 and 2/3 at 4: 7/12 is half-way, at 2 on the logarithmic axis; it never has 1
    assert (base["base needs @1"], base["base needs @4"]) == ("1x", "1x")
    assert (grpo["base needs @1"], grpo["base needs @4"]) == ("2x", "not reached")
    assert (base.majority, grpo.majority) == ("0.333", "0.333")
    # paired: by problem, not between means
    assert gained["pass@1"] == text([0.25, 0.5, -0.5])
    assert gained["pass@4"] == text([1, 0, 0])
    assert set(gained.iloc[2:]) == {""}


def test_each_policy_is_compared_with_the_one_before_it():
    policies = {"a": (0, 4), "b": (1, 4), "c": (4, 4)}
    table = figure_module.summarise(frame(*(problem_rows(name, correct) for name, correct in policies.items())))
    assert [name for _, name in table.index] == ["a", "b", "c", "b - a", "c - b"]
    assert table.loc[SUMS, "b - a"]["pass@1"] == text([0.25, 0])
    assert table.loc[SUMS, "c - b"]["pass@1"] == text([0.75, 0])
    assert table.loc[SUMS, "c - b"]["pass@4"] == "0.000 [0.000, 0.000]"


def test_seeds_are_averaged_within_a_problem():
    table = figure_module.summarise(TWO)
    found = table.loc[SUMS, "maxrl"]
    assert found["pass@1"] == text([0.5, 0.75, 0.5])
    assert table.loc[SUMS, "maxrl - base"]["pass@1"] == text([0.5, 0.25, -0.5])
    # of one right in 4, all four samples hold it
    assert found["pass@4"] == "1.000 [1.000, 1.000]"
    assert found["cut off"] == "25.0%"
    assert found["majority"] == "0.333"  # the second problem for one seed, the first for the other: 2 of 6


def test_each_collection_has_its_own_rows_in_the_table():
    other = frame(
        problem_rows("base", (0, 2), source="gsm8k"),
        problem_rows("grpo", (4, 2), source="gsm8k"),
    )
    table = figure_module.summarise(pd.concat([ONE, other], ignore_index=True))
    names = ("base", "grpo", "grpo - base")
    assert list(table.index) == [(source, name) for source in (SUMS, "gsm8k") for name in names]
    assert table.loc["gsm8k", "grpo - base"]["pass@1"] == text([1, 0])
    assert table.loc[SUMS, "grpo - base"]["pass@1"] == text([0.25, 0.5, -0.5])


@pytest.mark.parametrize(("samples", "ks"), [(1, [1]), (4, [1, 4]), (6, [1, 4, 6]), (64, [1, 4, 16, 64])])
def test_ks_are_powers_of_four_and_all_samples(samples, ks):
    table = figure_module.summarise(frame(problem_rows("base", (0, 1), samples=samples)))
    assert list(table.columns) == [
        *(f"pass@{k}" for k in ks),
        *(f"base needs @{k}" for k in ks),
        "majority",
        "distinct answers",
        "cut off",
    ]


def test_what_is_drawn_is_what_the_rows_say(tmp_path):
    figure = figure_module.draw(ONE)
    coverage, rate, success, entropy = figure.axes
    lines = {line.get_label(): line for line in coverage.lines}
    assert list(lines) == [style.label("base"), style.label("grpo")] == ["base (not trained)", "GRPO"]
    assert lines["GRPO"].get_xdata().tolist() == [1, 4]
    assert lines["GRPO"].get_ydata().tolist() == pytest.approx([1.75 / 3, 1])
    assert lines["base (not trained)"].get_ydata().tolist() == pytest.approx([0.5, 2 / 3])
    # bands over problems, which reach from the interval's low to its high end
    band = coverage.collections[0].get_paths()[0].vertices
    interval = evaluate.bootstrap_interval(np.array([[0.0], [0.5], [1.0]]))
    at_one = band[band[:, 0] == 1, 1]
    assert (at_one.min(), at_one.max()) == pytest.approx((float(interval.low[0]), float(interval.high[0])))
    assert "3 held-out problems" in coverage.get_title()
    # the mean of up to five updates
    means = pd.Series([0.1, 0.3, 0.2, 0.4, 0.5, 0.6]).rolling(5, min_periods=1).mean()
    assert rate.lines[0].get_ydata().tolist() == pytest.approx(means.tolist())
    assert rate.lines[0].get_ydata()[-1] == pytest.approx(0.4)
    assert rate.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert success.lines[0].get_ydata().tolist() == pytest.approx((means / 2).tolist())
    assert entropy.lines[0].get_ydata().tolist() == pytest.approx((1 + means).tolist())
    assert [ax.get_xlabel() for ax in figure.axes] == ["k", "update", "update", "update"]
    assert all(ax.get_ylabel() for ax in figure.axes)
    assert [each.get_text() for each in figure.legends[0].get_texts()] == ["base (not trained)", "GRPO"]
    colours = {line.get_color() for line in coverage.lines}
    assert len(colours) == 2
    assert rate.lines[0].get_color() == lines["GRPO"].get_color() == style.colour("grpo")
    assert figure.get_suptitle() == (
        "A language model, trained with N = 8 rollouts a prompt; in training: one seed, so no interval"
    )
    style.save(figure, tmp_path / "figure.png")


def test_several_seeds_are_drawn_as_their_mean():
    figure = figure_module.draw(TWO)
    assert figure.get_suptitle().endswith("; in training: mean and 95% bootstrap interval over 2 seeds")
    assert [line.get_label() for line in figure.axes[0].lines] == ["base (not trained)", style.label("maxrl")]
    assert figure.axes[0].lines[1].get_ydata().tolist() == pytest.approx([1.75 / 3, 1])
    assert figure.axes[1].lines[0].get_ydata().tolist() == pytest.approx([0.2, 0.3])  # 0.2 and 0.4, and their mean
    # the band reaches from one seed to the other, smoothed each on its own
    band = figure.axes[1].collections[0].get_paths()[0].vertices
    assert {round(y, 6) for x, y in band if x == 2} == {0.2, 0.4}


def test_wrong_rows_are_refused():
    for column in figure_module.COLUMNS:
        with pytest.raises(ValueError, match=f"missing: {column}"):
            figure_module.draw(ONE.drop(columns=column))


def test_the_rows_of_a_run_are_drawn_from_its_file(settings, whole):
    rows = read_tables(whole)["rows"]
    figure = figure_module.draw(rows)
    labels = [style.label(name) for name in ("base", *settings.estimators)]
    assert [line.get_label() for line in figure.axes[0].lines] == labels
    assert all(len(ax.lines) == 2 for ax in figure.axes[1:])
    table = figure_module.summarise(rows)
    own = rows[(rows["view"] == "problem") & (rows.estimator == "grpo")].correct / 6
    assert table.loc[SUMS, "grpo"]["pass@1"].startswith(f"{own.mean():.3f} [")
    assert len(table) == 3 + 2


def test_settings_of_another_run_are_refused(settings, whole):
    with pytest.raises(ValueError, match=r"holds a run with other settings \(learning_rate = 0.03 there, 0.1 now\)"):
        executed(replace(settings, learning_rate=0.1), whole)
