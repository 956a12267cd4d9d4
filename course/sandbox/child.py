"""A student's file in a process of its own: `python -I child.py FILE BYTES`; arguments come in, values go out.

One JSON object a line. The first line out says that the libraries are loaded, the second that the file is; then every
line in, {"function", "arguments", "want"}, is answered by {"value"} or {"error"}. `want` is `value`, or `gradients`
for the derivatives of what is returned with respect to the first argument. A function among the arguments stays with
the grader: calling it here sends {"call", "arguments"} and waits for the answer.

What the file prints goes to standard error. It may open no file but its neighbours and Python's, start no process, use
no network and take no more memory than it is given; `maxrl_lab` and the course cannot be imported. These fences keep
an honest answer honest. What protects the scores is that they are computed in another process.
"""

import ast
import importlib.abc
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

FORBIDDEN = ("maxrl_lab", "course", "envs", "experiments", "figures")
"""Packages that hold the answers."""
_REFUSED = (
    *("os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.posix_spawn", "os.spawn", "os.system"),
    *("os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"),
    *("os.truncate", "pty.spawn", "socket.bind", "socket.connect", "subprocess.Popen", "ctypes.dlopen"),
)
"""Events of Python's audit that no exercise needs."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def encode(value: Any, callables: list[Callable[..., Any]] | None = None) -> Any:
    """Return a value as JSON can hold it: arrays with their type, sequences and dicts by parts, functions by number.

    Functions are appended to `callables`. Raises `TypeError` for anything else.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"dict": [[str(key), encode(item, callables)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [encode(item, callables) for item in value]
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if callable(value) and callables is not None:
        callables.append(value)
        return {"callable": len(callables) - 1}
    raise TypeError(f"expected numbers, text, a list, a dict or an array, got {type(value).__name__}")


def decode(value: Any, array: Callable[[np.ndarray], Any], proxy: Callable[[int], Any] | None = None) -> Any:
    """Return what `encode` was given; `array` says what an array becomes, `proxy` what a function's number becomes."""
    if isinstance(value, list):
        return [decode(item, array, proxy) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return array(np.array(value["array"], dtype=value["dtype"]))
    if "callable" in value and proxy is not None:
        return proxy(value["callable"])
    return {key: decode(item, array, proxy) for key, item in value["dict"]}


class _Server:
    """The student's functions, called by what comes in."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, array: Callable[[np.ndarray], Any]) -> None:
        self._incoming, self._outgoing, self._array = incoming, outgoing, array

    def send(self, message: dict[str, Any]) -> None:
        self._outgoing.write(json.dumps(message).encode() + b"\n")
        self._outgoing.flush()

    def receive(self) -> Any:
        line = self._incoming.readline()
        if not line:
            os._exit(0)
        return json.loads(line)

    def proxy(self, number: int) -> Callable[..., Any]:
        """Return a function of the grader's, as the student may call it."""

        def function(*arguments: Any) -> Any:
            self.send({"call": number, "arguments": encode(arguments)})
            reply = self.receive()
            if "error" in reply:
                raise ValueError(reply["error"])
            return decode(reply["value"], self._array)

        return function

    def serve(self, module: Any) -> None:
        while True:
            request = self.receive()
            try:
                arguments = decode(request["arguments"], self._array, self.proxy)
                function = getattr(module, request["function"])
                answer = _gradients(function, arguments) if request["want"] == "gradients" else function(*arguments)
                self.send({"value": encode(answer)})
            except BaseException as error:  # a student's function may raise anything
                self.send({"error": _described(error)})


def _imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in the file; none if it cannot be read."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    nodes = list(ast.walk(tree))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {module.partition(".")[0] for module in modules}


def _with_neighbours(path: Path) -> set[str]:
    """The modules that a file and the neighbours that it imports import."""
    seen: set[str] = set()
    files = [path]
    while files:
        new = _imports(files.pop()) - seen
        seen |= new
        files += [path.with_name(f"{module}.py") for module in new]
    return seen


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(values)


def _gradients(function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
    """Return [values, derivatives] for each thing that the function returns; derivatives (*values, *argument)."""
    import torch

    first = arguments[0].detach().requires_grad_()
    answer = function(first, *arguments[1:])
    results = []
    for part in answer if isinstance(answer, list | tuple) else [answer]:
        values = torch.as_tensor(part)
        rows = [_derivative(element, first) for element in values.reshape(-1)]
        results.append([values, torch.stack(rows).reshape(*values.shape, *first.shape)])
    return results


def _derivative(element: Any, argument: Any) -> Any:
    """The derivative of one number; zeros if it does not depend on the argument."""
    import torch

    if not element.requires_grad:
        return torch.zeros_like(argument)
    (slope,) = torch.autograd.grad(element, argument, retain_graph=True, allow_unused=True)
    return torch.zeros_like(argument) if slope is None else slope


def _described(error: BaseException) -> str:
    """Return the error in one text, with the line of the student's file."""
    trace, line = error.__traceback__, 0
    while trace:
        if trace.tb_frame.f_code.co_filename == sys.argv[1]:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"{Path(sys.argv[1]).name}, line {line}: " if line else ""
    if isinstance(error, SystemExit):
        return f"{where}calls exit instead of returning"
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"{where}takes more memory than the {int(sys.argv[2]) / 2**30:g} GiB that an answer may take"
    return f"{where}{type(error).__name__}: {error}"


class _NoAnswers(importlib.abc.MetaPathFinder):
    """A finder of modules that refuses the packages that hold the answers."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:  # noqa: ARG002
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"imports {name.partition('.')[0]}; write it yourself")


def _fence(folder: Path, memory: int) -> None:
    """Refuse files elsewhere, processes, the network, more memory, and the packages that hold the answers."""
    _limit_memory(memory)
    sys.meta_path.insert(0, _NoAnswers())
    itself = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo")  # not the grader's, which has its memory
    system = (*itself, "/dev/null", "/dev/urandom", "/etc", "/sys", "/usr/lib", "/usr/share")
    entries = [entry for entry in (*sys.path, sys.prefix, sys.base_prefix) if entry]
    readable = tuple(os.path.realpath(path) for path in (*system, *entries, str(folder)))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _REFUSED:
            raise PermissionError(f"calls {event}; an answer needs only numbers")
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, mode, flags = os.path.realpath(os.fsdecode(arguments[0])), arguments[1] or "", arguments[2] or 0
            if set(mode) & set("wax+") or flags & _WRITES:
                raise PermissionError(f"opens the file {os.path.basename(path)} for writing; an answer needs no file")
            if not any(path == root or path.startswith(root + os.sep) for root in readable):
                raise PermissionError(f"opens the file {os.path.basename(path)}; an answer needs no file")

    sys.addaudithook(hook)


def _limit_memory(memory: int) -> None:
    """Allow `memory` bytes beyond what is taken now, and no file to grow; where the system has such limits."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as status:
            taken = int(status.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    except (ImportError, OSError, ValueError):
        return


def main(path: Path, memory: int) -> None:
    """Load the libraries, then the student's file, then answer."""
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    array = _tensor if "torch" in _imports(path) else np.asarray
    server = _Server(os.fdopen(os.dup(0), "rb"), outgoing, array)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    import ctypes  # noqa: F401  libraries open it when they are imported, which the fence refuses

    if "torch" in _with_neighbours(path):
        import torch

        torch.set_num_threads(1)
    server.send({"loaded": "libraries"})
    sys.path.append(str(path.parent))
    _fence(path.parent, memory)
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except BaseException as error:  # as above
        server.send({"error": _described(error)})
        return
    server.send({"loaded": "file"})
    server.serve(module)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
