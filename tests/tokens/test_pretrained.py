"""Policies on disk: what was saved comes back; what is damaged or does not fit is refused in one line."""

import contextlib
import json
import shutil

import pytest
import safetensors.torch
import torch
from small_policy import small_policy

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Shape, Transformer
from maxrl_lab.runs import files
from maxrl_lab.tokens import pretrained, qwen2

WORDS = ["<pad>", "<bos>", "<eos>", "UP", "DOWN", "12", "+", "x_1"]


def policy_of(tied=True, **options):
    return small_policy(len(WORDS), dtype=torch.float32, tied=tied, **options)


def equal(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return first.shape == second.shape and all(torch.equal(own, other) for own, other in pairs)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def saved(request, tmp_path_factory):
    policy, folder = policy_of(request.param), tmp_path_factory.mktemp("policy")
    pretrained.save(policy, folder, WORDS)
    return policy, folder


@pytest.fixture
def folder(tmp_path):
    """A saved policy to be damaged."""
    pretrained.save(policy_of(), tmp_path / "policy", WORDS)
    return tmp_path / "policy"


class TestRoundTrip:
    def test_the_same_policy_comes_back(self, saved):
        policy, folder = saved
        found = pretrained.load(folder, vocabulary=len(WORDS))
        assert equal(found, policy)
        assert all(each.requires_grad and each.dtype == torch.float32 for each in found.parameters())

    def test_a_folder_may_be_given_as_text(self, tmp_path):
        pretrained.save(policy_of(), str(tmp_path), WORDS)
        assert equal(pretrained.load(str(tmp_path)), policy_of())

    def test_what_was_saved_first_is_replaced(self, tmp_path):
        pretrained.save(policy_of(seed=1), tmp_path, WORDS)
        pretrained.save(policy_of(seed=2, layers=1), tmp_path, WORDS)
        assert equal(pretrained.load(tmp_path), policy_of(seed=2, layers=1))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_other_precisions_are_read_as_single(self, tmp_path, dtype):
        policy = policy_of().to(dtype)
        pretrained.save(policy, tmp_path, WORDS)
        found = pretrained.load(tmp_path)
        assert equal(found, policy.float())
        assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")

    def test_every_size_of_the_shape_survives(self, tmp_path):
        shape = Shape(8, 24, 3, 2, 1, 20, 77, rope_theta=12345.0, norm_epsilon=1e-3, tied=False)
        pretrained.save(Transformer(shape), tmp_path, WORDS)
        assert pretrained.load(tmp_path).shape == shape
        config = json.loads((tmp_path / "config.json").read_text())  # where older and newer readers look
        assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 12345.0

    def test_files(self, saved):
        _, folder = saved
        assert sorted(each.name for each in folder.iterdir()) == [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ]


def edit(folder, remove=(), **changes):
    path = folder / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in remove}
    path.write_text(json.dumps({**config, **changes}))


def edit_weights(folder, change):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    change(weights)
    safetensors.torch.save_file(weights, folder / "model.safetensors")


class TestConfig:
    def test_older_files_keep_the_rotary_base_at_the_top(self, folder):
        edit(folder, remove=["rope_parameters"], rope_theta=1234.5)
        assert pretrained.load(folder).shape.rope_theta == 1234.5
        edit(folder, remove=["rope_parameters", "rope_theta"])
        assert pretrained.load(folder).shape.rope_theta == 10_000  # what transformers assumes

    def test_an_absent_tie_means_untied(self):
        config = qwen2.to_config(Shape(tied=False), "float32")
        del config["tie_word_embeddings"]
        assert qwen2.read_shape(config) == Shape(tied=False)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"model_type": "llama"}, "model_type 'llama', hidden_act 'silu'"),
            ({"model_type": None, "hidden_act": ""}, "none of its settings"),
            ({"hidden_act": "gelu"}, "model_type 'qwen2', hidden_act 'gelu'"),
            ({"use_sliding_window": True}, "model_type 'qwen2', hidden_act 'silu', use_sliding_window True"),
        ],
    )
    def test_another_architecture(self, refuses, folder, changes, message):
        edit(folder, **changes)
        with refuses(f"{folder}: expected a Qwen2 config with full attention and silu, got {message}"):
            pretrained.load(folder)

    def test_missing_sizes(self, refuses, folder):
        edit(folder, remove=["hidden_size", "rms_norm_eps"])
        with refuses(f"{folder}: expected the sizes of a Qwen2 config, missing hidden_size, rms_norm_eps"):
            pretrained.load(folder)

    def test_stretched_positions(self, refuses, folder):
        edit(folder, rope_parameters={"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0})
        with refuses(f"{folder}: expected plain rotary positions, got rope_type 'yarn'"):
            pretrained.load(folder)
        edit(folder, remove=["rope_parameters"], rope_scaling={"type": "linear", "factor": 2.0})
        with refuses(f"{folder}: expected plain rotary positions, got rope_type 'linear'"):
            pretrained.load(folder)

    def test_sizes_that_make_no_policy(self, refuses, folder):
        edit(folder, num_key_value_heads=3)
        with refuses("heads must be a multiple of kv_heads, got 4 and 3"):
            pretrained.load(folder)

    @pytest.mark.parametrize(
        "changes", [{"is_causal": False}, {"is_causal": None}, {"layer_types": ["full_attention", "sliding_attention"]}]
    )
    def test_attention_that_is_not_causal_to_all_that_went_before(self, refuses, folder, changes):
        described = {"is_causal": True, "layer_types": []} | changes
        got = f"is_causal {described['is_causal']} and layer_types {described['layer_types']}"
        edit(folder, **changes)
        with refuses(f"{folder}: expected causal attention to all that went before, got {got}"):
            pretrained.load(folder)
        edit(folder, is_causal=True, layer_types=["full_attention"] * 2)
        assert equal(pretrained.load(folder), policy_of())

    @pytest.mark.parametrize("key", [*qwen2.to_config(Shape(), "float32"), "rope_scaling", "layer_types", "is_causal"])
    @pytest.mark.parametrize("value", [2**62, 10**400, -1, 0.5, [1], [[]], {"a": 1}, "x", True, None])
    def test_a_setting_of_any_kind_and_magnitude_is_read_or_refused(self, folder, key, value):
        edit(folder, **{key: value})
        with contextlib.suppress(InputError):
            pretrained.load(folder)

    @pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"])
    def test_sizes_beyond_all_memory_are_refused_at_once(self, folder, key):
        edit(folder, **{key: 2**62})
        with pytest.raises(InputError, match=r"expected"):
            pretrained.load(folder)

    @pytest.mark.parametrize("content", ["[]", "3", '"qwen2"'])
    def test_a_config_that_is_no_table(self, refuses, folder, content):
        (folder / "config.json").write_text(content)
        kind = type(json.loads(content)).__name__
        with refuses(f"{folder}: expected a table of settings in config.json, got {kind}"):
            pretrained.load(folder)


class TestRefused:
    def one_line(self, folder, start):
        with pytest.raises(ValueError, match=start) as caught:
            pretrained.load(folder)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{folder} does not hold a readable policy: ")

    def test_no_folder(self, tmp_path):
        self.one_line(tmp_path / "nowhere", "No such file or directory")

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_missing_file(self, folder, name):
        (folder / name).unlink()
        self.one_line(folder, r"No such file or directory.*" + name)

    @pytest.mark.parametrize("keep", [0, 5, 100, -7])
    def test_weights_cut_short(self, folder, keep):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:keep])
        self.one_line(folder, "does not hold a readable policy")

    def test_weights_that_are_rubbish(self, folder):
        path = folder / "model.safetensors"
        path.write_bytes(b"\xff" * len(path.read_bytes()))
        self.one_line(folder, "does not hold a readable policy")

    @pytest.mark.parametrize("content", [b"", b"{", b"{'model_type': 1}", b"\xff\xfe\x00", b"[" * 200_000])
    def test_a_damaged_config(self, folder, content):
        (folder / "config.json").write_bytes(content)
        self.one_line(folder, "does not hold a readable policy")

    def test_a_missing_weight(self, refuses, folder):
        name = "model.layers.1.mlp.up_proj.weight"
        edit_weights(folder, lambda weights: weights.pop(name))
        with refuses(f"{folder}: expected {name} of shape (24, 16), got none"):
            pretrained.load(folder)

    def test_an_unexpected_weight(self, refuses, folder):
        name = "model.layers.2.input_layernorm.weight"
        edit_weights(folder, lambda weights: weights.update({name: torch.ones(16)}))
        with refuses(f"{folder}: expected {name} of shape none, got (16,)"):
            pretrained.load(folder)

    def test_a_weight_of_another_shape(self, refuses, folder):
        name = "model.layers.0.self_attn.k_proj.bias"
        edit_weights(folder, lambda weights: weights.update({name: torch.ones(9)}))
        with refuses(f"{folder}: expected {name} of shape (8,), got (9,)"):
            pretrained.load(folder)

    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn], ids=str)
    def test_codes_of_quantised_weights_are_not_their_values(self, refuses, folder, dtype):
        name = "model.layers.1.mlp.down_proj.weight"
        edit_weights(folder, lambda weights: weights.update({name: weights[name].to(dtype)}))
        with refuses(f"{folder}: expected floating-point weights of 16 to 64 bits, got {name} of {dtype}"):
            pretrained.load(folder)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e300])  # the last is infinite in single precision
    def test_weights_that_are_not_finite(self, refuses, folder, value):
        name = "model.norm.weight"
        edit_weights(folder, lambda weights: weights.update({name: torch.full((16,), value, dtype=torch.float64)}))
        with refuses(f"{folder}: expected finite weights, got {name} with NaN or infinite numbers"):
            pretrained.load(folder)

    def test_weights_in_several_files(self, refuses, folder):
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text("{}")
        with refuses(
            f"{folder} holds a sharded policy (model.safetensors.index.json); expected one file: save it with "
            "max_shard_size='1TB'"
        ):
            pretrained.load(folder)

    def test_weights_of_another_size_than_the_config_says(self, refuses, folder):
        edit(folder, hidden_size=32)
        with refuses(f"{folder}: expected model.embed_tokens.weight of shape (8, 32), got (8, 16)"):
            pretrained.load(folder)

    def test_an_untied_config_needs_the_head(self, refuses, folder):
        edit(folder, tie_word_embeddings=False)
        with refuses(f"{folder}: expected lm_head.weight of shape (8, 16), got none"):
            pretrained.load(folder)

    def test_a_tied_config_does_not_mind_it(self, folder):
        edit_weights(folder, lambda weights: weights.update({"lm_head.weight": torch.zeros(8, 16)}))
        assert equal(pretrained.load(folder), policy_of())

    def test_another_vocabulary(self, refuses, folder):
        with refuses(f"{folder} holds a policy of 8 words, expected 32"):
            pretrained.load(folder, vocabulary=32)

    @pytest.mark.parametrize("words", [WORDS[:-1], [*WORDS, "more"]])
    def test_a_word_too_few_or_too_many_writes_nothing(self, refuses, tmp_path, words):
        with refuses(f"expected 8 words, one a token id, got {len(words)}"):
            pretrained.save(policy_of(), tmp_path / "policy", words)
        assert not (tmp_path / "policy").exists()


class TestInterrupted:
    @pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"])
    def test_nothing_half_written_is_left_and_nothing_half_saved_opens(self, tmp_path, monkeypatch, name):
        write = pretrained.write_atomically

        def failing(path, content):
            if path.name == name:
                raise OSError("no space left")
            write(path, content)

        for module in (pretrained, files):
            monkeypatch.setattr(module, "write_atomically", failing)
        with pytest.raises(OSError, match="no space left"):
            pretrained.save(policy_of(), tmp_path / "policy", WORDS)
        left = {each.name for each in (tmp_path / "policy").glob("*")}
        assert name not in left
        assert not any(each.endswith(".tmp") for each in left)
        with pytest.raises(ValueError, match="does not hold a readable policy"):
            pretrained.load(tmp_path / "policy")

    def test_a_copy_is_as_good(self, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "copy")
        assert equal(pretrained.load(tmp_path / "copy"), policy_of())
