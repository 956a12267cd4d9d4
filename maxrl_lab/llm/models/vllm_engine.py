"""vLLM as an engine: it samples n completions of each prompt, of the model in a folder, on a GPU."""

import gc
import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.llm.models.sampling import Completion, Prompt, Sampling, encode
from maxrl_lab.randomness import generator


class VllmEngine:
    """An engine that samples by vLLM. The random numbers are vLLM's own; a seed for each problem keys them."""

    def __init__(self, path: str, sampling: Sampling, **options: Any) -> None:
        """Load the model; `options` go to vLLM's `LLM`, e.g. `gpu_memory_utilization=0.5` beside a trainer."""
        if find_spec("vllm") is None:
            raise InputError("vllm is not installed; it comes with: pip install vllm")
        self.sampling = sampling
        self._vllm = importlib.import_module("vllm")
        self._model = self._vllm.LLM(model=path, load_format="safetensors", seed=sampling.seed, **options)

    def complete(self, prompts: Sequence[Prompt], first: int = 0) -> list[list[Completion]]:
        """Return n completions of each prompt."""
        tokenizer = self._model.get_tokenizer()
        inputs = [{"prompt_token_ids": encode(tokenizer, prompt)} for prompt in prompts]
        parameters = [self._parameters(first + index) for index in range(len(prompts))]
        requests = self._model.generate(inputs, parameters, use_tqdm=False)
        return [
            [
                Completion(answer.text, len(answer.token_ids), answer.finish_reason == "stop")
                for answer in request.outputs
            ]
            for request in requests
        ]

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._model = None
        gc.collect()
        torch.cuda.empty_cache()

    def _parameters(self, problem: int) -> Any:
        asked = self.sampling
        return self._vllm.SamplingParams(
            n=asked.samples,
            temperature=asked.temperature,
            top_p=asked.top_p,
            max_tokens=asked.answer_length,
            seed=generator("answers", asked.seed, problem).initial_seed() % 2**62,  # vLLM adds the sample's number
        )
