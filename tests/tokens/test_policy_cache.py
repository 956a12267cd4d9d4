"""Trained policies on disk: made once, never trusted when damaged, addressed by all they depend on, open elsewhere."""

import errno
import json

import pytest
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import seeded
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.tokens import policy_cache, pretrained

WORDS = ["<pad>", "<bos>", "<eos>", "0", "1", "="]
SHAPE = Shape(len(WORDS), 16, 1, 2, 1, 16, 12)
TABLES = {"dynamics": [{"step": 1, "pass_rate": 1 / 3}], "evaluations": [{"step": 4, "k": 16}]}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path))
    return tmp_path / "policies"


class Maker:
    """Makes the policy of a seed, and counts how often it was asked to."""

    def __init__(self, seed=0):
        self.seed, self.made = seed, 0

    def __call__(self, address="run-0"):
        assert address.startswith(("run-", "base-"))  # the name of its folder, for its checkpoint
        self.made += 1
        return seeded(lambda: Transformer(SHAPE), self.seed), TABLES


def cached(make, kind="run", words=WORDS, **key):
    return policy_cache.cached(kind, key, words, CPU, make)


def weights(policy):
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


def test_made_once_and_read_after(folder):
    make = Maker()
    first, tables = cached(make, steps=4)
    again, tables_again = cached(make, steps=4)
    assert make.made == 1
    assert torch.equal(weights(first), weights(again))
    assert torch.equal(weights(first), weights(make()[0]))
    assert tables == tables_again == TABLES
    (only,) = folder.iterdir()
    assert only.name.startswith("run-")
    # what it is, is written beside it
    record = json.loads((only / "record.json").read_text())
    assert json.loads(record["key"])["steps"] == 4


def test_nobody_else_can_change_what_is_on_disk():
    make = Maker()
    with torch.no_grad():
        cached(make)[0].embedding.zero_()
    assert torch.equal(weights(cached(make)[0]), weights(make()[0]))


def test_all_that_it_depends_on_is_in_the_address(folder, monkeypatch):
    make = Maker()
    cached(make, steps=4)
    cached(make, steps=5)
    cached(make, kind="base", steps=4)
    cached(make, words=[*WORDS[:-1], "+"], steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(policy_cache.torch, "__version__", "0.0")
        cached(make, steps=4)
    assert make.made == len(list(folder.iterdir())) == 5
    cached(make, steps=4)
    assert make.made == 5


def test_two_settings_do_not_share_a_policy():
    assert not torch.equal(weights(cached(Maker(0), seed=0)[0]), weights(cached(Maker(1), seed=1)[0]))


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # the last byte of a weight
    file.write_bytes(content)


DAMAGES = {
    "weights-changed": ("model.safetensors", flip_a_byte),
    "weights-cut-off": ("model.safetensors", lambda file: file.write_bytes(file.read_bytes()[:-8])),
    "weights-lost": ("model.safetensors", lambda file: file.unlink()),
    "config-broken": ("config.json", lambda file: file.write_text("{")),
    "config-changed": (
        "config.json",
        lambda file: file.write_text(file.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 0.001')),
    ),
    "tokenizer-changed": ("tokenizer.json", lambda file: file.write_text(file.read_text().replace("WordLevel", "BPE"))),
    "file-added": ("notes.txt", lambda file: file.write_text("mine")),
    "config-lost": ("config.json", lambda file: file.unlink()),
    "record-broken": ("record.json", lambda file: file.write_bytes(b'{"key": "\xff')),
    "record-of-another-shape": ("record.json", lambda file: file.write_text("[1, 2]")),
    "record-without-tables": (
        "record.json",
        lambda file: file.write_text(
            json.dumps({**json.loads(file.read_text()), "tables": None}).replace("tables", "cables")
        ),
    ),
    "record-of-another-policy": (
        "record.json",
        lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), "key": "{}"})),
    ),
    "record-of-deep-brackets": ("record.json", lambda file: file.write_text("[" * 200_000)),
    "tables-changed": ("record.json", lambda file: file.write_text(file.read_text().replace("0.333", "0.733"))),
    "tables-that-are-a-list": ("record.json", lambda file: file.write_text(file.read_text().replace("{", "[{", 1))),
    "config-of-deep-brackets": ("config.json", lambda file: file.write_text("[" * 200_000)),
    "config-of-huge-sizes": ("config.json", lambda file: file.write_text(file.read_text().replace("16", str(2**62)))),
    "record-lost": ("record.json", lambda file: file.unlink()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_policy_is_made_again(folder, damage):
    make = Maker()
    whole = cached(make)[0]
    (own,) = folder.iterdir()
    name, do = DAMAGES[damage]
    do(own / name)
    again, tables = cached(make)
    assert make.made == 2
    assert torch.equal(weights(again), weights(whole))
    assert tables == TABLES
    cached(make)
    assert make.made == 2  # and is whole again


def test_every_flipped_bit_of_a_record_is_noticed(folder):
    make = Maker()
    cached(make)
    (own,) = folder.iterdir()
    content = (own / "record.json").read_bytes()
    places = range(0, len(content) - 1, len(content) // 60)  # the last byte is the line's end
    for made, place in enumerate(places, start=2):
        (own / "record.json").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert cached(make)[1] == TABLES
        assert make.made == made
        assert (own / "record.json").read_bytes() == content


def test_a_cache_that_cannot_be_written_is_noticed_before_a_policy_is_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "file/cache"))
    make = Maker()
    with pytest.raises(InputError, match=r"policies cannot be kept .*/file/cache.*; MAXRL_LAB_CACHE names another"):
        cached(make)
    assert make.made == 0


def test_a_policy_that_cannot_be_kept_is_used_without(folder, monkeypatch):
    make = Maker()

    def full_disk(*_arguments):
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_disk)
        with pytest.warns(RuntimeWarning, match=r"the policy is not kept .*no space left.*model.safetensors"):
            policy, tables = cached(make)
    assert torch.equal(weights(policy), weights(make()[0]))
    assert tables == TABLES
    cached(make)
    assert make.made == 3


def test_a_kill_before_the_record_leaves_nothing_that_is_read(folder, monkeypatch):
    make = Maker()

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(policy_cache, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            cached(make)
    cached(make)
    assert make.made == 2


def test_the_folder_holds_a_policy_that_opens_by_itself(folder):
    policy, _ = cached(Maker())
    (kept,) = folder.iterdir()
    assert torch.equal(weights(pretrained.load(kept, vocabulary=len(WORDS))), weights(policy))
