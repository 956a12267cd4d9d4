"""A language model of 5 000 weights as a folder that `Recipe.model` names: a token a character, answers mostly a digit.

Shared by the tests of `maxrl_lab.llm.jobs` and of the experiment `llm`.
"""

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BOS, END, UNKNOWN = "<pad>", "<bos>", "<end>", "<unk>"
VOCABULARY = (PAD, BOS, END, UNKNOWN, "\n", *map(chr, range(32, 127)))
LIKELY = "123456"
"""What the untrained model answers nearly always, each of them about as often, and then the end of the line."""
CONTEXT = 256
DIGITS = '{"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}'
"""Settings of reasoning_gym/chain_sum: sums and differences of two digits, many of which one digit answers."""


def save_folder(folder):
    """Write the model and its tokenizer, the same every time; return the folder."""
    small_model().save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def small_model():
    """A Llama of one layer: `LIKELY` is read off a dimension that is large for every token, the end off the digits'."""
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for each in model.parameters():
            each.copy_(torch.ones_like(each) if each.ndim == 1 else 0.1 * torch.randn_like(each))
        digits, end = [VOCABULARY.index(each) for each in LIKELY], VOCABULARY.index("\n")
        embedded, read = model.model.embed_tokens.weight, model.lm_head.weight
        embedded[:, 0], read[:, 0], read[digits, 0] = 6.0, 0.0, 2.0
        embedded[:, 1], embedded[digits, 1] = 0.0, 4.0
        read[:, 1], read[end, 1] = 0.0, 6.0
    return model


def small_tokenizer():
    """One token a character; without a template for chats."""
    vocabulary = {character: place for place, character in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=END, unk_token=UNKNOWN
    )
