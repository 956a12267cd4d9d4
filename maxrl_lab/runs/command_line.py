"""What the lab's commands share: a parser that raises, settings as flags, exit statuses."""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from maxrl_lab.errors import InputError
from maxrl_lab.fields import Field, fields_of
from maxrl_lab.settings import Settings

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


def first_name(command: str, names: Iterable[str], arguments: Sequence[str]) -> str:
    """Return the name that a verb's arguments begin with; print the usage and leave if they begin with --help."""
    usage = f"usage: maxrl-lab {command} NAME [flags]; NAME is one of: {', '.join(names)}"
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"{usage}\n`maxrl-lab {command} NAME --help` lists the flags.")
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise InputError(usage)
    return arguments[0]


def _dashed(argument: str) -> str:
    """`--some_flag=a_value` as `--some-flag=a_value`; what is no flag, as it is."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument


def add_settings(parser: argparse.ArgumentParser, defaults: Settings) -> None:
    """Add a flag for each field of the settings, in a group for each class that declares some; defaults as given."""
    groups: dict[str, Any] = {}
    for field in fields_of(type(defaults)):
        if field.group not in groups:
            groups[field.group] = parser.add_argument_group(field.group.rstrip("."))
        default = getattr(defaults, field.name)
        groups[field.group].add_argument(
            f"--{field.name.replace('_', '-')}",
            dest=field.name,
            type=_reader(field),
            nargs="*" if field.several else "?" if field.type is bool else None,
            const=True if field.type is bool and not field.several else None,
            default=default,
            metavar=_METAVARS.get(field.type, "VALUE"),
            help=f"{field.help} (default: {_shown(default)})".replace("%", "%%"),
        )


def read_settings(flags: argparse.Namespace, defaults: Given) -> Given:
    """Return the settings with the flags' values; raise `InputError` for values out of bounds."""
    values = {field.name: getattr(flags, field.name) for field in fields_of(type(defaults))}
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


def _reader(field: Field) -> Callable[[str], Any]:
    """Return the function from a flag's text to its value; argparse names it in its message."""
    convert: Callable[[str], Any] = _read_bool if field.type is bool else field.type

    def read(text: str) -> Any:
        return None if field.optional and text.lower() == "none" else convert(text)

    read.__name__ = field.type.__name__
    return read


def _read_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
