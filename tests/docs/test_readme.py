"""The README's Python examples run as they stand."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = [code for code in re.findall(r"```python\n(.*?)```", README, flags=re.S) if "import torch" in code]


def test_there_are_examples():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.splitlines()[0])
def test_example_runs(code, tmp_path, monkeypatch):
    monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path))
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (Path(__file__).parents[2] / link).exists()
