"""How does an estimator of the lab train a language model inside TRL, and which settings would change its objective?

    pip install -e '.[llm]'; python examples/with_trl.py

The model is a random Qwen2 of a few thousand weights, so nothing is downloaded. An answer is right if it is one word
with an even number of letters. TRL does everything but the advantages; `group/weight` is the estimator's exact weight
w_N at the pass rates that were met, which falls towards 1 as the answers become right. The last line shows that a loss
which averages over tokens is refused, and why.
"""

import tempfile

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, PrinterCallback, Qwen2Config, Qwen2ForCausalLM, set_seed

from maxrl_lab.llm.trl import EstimatorTrainer, settings

WORDS = ("<pad>", "<eos>", "say", "something", "it", "was", "rain", "sun", "moon", "cloud", "storm", "fog")


def model_and_tokenizer() -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Return a random model and a tokenizer whose tokens are whole words."""
    set_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(vocab_size=len(WORDS), **sizes, num_key_value_heads=2, pad_token_id=0, eos_token_id=1)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Qwen2ForCausalLM(config), PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>"
    )


def even_word(completions: list[str], **_: object) -> list[float]:
    """Return 1 for one word with an even number of letters, else 0."""
    return [float(len(text.split()) == 1 and len(text.strip()) % 2 == 0) for text in completions]


def main(updates: int = 50) -> None:
    """Train by MaxRL's leave-one-out form on groups of 16 answers, and print the means of every 10 updates."""
    model, tokenizer = model_and_tokenizer()
    problems = Dataset.from_dict({"prompt": ["say something", "it was"] * 8})
    small = {"max_completion_length": 2, "max_steps": updates, "learning_rate": 0.01, "gradient_accumulation_steps": 2}
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "use_cpu": True, "bf16": False}
    with tempfile.TemporaryDirectory() as folder:
        arguments = settings(folder, num_generations=16, logging_steps=10, **small, **quiet)
        shared = {"train_dataset": problems, "processing_class": tokenizer}
        trainer = EstimatorTrainer(model, even_word, arguments, estimator="maxrl_leave_one_out", **shared)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        for entry in trainer.state.log_history[:-1]:
            print(*(f"{name} {entry[name]:<6.3g}" for name in ("step", "group/pass_rate", "group/weight")))
        try:
            EstimatorTrainer(model, even_word, settings(folder, loss_type="grpo", **quiet), estimator="grpo", **shared)
        except ValueError as error:
            print(f"refused: {error}")


if __name__ == "__main__":
    main()
