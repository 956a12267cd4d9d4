"""The command `maxrl-lab`: `audit` works wherever the library is installed; the experiments need the checkout.

Bad input ends in one line on standard error and exit status 2, an expectation that does not hold in status 1, and a
fault of the lab in its traceback and status 1. Nothing large is imported before a verb needs it: `maxrl-lab --help`
and `maxrl-lab list` answer at once.
"""

import os
import sys
from collections.abc import Callable, Sequence

from maxrl_lab import terminal
from maxrl_lab.terminal import importing

with importing():
    import importlib

    from maxrl_lab import extras, specs
    from maxrl_lab.errors import InputError
    from maxrl_lab.runs.command_line import guarded

USAGE = """usage: maxrl-lab COMMAND ...

  list                      the experiments and their questions
  run NAME [flags]          run an experiment (or continue it), write its rows, draw its figure, print its table
  draw NAME [flags]         draw the figure and print the table again from the rows
  reproduce [flags]         run and draw everything but what needs an extra (llm)
  claims [flags]            every claim that finished runs decide, with its verdict
  report [flags]            one HTML file with all that finished runs show
  publish [flags]           put rows and pictures of finished runs into figures/gallery, and claims into the pages
  rates [flags]             keep the learning rates that finished runs have chosen
  audit FUNCTION [flags]    which objective does an advantage function optimise?
  estimators [flags]        what does every published estimator optimise at N rollouts?
  recipe NAME [flags]       fine-tune a language model with TRL, or --describe the job, or --dry-run it
  course FOLDER [flags]     copy the exercises of the course into a folder
  grade FOLDER [flags]      what is right in a folder of answers, what is wrong, and why
  lesson N [flags]          open a lesson in the browser
  explore [flags]           open the explorer: estimators and mazes on one page

`maxrl-lab COMMAND --help` lists the flags; `maxrl-lab run NAME --help` those of an experiment.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    os.environ["MPLBACKEND"] = "agg"  # pictures are files; a notebook's backend may not be installed here
    given = sys.argv[1:] if arguments is None else arguments
    with terminal.lasting_streams():
        return guarded(_dispatch, list(map(terminal.with_home, given)))


def _dispatch(given: Sequence[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if given else 2
    verb = specs.lookup(COMMANDS, "command", given[0])
    try:
        with terminal.within_memory():
            return verb(given[1:])
    except ModuleNotFoundError as error:
        raise extras.missing(error) or error from None


def _audit(arguments: Sequence[str]) -> int:
    with importing():
        from maxrl_lab.audit import verb

    return verb.main(arguments)


def _estimators(arguments: Sequence[str]) -> int:
    with importing():
        from maxrl_lab.published import verb

    return verb.main(arguments)


def _recipe(arguments: Sequence[str]) -> int:
    try:
        extras.need("llm")
    except InputError as error:
        if not arguments or arguments[0] not in ("-h", "--help"):
            raise
        print(f"usage: maxrl-lab recipe NAME [flags]; the names are listed once the extra is there: {error}")
        return 0
    with importing():
        from maxrl_lab.llm.jobs import train

    return train.main(arguments)


def _of_the_checkout(verb: str, package: str) -> Callable[[Sequence[str]], int]:
    """Return the command that hands a verb to a package of the checkout, from whatever folder it is called."""

    def command(arguments: Sequence[str]) -> int:
        if not extras.in_checkout():
            raise InputError(
                f"`maxrl-lab {verb}` needs the folder {package}/ of the repository, which a wheel does not hold: "
                "clone the repository, and in the clone `pip install -e '.[lab]'`"
            )
        if sys.path[:1] != [str(extras.CHECKOUT)]:
            sys.path.insert(0, str(extras.CHECKOUT))  # before packages of the same names in the current folder
        with importing():
            verbs: dict[str, Callable[[Sequence[str]], int]] = importlib.import_module(f"{package}.__main__").VERBS
        return verbs[verb](arguments)

    return command


CHECKOUT_VERBS = {
    **dict.fromkeys(("list", "run", "draw", "reproduce", "claims", "report", "publish", "rates"), "experiments"),
    **dict.fromkeys(("course", "grade", "lesson", "explore"), "course"),
}
"""Verb to the package of the checkout whose `__main__` has it."""
COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    **{verb: _of_the_checkout(verb, package) for verb, package in CHECKOUT_VERBS.items()},
    "audit": _audit,
    "estimators": _estimators,
    "recipe": _recipe,
}


if __name__ == "__main__":
    sys.exit(main())
