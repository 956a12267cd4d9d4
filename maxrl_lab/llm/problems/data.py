"""Problems for language models as a `datasets.Dataset`: made offline by reasoning-gym, or collections (`sources`).

The columns are those that `rewards` scores by: prompt (a list of one user message, or a text), answer (the reference),
source (whose rule scores the answer), entry (reasoning-gym's own data, else empty) and extraction (where the answer
stands).
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.llm.problems import equality, rewards, tasks
from maxrl_lab.llm.problems.sources import SOURCES, Source, fetch, read
from maxrl_lab.runs.files import write_atomically
from maxrl_lab.sampling import sample_enough

COLUMNS = ("prompt", "answer", "source", "entry", "extraction")
SPLITS = ("train", "test")
QUESTION = "{question}"
TEMPLATES: Mapping[str, str] = {
    "boxed": QUESTION + r" Let's think step by step and output the final answer within \boxed{}.",  # App. E.2
    "plain": QUESTION,
}
_STRIDE = 2**20
"""Problems of reasoning-gym between the beginnings of two streams."""
MAX_SEED = 2**11 - 1
"""Largest seed of reasoning-gym's problems: two streams of `_STRIDE` problems for each seed stay below 2**32."""
_PORTION = 512
"""Problems that reasoning-gym makes at once."""
_PATIENCE = 2000
"""A request is refused after this many samples in a row without a new problem."""


def load(
    source: str,
    *,
    count: int | None = None,
    seed: int = 0,
    split: str = "train",
    template: str = "boxed",
    chat: bool = True,
    extraction: str = "boxed",
    config: Mapping[str, Any] | None = None,
    path: str | Path | None = None,
) -> Any:
    """Return the problems of a source as a `datasets.Dataset` with `COLUMNS`.

    `source` is a key of `SOURCES`, or reasoning_gym/TASK, which needs a `count` and takes the task's `config`. Without
    a `count` a collection is whole and in its order; with one it is shuffled by `seed` first. `path` is a local json,
    jsonl, csv or parquet file of the source's own columns, used instead of the hub. `template` is a name in `TEMPLATES`
    or a text with {question} in it (`filled`). Raises a one-line `InputError` for what cannot be fetched, read or made.
    """
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    specs.lookup(rewards.EXTRACTIONS, "extraction", extraction)
    seed = specs.check_count("seed", seed, minimum=0)
    count = count if count is None else specs.check_count("count", count)
    if source.startswith(tasks.PREFIX):
        if count is None or path is not None:
            raise InputError(f"{source} makes its problems: it needs a count and takes no path")
        rows = reasoning_gym_problems(source.removeprefix(tasks.PREFIX), count, seed, config or {}, split)
    else:
        if config:
            raise InputError(f"config is for {tasks.PREFIX}TASK; {source!r} takes none")
        rows = _collection(source, count, seed, split, path)
    return _dataset(rows, template, chat, extraction)


def reasoning_gym_problems(
    task: str, count: int, seed: int, config: Mapping[str, Any], split: str
) -> list[dict[str, str]]:
    """Return `count` different problems (question, answer, source, entry) of a task, the same for the same arguments.

    reasoning-gym makes problem i from the seed + i, so that neighbouring seeds repeat each other; here the streams of
    every seed and split begin `_STRIDE` problems apart. Small tasks repeat questions all the same, so the hash of its
    text decides to which split a question belongs: a quarter of all questions is test. Train and test thus share no
    question, whatever their seeds and counts. Raises `InputError` for a task or config that is refused, and if too few
    questions exist.
    """
    if seed > MAX_SEED:
        raise InputError(f"seed must be at most {MAX_SEED} for reasoning_gym, got {seed}")
    start = (2 * seed + SPLITS.index(split)) * _STRIDE
    stream = _stream(task, config, start)
    problems = sample_enough(
        lambda _: (problem if _split_of(problem["question"]) == split else None for problem in stream),
        count,
        patience=_PATIENCE,
        key=lambda problem: problem["question"],
    )
    if len(problems) < count:
        raise InputError(f"{tasks.PREFIX}{task} has only {len(problems)} different {split} questions, not {count}")
    return [
        {
            "question": problem["question"],
            "answer": problem["answer"],
            "source": tasks.PREFIX + task,
            "entry": tasks.entry_text(problem, config),
        }
        for problem in problems
    ]


def _stream(task: str, config: Mapping[str, Any], start: int) -> Iterator[Mapping[str, Any]]:
    """Yield the problems from seed `start` on, made in portions, because some tasks make all of theirs at once."""
    for seed in range(start, start + _STRIDE, _PORTION):
        portion = tasks.make(task, config, seed=seed, size=_PORTION)
        for index in range(_PORTION):
            yield portion[index]


def _split_of(question: str) -> str:
    """Return the split that the hash of a question assigns it to."""
    return "test" if hashlib.sha256(question.encode()).digest()[0] < 64 else "train"


def _collection(source: str, count: int | None, seed: int, split: str, path: str | Path | None) -> list[dict[str, str]]:
    """Return rows (question, answer, source, entry) of a source from the hub or a local file."""
    known = specs.lookup(SOURCES, f"source ({tasks.PREFIX}TASK or one of these)", source)
    table = fetch(source, known, split) if path is None else read(Path(path))
    missing = [column for column in (known.question, known.answer) if column not in table.column_names]
    if missing:
        raise InputError(
            f"{path or known.repository} lacks {', '.join(missing)}; it has {', '.join(table.column_names)}"
        )
    if count is not None:
        if count > len(table):
            raise InputError(f"{source} has only {len(table)} {split} problems, not {count}")
        table = table.shuffle(seed=seed).select(range(count))
    where = path or known.repository
    return [
        {
            "question": str(question),
            "answer": _reference(known, answer, f"problem {number} of {where}"),
            "source": source,
            "entry": "",
        }
        for number, (question, answer) in enumerate(zip(table[known.question], table[known.answer], strict=True))
    ]


def _reference(known: Source, answer: object, problem: str) -> str:
    """Return a problem's reference answer; raise `InputError`, which names the problem, if there is none."""
    try:
        text = "" if answer is None else known.reference(equality.reference_text(answer))
    except InputError as error:
        raise InputError(f"{problem}: {error}") from None
    if not equality.canonical(text):
        raise InputError(f"{problem} has no reference answer")
    return text


def _dataset(rows: list[dict[str, str]], template: str, chat: bool, extraction: str) -> Any:
    """Return the `datasets.Dataset` with `COLUMNS` of rows (question, answer, source, entry)."""
    form = TEMPLATES.get(template, template)
    texts = [filled(form, row) for row in rows]
    if form in texts:
        raise InputError(f"template must be one of {', '.join(TEMPLATES)} or contain {QUESTION}, got {template!r}")
    columns: dict[str, list[Any]] = {
        "prompt": [[{"role": "user", "content": text}] for text in texts] if chat else texts,
        **{name: [row[name] for row in rows] for name in ("answer", "source", "entry")},
        "extraction": [extraction] * len(rows),
    }
    return need("datasets").Dataset.from_dict(columns)


def filled(form: str, row: Mapping[str, str]) -> str:
    """Return a template with {question} filled in, and of a reasoning-gym problem any {name} of its metadata."""
    metadata = json.loads(row["entry"])["metadata"] if row["entry"] else {}
    values = {**metadata, "question": row["question"]}
    # one pass, and never str.format: questions have braces, and so has the template
    return re.sub(r"\{(\w+)\}", lambda name: str(values.get(name[1], name[0])), form)


def to_verl(dataset: Any, path: str | Path) -> None:
    """Write the problems as a parquet file for verl, whole or not at all; `rewards.compute_score` scores them."""
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        raise InputError(
            f"the data set lacks {', '.join(missing)}; maxrl_lab.llm.problems.data.load makes one with them"
        )
    rows = [
        {
            "data_source": row["source"],
            "prompt": [{"role": "user", "content": prompt}] if isinstance(prompt := row["prompt"], str) else prompt,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": row["answer"]},
            "extra_info": {"index": index, "entry": row["entry"], "extraction": row["extraction"]},
        }
        for index, row in enumerate(dataset)
    ]
    content = io.BytesIO()
    need("datasets").Dataset.from_list(rows).to_parquet(content)
    write_atomically(Path(path), content.getvalue())
