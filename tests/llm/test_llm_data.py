"""Problems for language models: disjoint and repeatable draws, local files of every collection, no network, verl."""

import json
import time

import datasets
import pandas as pd
import pytest

from maxrl_lab.llm.problems import data, rewards
from maxrl_lab.llm.problems.data import load
from maxrl_lab.llm.problems.sources import SOURCES, after_hashes

SUFFIX = r" Let's think step by step and output the final answer within \boxed{}."


def questions(**options):
    return [row["prompt"] for row in load("reasoning_gym/leg_counting", template="plain", chat=False, **options)]


def test_columns_and_prompt():
    rows = load("reasoning_gym/gcd", count=3, seed=1, config={"max_value": 50})
    assert tuple(rows.column_names) == data.COLUMNS
    assert len(rows) == 3
    for row in rows:
        (message,) = row["prompt"]
        assert message["role"] == "user"
        assert message["content"].endswith(SUFFIX)
        assert row["source"] == "reasoning_gym/gcd"
        assert json.loads(row["entry"])["config"] == {"max_value": 50}
        assert rewards.is_right(f"\\boxed{{{row['answer']}}}", row)
        assert not rewards.is_right(f"\\boxed{{{row['answer']}1}}", row)


def test_the_same_arguments_give_the_same_problems_and_a_smaller_count_their_beginning():
    many = questions(count=30, seed=4)
    assert many == questions(count=30, seed=4)
    assert questions(count=10, seed=4) == many[:10]
    assert len(set(many)) == 30
    assert not set(many) & set(questions(count=30, seed=5))  # reasoning-gym's own neighbouring seeds share all but one


def test_train_and_test_share_no_question_even_of_a_small_task():
    """`ab` of length 2 has 16 questions: both splits use all of theirs, and together they have them all."""
    small = {"config": {"length": 2}, "template": "plain", "chat": False}

    def all_of(split, seed):
        with pytest.raises(ValueError, match=rf"reasoning_gym/ab has only \d+ different {split} questions, not 17"):
            load("reasoning_gym/ab", count=17, split=split, seed=seed, **small)
        for count in range(16, 0, -1):
            try:
                return set(load("reasoning_gym/ab", count=count, split=split, seed=seed, **small)["prompt"])
            except ValueError:
                continue
        return set()

    train, test = all_of("train", 0), all_of("test", 1)
    assert train
    assert not train & test
    assert len(train | test) == 16


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_a_local_file_of_each_collection_loads_and_scores(source, kind, tmp_path):
    known = SOURCES[source]
    with_steps = known.reference is after_hashes
    answers = ["7 + 5 = 12\n#### 1,012", "so\n#### -3"] if with_steps else [r"\frac{1}{2}", "007"]
    frame = pd.DataFrame({known.question: ["What {is} it?", "And {question}?"], known.answer: answers, "more": [1, 2]})
    path = tmp_path / f"local.{kind}"
    writers = {
        "json": lambda: frame.to_json(path, orient="records"),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "csv": lambda: frame.to_csv(path, index=False),
        "parquet": lambda: frame.to_parquet(path),
    }
    writers[kind]()
    rows = load(source, path=path, split=next(iter(known.splits)), chat=False)
    assert rows["prompt"][:] == ["What {is} it?" + SUFFIX, "And {question}?" + SUFFIX]
    assert rows["answer"][:] == (["1012", "-3"] if with_steps else [r"\frac{1}{2}", "007"])
    right = ["1,012", "-3.0"] if with_steps else ["0.5", "7"]
    assert [rewards.is_right(f"\\boxed{{{text}}}", row) for text, row in zip(right, rows, strict=True)] == [True, True]
    assert not rewards.is_right(r"\boxed{4}", rows[0])


def test_numbers_in_a_local_file_become_texts(tmp_path):
    path = tmp_path / "aime.jsonl"
    path.write_text('{"problem": "a", "answer": 33}\n{"problem": "b", "answer": 204}\n')
    assert load("aime2024", path=path, split="test")["answer"][:] == ["33", "204"]


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_a_byte_order_mark_is_no_content(kind, tmp_path):
    path = tmp_path / f"local.{kind}"
    rows = pd.DataFrame({"question": ["1+1?"], "answer": ["#### 2"]})
    text = rows.to_csv(index=False) if kind == "csv" else rows.to_json(orient="records", lines=kind == "jsonl")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load("gsm8k", path=path)["answer"][:] == ["2"]


def test_a_solution_is_no_reference_answer(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "a", "answer": "-1,200"}\n{"question": "b", "answer": "So the answer is: 2"}\n')
    with pytest.raises(ValueError, match=r"problem 1 of .*: expected #### before the reference answer, got .*is: 2'"):
        load("gsm8k", path=path)
    path.write_text('{"question": "a", "answer": "-1,200"}\n')
    assert load("gsm8k", path=path)["answer"][:] == ["-1200"]


def test_a_list_is_no_reference_answer(tmp_path):
    path = tmp_path / "listed.jsonl"
    path.write_text('{"problem": "a", "answer": ["2", "3"]}\n')
    with pytest.raises(ValueError, match=r"problem 0 of .*: a reference answer must be a text or a number, got \['2'"):
        load("math500", path=path, split="test")


def test_a_count_takes_a_sample_by_the_seed(tmp_path):
    path = tmp_path / "many.csv"
    pd.DataFrame({"problem": [f"q{i}" for i in range(50)], "answer": range(50)}).to_csv(path, index=False)

    def sample(**options):
        return load("math500", path=path, split="test", template="plain", chat=False, **options)["prompt"][:]

    assert sample() == [f"q{i}" for i in range(50)]
    assert sample(count=5, seed=1) == sample(count=5, seed=1)
    assert sample(count=5, seed=1) != sample(count=5, seed=2)
    with pytest.raises(ValueError, match="math500 has only 50 test problems, not 51"):
        sample(count=51)


def test_templates(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("problem,answer\n{question} of {0},1\n")

    def prompt(template):
        return load("math500", path=path, split="test", template=template, chat=False)["prompt"][0]

    assert prompt("plain") == "{question} of {0}"
    assert prompt("Q: 1+1? A: {2}\nQ: {question} A:") == "Q: 1+1? A: {2}\nQ: {question} of {0} A:"
    with pytest.raises(ValueError, match=r"template must be one of boxed, plain or contain \{question\}, got 'box'"):
        prompt("box")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "problem,solution\n1,2\n", r"a\.csv lacks answer; it has problem, solution"),
        ("b.csv", "text\n1\n", r"b\.csv lacks problem, answer; it has text"),
        ("c.csv", "problem,answer\n1,\n", r"problem 0 of .*c\.csv has no reference answer"),
        ("d.jsonl", '{"problem": "x", "answer": null}\n', r"problem 0 of .*d\.jsonl has no reference answer"),
        ("e.json", "{", r"cannot read .*e\.json as json: "),
        ("f.txt", "", r"unknown file type '\.txt'; choose one of: \.json, "),
        ("g.csv", None, r"no such file: .*g\.csv"),
    ],
)
def test_a_wrong_file_is_one_line(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load("math500", path=tmp_path / name, split="test")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("gsm9k", {}, r"unknown source .* 'gsm9k'; choose one of: gsm8k, gsm8k_platinum, polaris, "),
        ("polaris", {"split": "test"}, "polaris has no test split; it has train"),
        ("gsm8k", {"split": "dev"}, "split must be one of train, test, got 'dev'"),
        ("gsm8k", {"config": {"a": 1}}, "config is for reasoning_gym/TASK; 'gsm8k' takes none"),
        ("gsm8k", {"extraction": "eval"}, "unknown extraction 'eval'"),
        ("gsm8k", {"count": 0}, "count must be a whole number >= 1, got 0"),
        ("gsm8k", {"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ("reasoning_gym/gcd", {}, "reasoning_gym/gcd makes its problems: it needs a count and takes no path"),
        ("reasoning_gym/gdc", {"count": 1}, "unknown reasoning_gym task 'gdc'"),
        ("reasoning_gym/countdown", {"count": 1}, "'countdown' is not scored here: .*parse_expr"),
        ("reasoning_gym/gcd", {"count": 1, "seed": 2048}, "seed must be at most 2047 for reasoning_gym, got 2048"),
        ("reasoning_gym/gcd", {"count": 1, "config": {"seed": 1}}, "config must not name seed"),
        ("reasoning_gym/gcd", {"count": 1, "config": {"x": 1}}, r"'gcd' refuses the config \{'x': 1\}: "),
        ("reasoning_gym/gcd", {"count": 1, "config": {"min_value": 0}}, r"'gcd' refuses the config \{'min_value': 0\}"),
    ],
)
def test_wrong_arguments_are_one_line(source, options, message):
    with pytest.raises(ValueError, match=message) as error:
        load(source, **options)
    assert "\n" not in str(error.value)


UNREACHABLE = r"could not fetch openai/gsm8k \(.*\); offline: --source reasoning_gym/chain_sum, or a local file"


@pytest.mark.parametrize("known_to_be_offline", [True, False])
def test_without_a_network_one_line_says_so_at_once(known_to_be_offline, monkeypatch, tmp_path):
    """Either the user said so (HF_HUB_OFFLINE, read into these two when imported), or the first request fails."""
    import datasets.config as datasets_config
    import huggingface_hub
    from huggingface_hub import constants

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets_config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets_config, "HF_HUB_OFFLINE", known_to_be_offline)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", known_to_be_offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", no_network)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=UNREACHABLE) as error:
        load("gsm8k")
    assert time.perf_counter() - start < 10
    assert "\n" not in str(error.value)
    assert constants.HF_HUB_OFFLINE is datasets_config.HF_HUB_OFFLINE is known_to_be_offline


@pytest.mark.parametrize("source", SOURCES)
def test_the_hub_is_asked_for_data_only(source, monkeypatch):
    """What is asked of `load_dataset`: repository, subset and split, and never to trust code."""
    import huggingface_hub

    known, asked = SOURCES[source], []

    def answer(*arguments, **options):
        asked.append((arguments, options))
        return datasets.Dataset.from_dict({known.question: ["q"], known.answer: ["#### 5"]})

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", answer)
    split = next(iter(known.splits))
    assert load(source, split=split)["source"][:] == [source]
    assert asked == [((known.repository, known.subset), {"split": known.splits[split]})]


@pytest.mark.parametrize("chat", [True, False])
def test_verl_reads_and_scores_the_parquet(chat, tmp_path):
    rows = load("reasoning_gym/gcd", count=4, seed=2, chat=chat, extraction="tag")
    file = tmp_path / "new" / "train.parquet"
    data.to_verl(rows, file)
    assert [path.name for path in file.parent.iterdir()] == ["train.parquet"]
    written = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    assert written.column_names == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    for index, row in enumerate(written):
        expected = rows[index]["prompt"] if chat else [{"role": "user", "content": rows[index]["prompt"]}]
        assert row["prompt"] == expected
        assert row["reward_model"] == {"style": "rule", "ground_truth": rows[index]["answer"]}
        assert row["extra_info"]["index"] == index
        truth = row["reward_model"]["ground_truth"]
        for text, reward in ((f"<answer>{truth}</answer>", 1.0), (f"\\boxed{{{truth}}}", 0.0)):
            assert rewards.compute_score(row["data_source"], text, truth, row["extra_info"]) == reward


def test_verl_needs_the_columns(tmp_path):
    with pytest.raises(ValueError, match="the data set lacks source, entry, extraction; "):
        data.to_verl(datasets.Dataset.from_dict({"prompt": ["a"], "answer": ["b"]}), tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())
