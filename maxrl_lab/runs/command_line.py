"""What the lab's commands share: a parser that raises, settings as flags, exit statuses."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from maxrl_lab.errors import InputError
from maxrl_lab.settings import Option, Settings, options

Given = TypeVar("Given", bound=Settings)


def guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Return the exit status of a command.

    What the user has caused ends in one line and status 2, an interrupt in one line and status 130, and a reader of
    our output that has left in nothing. A fault of the lab shows its traceback, which Python ends with status 1.
    """
    try:
        return command(arguments)
    except BrokenPipeError:
        sys.stdout = None
        return 0
    except (InputError, OSError) as error:
        print(f"maxrl-lab: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "maxrl-lab: interrupted; the same command, without --force, goes on where it stopped",
            file=sys.stderr,
        )
        return 130


class Parser(argparse.ArgumentParser):
    """An argument parser that raises an `InputError` instead of leaving, and takes `--some_flag` for `--some-flag`."""

    def __init__(self, prog: str, description: str, **options: Any) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise an `InputError`."""
        raise InputError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, after dashing the names of the flags."""
        given = list(sys.argv[1:] if args is None else args)
        flags = given[: given.index("--")] if "--" in given else given  # what follows `--` is no flag
        return super().parse_known_args([*map(_dashed, flags), *given[len(flags) :]], namespace)


def _dashed(argument: str) -> str:
    """`--some_flag=a_value` as `--some-flag=a_value`; what is no flag, as it is."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def add_settings(parser: argparse.ArgumentParser, defaults: Settings) -> None:
    """Add a flag for each field of the settings, in a group for each class that declares some; defaults as given."""
    groups: dict[str, Any] = {}
    for option in options(type(defaults)):
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group.rstrip("."))
        default = getattr(defaults, option.name)
        groups[option.group].add_argument(
            f"--{option.name.replace('_', '-')}",
            dest=option.name,
            type=_reader(option),
            nargs="*" if option.several else "?" if option.type is bool else None,
            const=True if option.type is bool and not option.several else None,
            default=default,
            metavar=_METAVARS.get(option.type, "VALUE"),
            help=f"{option.help} (default: {_shown(default)})".replace("%", "%%"),
        )


def read_settings(flags: argparse.Namespace, defaults: Given) -> Given:
    """Return the settings with the flags' values; raise `InputError` for values out of bounds."""
    values = {option.name: getattr(flags, option.name) for option in options(type(defaults))}
    return replace(defaults, **{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _shown(default: Any) -> str:
    """A default as the help shows it: as one would type it in a shell."""
    if isinstance(default, tuple):
        return " ".join(map(_shown, default)) or "none"
    if default is None:
        return "none"
    text = str(default)
    return shlex.quote(text) if text.isprintable() else repr(text)


_METAVARS = {int: "WHOLE", float: "NUMBER", str: "NAME", bool: "TRUE/FALSE"}


def _reader(option: Option) -> Callable[[str], Any]:
    """Return the function from a flag's text to its value; argparse names it in its message."""
    convert: Callable[[str], Any] = _read_bool if option.type is bool else option.type

    def read(text: str) -> Any:
        return None if option.optional and text.lower() == "none" else convert(text)

    read.__name__ = option.type.__name__
    return read


def _read_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
