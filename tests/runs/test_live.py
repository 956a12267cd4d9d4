"""The live view: every row of every checkpoint is handed on once, and what fails there ends no run."""

import math
from importlib.util import find_spec

import pandas as pd
import pytest
import torch

from experiments.__main__ import run_experiment
from maxrl_lab.errors import InputError
from maxrl_lab.runs import live
from maxrl_lab.runs.checkpoint import Checkpoint

HEAD = {"method": "rloo", "rollouts": 4, "learning_rate": 0.1}


class Fake:
    """A service that remembers: the name of each training to its (values, step), and what has been ended."""

    def __init__(self):
        self.seen, self.ended = {}, []

    def start(self, name):
        self.seen[name] = []
        return (
            lambda values, step: self.seen[name].append((dict(values), step)),
            lambda: self.ended.append(name),
        )


def rows(*steps, seed=0):
    return [{**HEAD, "seed": seed, "step": step, "pass_rate": step / 10} for step in steps]


class TestFollowing:
    """What is handed on, and when."""

    def test_each_row_once_however_often_the_checkpoint_is_saved(self, tmp_path):
        fake, checkpoint = Fake(), Checkpoint(tmp_path / "stage")
        follower = live._Follower(tmp_path, fake.start)
        follower.look()
        for last in (2, 2, 5):
            checkpoint.save({"tables": {"curves": rows(*range(last))}, "weights": torch.zeros(3)})
            follower.look()
            follower.look()
        assert fake.seen == {
            "stage/method rloo/rollouts 4/learning_rate 0.1/seed 0": [
                ({"curves/pass_rate": step / 10}, step) for step in range(5)
            ]
        }

    def test_steps_rise_where_tables_measure_at_different_ones(self, tmp_path):
        fake = Fake()
        tables = {"curves": rows(0, 2), "dynamics": [{**row, "length": 3.0} for row in rows(1, 2)]}
        Checkpoint(tmp_path / "a" / "b").save({"tables": tables})
        live._Follower(tmp_path, fake.start).look()
        ((name, logged),) = fake.seen.items()
        assert name.startswith("a/b/")
        assert [step for _, step in logged] == [0, 1, 2]
        assert set(logged[2][0]) == {"curves/pass_rate", "dynamics/pass_rate", "dynamics/length"}

    def test_networks_of_one_program_are_trainings_of_their_own(self, tmp_path):
        fake = Fake()
        Checkpoint(tmp_path / "a").save({"tables": {"curves": [*rows(0), *rows(0, seed=1)]}})
        live._Follower(tmp_path, fake.start).look()
        assert [name[-6:] for name in fake.seen] == ["seed 0", "seed 1"]

    def test_the_last_rows_are_handed_on_at_the_end(self, tmp_path):
        fake = Fake()
        with live.followed(tmp_path, fake.start, seconds=60):
            Checkpoint(tmp_path / "a").save({"tables": {"curves": rows(0, 1)}})
        (name,) = fake.seen
        assert [step for _, step in fake.seen[name]] == [0, 1]
        assert fake.ended == [name]

    @pytest.mark.parametrize("state", [{"policy": torch.ones(2)}, {"tables": 3}, {"tables": {"final": [{"p": 0.5}]}}])
    def test_what_is_no_curve_is_left_out(self, tmp_path, state):
        fake = Fake()
        Checkpoint(tmp_path / "a").save(state)
        (tmp_path / "b.pt").write_bytes(b"not a checkpoint")
        live._Follower(tmp_path, fake.start).look()
        assert not fake.seen

    @pytest.mark.parametrize("when", ["at once", "at the end"])
    def test_a_service_that_fails_does_not_end_the_run(self, tmp_path, capsys, when):
        def start(name):
            raise RuntimeError("the service is down")

        Checkpoint(tmp_path / "a").save({"tables": {"curves": rows(0)}})
        with live.followed(tmp_path, start, seconds=0.01 if when == "at once" else 60):
            ended = True
        assert ended
        assert capsys.readouterr().err == (
            "maxrl-lab: the live view ended (RuntimeError: the service is down); the run goes on\n"
        )


def test_numbers_are_values_and_words_are_labels():
    row = {**HEAD, "seed": 0, "step": 3, "difficulty": "far", "k": 8, "pass_at_k": 0.5, "gap": math.nan, "solved": True}
    assert live.values_of("curves", row) == {"curves/pass_at_k, far, k 8": 0.5, "curves/solved, far, k 8": 1.0}


class TestServices:
    """The packages behind the flag."""

    def test_a_missing_package_is_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr(live, "find_spec", lambda name: None)
        for name in live.WRITERS:
            with pytest.raises(InputError, match=f"^--log {name} needs {name}, which is not installed: pip install"):
                live.open_writer(name, tmp_path, "navigation")

    def test_an_unknown_package_is_refused_before_anything_is_made(self, tmp_path):
        with pytest.raises(InputError, match="invalid choice: 'mlflow'"):
            run_experiment(["navigation", "--preset", "smoke", "--out", str(tmp_path), "--log", "mlflow"])
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
    def test_tensorboard_shows_the_rows_of_a_run(self, tmp_path):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        place = ["--out", str(tmp_path), "--pictures", str(tmp_path), "--quiet", "--device", "cpu"]
        small = ["--steps", "3", "--learning-rates", "1", "10", "--estimators", "maxrl"]
        arguments = ["likelihood_limit", "--preset", "smoke", *small, *place, "--log", "tensorboard"]
        assert run_experiment(arguments) == 0
        table = pd.read_csv(tmp_path / "smoke" / "likelihood_limit" / "curves.csv")
        place, shown = tmp_path / "live" / "tensorboard" / "smoke" / "likelihood_limit", {}
        for folder in {file.parent for file in place.rglob("events*")}:
            events = EventAccumulator(str(folder)).Reload()
            name = folder.relative_to(place).as_posix()
            shown |= {(name, event.step): event.value for event in events.Scalars("curves/pass_rate")}
        for row in table.to_dict("records"):
            row["rollouts"] = None if math.isnan(row["rollouts"]) else int(row["rollouts"])
            assert shown[live._name("training", row), row["step"]] == pytest.approx(row["pass_rate"], rel=1e-6)

    @pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
    def test_wandb_stays_offline_unless_told_otherwise(self, tmp_path, monkeypatch):
        import wandb

        told = []
        monkeypatch.delenv("WANDB_MODE", raising=False)
        monkeypatch.setattr(wandb, "init", lambda **options: told.append(options) or pytest.fail("not needed"))
        with pytest.raises(pytest.fail.Exception):
            live.open_writer("wandb", tmp_path, "navigation")("a")
        assert told[0]["mode"] == "offline"
        assert told[0]["dir"] == str(tmp_path)
