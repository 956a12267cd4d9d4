"""Checkpoints: what is saved comes back, damage is named, and nothing in a file is executed."""

import os
import re

import numpy as np
import pytest
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.runs.checkpoint import Checkpoint

ROWS = [{"step": 0, "value": 0.1}, {"step": 10, "value": 1 / 3}]


def names(folder):
    return {path.name for path in folder.rglob("*")}


def test_tensors_and_plain_values_come_back(tmp_path):
    state = {"step": 3, "rows": ROWS, "nested": {"weights": torch.tensor([1 / 3], dtype=torch.float64)}, "no": None}
    checkpoint = Checkpoint(tmp_path).stage("stage")
    assert checkpoint.load() is None
    checkpoint.save({"step": 0})
    checkpoint.save(state)
    back = checkpoint.load()
    assert torch.equal(back["nested"].pop("weights"), state["nested"].pop("weights"))
    assert back == state
    assert names(tmp_path) == {"stage.pt"}


def test_stages_do_not_share_state(tmp_path):
    root = Checkpoint(tmp_path)
    root.stage("a").save({"who": "a"})
    root.stage("a").stage("b").save({"who": "a/b"})
    assert root.stage("a").load() == {"who": "a"}
    assert root.stage("a").stage("b").load() == {"who": "a/b"}
    assert root.stage("b").load() is None


def test_stages_whose_names_differ_after_a_dot_do_not_share_state(tmp_path):
    Checkpoint(tmp_path).stage("rate=0.1").save({"rate": 0.1})
    assert Checkpoint(tmp_path).stage("rate=0.5").load() is None


def test_the_state_of_another_stage_is_named(tmp_path):
    root = Checkpoint(tmp_path / "checkpoint")
    for name in ("a", "b"):
        root.stage(name).save({"weights": torch.ones(3)})
    (tmp_path / "checkpoint/a.pt").replace(tmp_path / "checkpoint/b.pt")
    message = f"the checkpoint {tmp_path}/checkpoint/b.pt holds the state of another stage (checkpoint/a)"
    with pytest.raises(InputError, match=re.escape(message)):
        root.stage("b").load()


def test_a_run_may_be_moved(tmp_path):
    Checkpoint(tmp_path / "here/checkpoint/run").stage("a").save({"step": 1})
    (tmp_path / "here").rename(tmp_path / "there")
    assert Checkpoint(tmp_path / "there/checkpoint/run").stage("a").load() == {"step": 1}


@pytest.mark.parametrize(
    "damage",
    ["truncated", "empty", "not an archive", "one byte changed"],
)
def test_a_damaged_checkpoint_is_one_line_that_names_the_file(tmp_path, damage):
    checkpoint = Checkpoint(tmp_path).stage("stage")
    checkpoint.save({"weights": torch.arange(100.0)})
    file = tmp_path / "stage.pt"
    whole = file.read_bytes()
    weights = whole.index(torch.arange(100.0).numpy().tobytes())
    changed = whole[: weights + 4] + b"\xff" + whole[weights + 5 :]
    content = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "not an archive": b"PK, said the file",
        "one byte changed": changed,
    }
    file.write_bytes(content[damage])
    with pytest.raises(InputError, match=re.escape(str(file))) as refusal:
        checkpoint.load()
    assert len(str(refusal.value).splitlines()) == 1
    assert "--force" in str(refusal.value)


def test_code_in_a_checkpoint_is_not_executed(tmp_path):
    loot = tmp_path / "executed"
    file = tmp_path / "stage.pt"
    torch.save({"step": Trap(loot)}, file)
    with pytest.raises(InputError, match=re.escape(str(file))):
        Checkpoint(tmp_path).stage("stage").load()
    assert not loot.exists()
    torch.load(file, weights_only=False)  # the trap is armed: an ordinary load springs it
    assert loot.exists()


def test_a_state_that_cannot_be_loaded_is_refused_when_saved(tmp_path):
    with pytest.raises(TypeError, match="a state of tensors and plain values was expected"):  # a fault of ours
        Checkpoint(tmp_path).stage("stage").save({"rows": [{"value": np.float64(0.5)}]})


class Trap:
    """Unpickling it makes a directory."""

    def __init__(self, loot):
        self.loot = str(loot)

    def __reduce__(self):
        return os.mkdir, (self.loot,)
