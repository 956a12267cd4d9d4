"""A folder of answers: which function is there, which is not done yet, which file imports what it should not."""

import ast
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from course.sandbox.child import FORBIDDEN
from course.sandbox.process import MEMORY, Process
from course.wrong import WrongAnswerError

NOT_DONE = "not done yet"
Function = Callable[..., Any]
"""A student's function: called here, it runs in the student's process. `gradients` of it gives derivatives, too."""


class Answer:
    """One function of a student's file."""

    def __init__(self, process: Process, name: str) -> None:
        self.process, self.__name__ = process, name

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function returns, arrays as numpy arrays."""
        return self.process.call(self.__name__, arguments)

    def gradients(self, *arguments: Any) -> list[Any]:
        """Return [values, derivatives with respect to the first argument] for each thing the function returns."""
        results: list[Any] = self.process.call(self.__name__, arguments, want="gradients")
        return results


class Answers:
    """The files of a folder, each in a process of its own that starts when a function of it is first called."""

    def __init__(self, folder: Path, memory: int = MEMORY) -> None:
        self.folder, self.memory = folder, memory
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> "Answers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.close()

    def function(self, file: str, name: str) -> Answer:
        """Return a function of a file; raise `WrongAnswerError` if it is missing, not done yet, or imports answers."""
        check_source(self.folder / file, name)
        return Answer(self.process(file), name)

    def process(self, file: str) -> Process:
        """Return the process of a file."""
        if file not in self._processes:
            self._processes[file] = Process((self.folder / file).absolute(), self.memory)
        return self._processes[file]


def check_source(path: Path, function: str) -> None:
    """Raise `WrongAnswerError` unless the file defines the function beyond its stub, and imports no answers."""
    if not path.is_file():
        raise WrongAnswerError(f"there is no file {path.name}; `maxrl-lab course` makes it")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"), str(path))
    except SyntaxError as error:
        raise WrongAnswerError(f"{path.name}, line {error.lineno}: SyntaxError: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise WrongAnswerError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from None
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    if not defined:
        raise WrongAnswerError(f"{path.name} defines no function {function}")
    for node in ast.walk(tree):
        for package in sorted(_imported(node) & set(FORBIDDEN)):
            raise WrongAnswerError(f"{path.name}, line {node.lineno}: imports {package}; write it yourself")  # type: ignore[attr-defined]
    if _is_stub(defined[-1]):
        raise WrongAnswerError(NOT_DONE)


def _imported(node: ast.AST) -> set[str]:
    """The packages that a statement imports."""
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    return {module.partition(".")[0] for module in modules}


def _is_stub(node: ast.FunctionDef) -> bool:
    """Whether a function raises where it would return; a `raise` that was left below a `return` is harmless."""
    last = node.body[-1]
    returns = any(isinstance(part, ast.Return) for part in ast.walk(node))
    return isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last) and not returns
