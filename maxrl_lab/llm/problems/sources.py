"""Known collections of mathematical problems: where each is on the Hugging Face hub, and how it is read.

The paper trains on GSM8K (tested on GSM8K-Platinum) and POLARIS-53K, and evaluates on the others (6.3, 6.4). No
repository's own code is ever run: `trust_remote_code` is never set.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.llm.problems import equality


@dataclass(frozen=True)
class Source:
    """A collection: its repository on the Hugging Face hub, its splits there, its columns, how a reference is read."""

    repository: str
    splits: Mapping[str, str]
    """Our name of each split to the repository's; a collection may have one of the two only."""
    question: str = "problem"
    answer: str = "answer"
    subset: str | None = None
    reference: Callable[[str], str] = str.strip


def after_hashes(text: str) -> str:
    """Return GSM8K's reference: the text after the last ####, without commas, or a number alone.

    Raises `InputError` for a solution without ####, which would be a reference that nothing equals.
    """
    _, hashes, answer = text.rpartition("####")
    if not hashes and text.strip() and equality.number(text) is None:
        raise InputError(f"expected #### before the reference answer, got a text that ends in {text.strip()[-40:]!r}")
    return answer.replace(",", "").strip()


_ONLY_TEST = {"test": "test"}
SOURCES: Mapping[str, Source] = {
    "gsm8k": Source("openai/gsm8k", {"train": "train", "test": "test"}, "question", "answer", "main", after_hashes),
    "gsm8k_platinum": Source("madrylab/gsm8k-platinum", _ONLY_TEST, "question", "answer", "main", after_hashes),
    "polaris": Source("POLARIS-Project/Polaris-Dataset-53K", {"train": "train"}),
    "math500": Source("HuggingFaceH4/MATH-500", _ONLY_TEST),
    "aime2024": Source("HuggingFaceH4/aime_2024", {"test": "train"}),
    "aime2025": Source("math-ai/aime25", _ONLY_TEST),
    "beyond_aime": Source("ByteDance-Seed/BeyondAIME", _ONLY_TEST),
    "minerva": Source("math-ai/minervamath", _ONLY_TEST, question="question"),
    "hmmt_feb_2025": Source("MathArena/hmmt_feb_2025", {"test": "train"}),
    "hmmt_nov_2025": Source("MathArena/hmmt_nov_2025", {"test": "train"}),
}


def fetch(source: str, known: Source, split: str) -> Any:
    """Return the table of a split from the hub or, without a network, from its cache."""
    datasets = need("datasets")
    if split not in known.splits:
        raise InputError(f"{source} has no {split} split; it has {', '.join(known.splits)}")
    try:
        with _offline_unless_reachable(known.repository):
            return datasets.load_dataset(known.repository, known.subset, split=known.splits[split])
    except Exception as error:  # the hub's client raises errors of many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"could not fetch {known.repository} ({reason}); offline: --source reasoning_gym/chain_sum, or a local file"
        ) from None


@contextlib.contextmanager
def _offline_unless_reachable(repository: str) -> Iterator[None]:
    """Tell the hub's client in advance that there is no network; it retries every file for 20 seconds otherwise."""
    hub = need("huggingface_hub")
    switches: list[Any] = [need("datasets.config"), need("huggingface_hub.constants")]
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        if not any(before):
            hub.HfApi().dataset_info(repository, timeout=10)
        offline = any(before)
    except Exception:  # the download would meet the same error
        offline = True
    try:
        for switch in switches:
            switch.HF_HUB_OFFLINE = offline
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value


def read(path: Path) -> Any:
    """Return the table of a local file."""
    kinds = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
    kind = specs.lookup(kinds, "file type", path.suffix.lower())
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    pandas = need("pandas")
    as_they_are: Mapping[str, dict[str, Any]] = {  # no guessed types: 007 and NA are texts
        "json": {"lines": path.suffix.lower() == ".jsonl", "dtype": False, "encoding": "utf-8-sig"},
        "csv": {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"},
        "parquet": {},
    }
    try:
        frame = getattr(pandas, f"read_{kind}")(path, **as_they_are[kind])
    except Exception as error:  # each format raises its own kind
        raise InputError(f"cannot read {path} as {kind}: {(str(error).splitlines() or [''])[0]}") from None
    return need("datasets").Dataset.from_pandas(frame, preserve_index=False)
