"""Every `--help`: a complete sentence for every setting, which can be understood without its neighbours."""

import dataclasses
import re

import pytest

from experiments.catalogue import EXPERIMENTS
from maxrl_lab import extras
from maxrl_lab.command import main
from maxrl_lab.errors import InputError
from maxrl_lab.fields import fields_of

FRAGMENTS = ("Of ", "At ", "In ", "For ", "By ", "As ")
"""What a fragment begins with: its noun stands somewhere else."""


def is_installed(extra):
    try:
        extras.need(extra)
    except InputError:
        return False
    return True


NAMES = [name for name, entry in EXPERIMENTS.items() if entry.extra is None or is_installed(entry.extra)]


def faults(text):
    """What keeps a text from being a sentence that stands alone."""
    return [
        fault
        for fault, has_it in {
            "fewer than three words": len(text.split()) < 3,
            "no capital at its start": not text[:1].isupper(),
            "no period at its end": not text.endswith("."),
            "a fragment": text.startswith(FRAGMENTS),
            "each of what": text.endswith("of each."),
        }.items()
        if has_it
    ]


def settings_classes():
    classes = {name: EXPERIMENTS[name].load().Settings for name in NAMES}
    if is_installed("llm"):
        from maxrl_lab.llm.jobs.recipes import Job

        classes["recipe"] = Job
    return classes


def test_a_fragment_is_found():
    """The control, with texts that this house once had."""
    for text in ("Prompts of each.", "Of the sums.", "N.", "As in the paper.", "whether it is mixed.", "Learning rate"):
        assert faults(text)
    assert faults("Number of prompts in each update.") == []


def test_every_setting_is_explained_by_a_sentence_that_stands_alone():
    found = {
        f"{name} --{field.name}": f"{field.help!r}: {', '.join(faults(field.help))}"
        for name, cls in settings_classes().items()
        for field in fields_of(cls)
        if faults(field.help)
    }
    assert found == {}


def test_every_group_of_settings_has_a_heading():
    headings = {field.group for cls in settings_classes().values() for field in fields_of(cls)}
    assert [heading for heading in headings if not re.fullmatch(r"[A-Z][^.(]+\.", heading)] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_run_shows_every_setting_with_its_sentence_and_default(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", name, "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    cls = EXPERIMENTS[name].load().Settings
    help_of = {field.name: field.help for field in fields_of(cls)}
    assert list(help_of) == [field.name for field in dataclasses.fields(cls)]
    for name_of_field, text in help_of.items():
        words = re.escape(" ".join(text.split()))
        flag = f"--{name_of_field.replace('_', '-')}"
        # the flag with what it takes, its own sentence, and its default, with no other flag between
        assert re.search(rf"{flag} (?:[^-]|-(?!-))*?{words} \(default: ", shown), name_of_field


@pytest.mark.parametrize("verb", [["list"], ["reproduce"], ["draw", "weight_functions"], ["run", "weight_functions"]])
def test_the_flags_of_every_verb_are_explained(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*verb, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    flags = set(re.findall(r"\[(--[a-z-]+)", shown.partition("options:")[0]))
    explained = dict(re.findall(r"^  (--[a-z-]+)[^\n]*?\s{2,}(\S[^\n]*)", shown.replace("\n" + " " * 22, "  "), re.M))
    assert flags <= explained.keys()
    if verb != ["list"]:
        assert {"--preset", "--out", "--pictures"} <= flags


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("verb", ["run", "draw"])
def test_help_without_a_name_lists_the_names(verb, flag, capsys):
    with pytest.raises(SystemExit) as left:
        main([verb, flag])
    assert left.value.code == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"usage: maxrl-lab {verb} NAME [flags]; NAME is one of: {', '.join(EXPERIMENTS)}\n")
    assert not shown.err


def test_help_of_recipe_without_its_extra_says_so(monkeypatch, capsys):
    def need(extra):
        raise InputError(f"install {extra}")

    monkeypatch.setattr(extras, "need", need)
    assert main(["recipe", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: maxrl-lab recipe NAME [flags]")
    assert "install llm" in shown
