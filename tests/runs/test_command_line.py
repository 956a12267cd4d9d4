"""Settings as flags, and how a command ends."""

import re
import sys
from dataclasses import dataclass
from typing import Annotated

import pytest

from maxrl_lab.errors import InputError
from maxrl_lab.runs.command_line import Parser, add_settings, guarded, read_settings
from maxrl_lab.settings import Choice, Count, Counts, Names, Positive, Rates, Settings


@dataclass(frozen=True)
class Training(Settings):
    """How the policy is trained."""

    learning_rates: Rates = (0.1, 0.3)
    """Learning rates that are tried."""
    rollouts: Counts = (4,)
    """Numbers of rollouts, 100% of them on-policy."""
    clip: Positive | None = None
    """Largest norm of a gradient."""
    top_k: Count | None = 3
    """Number of tokens that are kept."""


@dataclass(frozen=True)
class Compared(Training):
    """What is compared."""

    methods: Names = ("grpo | greedy_gate", "rloo")
    """Methods that are compared."""
    kind: Annotated[str, Choice(("plain_text", "chat_turn"))] = "plain_text"
    """Kind of the prompt."""
    end: str = "\n"
    """Token that ends an answer."""
    mixed: bool = False
    """Whether tasks are mixed."""
    shift: float = 0.0
    """Shift of the logits."""


def parsed(*arguments, defaults=None):
    defaults = defaults or Compared()
    parser = Parser("maxrl-lab run own", "what is compared?")
    add_settings(parser, defaults)
    return read_settings(parser.parse_args(list(arguments)), defaults)


class TestFlags:
    def test_without_flags_the_defaults_are_those_that_were_given(self):
        assert parsed() == Compared()
        assert parsed(defaults=Compared(rollouts=(2, 3))) == Compared(rollouts=(2, 3))

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--learning-rates", "1e-3", "2"], {"learning_rates": (1e-3, 2.0)}),
            (["--learning_rates", "1e-3"], {"learning_rates": (1e-3,)}),
            (["--kind", "chat_turn"], {"kind": "chat_turn"}),  # a value keeps its underscores
            (["--kind=chat_turn"], {"kind": "chat_turn"}),
            (["--top_k=5"], {"top_k": 5}),
            (["--top-k", "none"], {"top_k": None}),
            (["--clip", "None", "--clip", "0.5"], {"clip": 0.5}),
            (["--mixed"], {"mixed": True}),
            (["--mixed", "TRUE"], {"mixed": True}),
            (["--mixed", "false"], {"mixed": False}),
            (["--shift", "-2"], {"shift": -2.0}),
            (["--shift", "-0.5"], {"shift": -0.5}),
            (["--shift=-1e-3"], {"shift": -1e-3}),
            (["--end", "none"], {"end": "none"}),  # only what may be None is
            (["--methods", "grpo | greedy_gate"], {"methods": ("grpo | greedy_gate",)}),
        ],
    )
    def test_values_are_read(self, arguments, expected):
        assert parsed(*arguments) == Compared(**expected)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--learning-rates"], "learning_rates needs at least one value, got none"),
            (["--learning-rates", "-1"], "learning_rates must be positive and finite, got -1.0"),
            (["--learning-rates", "much"], "argument --learning-rates: invalid float value: 'much' (see"),
            (["--rollouts", "1.5"], "argument --rollouts: invalid int value: '1.5' (see"),
            (["--mixed", "yes"], "argument --mixed: invalid bool value: 'yes' (see"),
            (["--kind", "chat-turn"], "unknown kind 'chat-turn'; choose one of: plain_text, chat_turn"),
            (["--top-k", "0"], "top_k must be a whole number >= 1, got 0"),
            (["--rollout", "4"], "unrecognized arguments: --rollout 4 (see maxrl-lab run own --help)"),  # no prefixes
        ],
    )
    def test_what_cannot_be_read_is_refused_by_name(self, arguments, message):
        with pytest.raises(InputError) as refusal:
            parsed(*arguments)
        assert str(refusal.value).startswith(message)

    def test_only_names_of_flags_are_dashed(self):
        parser = Parser("own", "")
        parser.add_argument("--some-flag")
        parser.add_argument("rest", nargs="*")
        flags = parser.parse_args(["--some_flag=--a_b", "c_d", "--", "--e_f"])
        assert (flags.some_flag, flags.rest) == ("--a_b", ["c_d", "--e_f"])

    def test_the_command_line_itself_is_read_where_nothing_is_given(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["own", "--some_flag", "3"])
        parser = Parser("own", "")
        parser.add_argument("--some-flag")
        assert parser.parse_args().some_flag == "3"


class TestHelp:
    @pytest.fixture
    def shown(self, capsys):
        with pytest.raises(SystemExit):
            parsed("--help")
        return capsys.readouterr().out

    def test_every_field_has_its_sentence_and_its_default(self, shown):
        words = " ".join(shown.split())
        for expected in (
            "--learning-rates [NUMBER ...] Learning rates that are tried. (default: 0.1 0.3)",
            "--rollouts [WHOLE ...] Numbers of rollouts, 100% of them on-policy. (default: 4)",
            "--clip NUMBER Largest norm of a gradient. (default: none)",
            "--methods [NAME ...] Methods that are compared. (default: 'grpo | greedy_gate' rloo)",
            r"--end NAME Token that ends an answer. (default: '\n')",
            "--mixed [TRUE/FALSE] Whether tasks are mixed. (default: False)",
        ):
            assert expected in words

    def test_fields_stand_under_the_class_that_declares_them(self, shown):
        _, training, compared = re.split("How the policy is trained:|What is compared:", shown)
        assert re.findall(r"^  (--\S+)", training, re.M) == ["--learning-rates", "--rollouts", "--clip", "--top-k"]
        assert re.findall(r"^  (--\S+)", compared, re.M) == ["--methods", "--kind", "--end", "--mixed", "--shift"]


class TestGuarded:
    def end(self, error):
        def command(_arguments):
            raise error

        return guarded(command, [])

    def test_a_status_is_passed_on(self):
        assert guarded(lambda arguments: len(arguments), ["a", "b", "c"]) == 3

    @pytest.mark.parametrize("error", [InputError("no such\n  level"), FileNotFoundError("no such\n  level")])
    def test_what_a_user_has_caused_is_one_line_and_status_2(self, error, capsys):
        assert self.end(error) == 2
        assert capsys.readouterr().err == "maxrl-lab: error: no such level\n"

    @pytest.mark.parametrize("error", [ValueError("wrong shape"), KeyError("rows"), RuntimeError("no rows")])
    def test_a_fault_of_the_lab_is_not_hidden(self, error):
        with pytest.raises(type(error)) as raised:
            self.end(error)
        assert raised.value is error

    def test_an_interrupt_says_how_to_go_on(self, capsys):
        assert self.end(KeyboardInterrupt()) == 130
        assert "the same command, without --force, goes on" in capsys.readouterr().err

    def test_a_reader_that_has_left_is_no_error(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "stdout", sys.stdout)
        assert self.end(BrokenPipeError()) == 0
        assert capsys.readouterr().err == ""
