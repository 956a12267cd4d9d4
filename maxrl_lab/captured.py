"""A function of tensors whose kernels a GPU starts all at once: a CUDA graph, captured once for each set of shapes.

A step of a small policy starts thousands of small kernels, and the GPU waits while Python starts them one by one. A
captured function runs in Python only while its kernels are recorded; a call replays them. So whatever changes between
two calls must be a tensor, and stays at its address:

    inputs     are copied into buffers of the capture
    changes    tensors that the function changes in place; what recording does to them is undone
    reads      other tensors that the function reads, such as a policy's parameters
    outputs    are overwritten by the next call with the same shapes: clone what must last

Other shapes, or `changes` and `reads` at other addresses, are captured anew. The function must not ask a tensor for its
value (`bool`, `item`, `nonzero`), make tensors out of Python's numbers on the GPU, or let shapes depend on values. On a
CPU it is called on the same buffers and its outputs are overwritten alike, so that everything but the graph is tested
there. Follows the rules of "CUDA graphs" in PyTorch's notes on CUDA semantics.
"""

import contextlib
import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import torch
from torch import Tensor

from maxrl_lab.errors import InputError

Outputs = tuple[Tensor, ...]
Value = TypeVar("Value")

WARM_UPS = 2
"""Calls before the recording, in which libraries choose their kernels and ask for their workspaces."""
MOST = 8
"""Number of captures that a function keeps, unless it says otherwise; each holds memory of its own."""


class CaptureError(RuntimeError):
    """A GPU refused to capture a function; the message names the function and the shapes."""


class Kept(Generic[Value]):
    """The `most` values that were asked for last, by their keys."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made now if it is not kept; what was not asked for the longest is let go."""
        if key in self._values:
            self._values.move_to_end(key)
        else:
            while len(self._values) >= self.most:
                self._values.popitem(last=False)  # before the new value needs its memory
            self._values[key] = make()
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class Capture:
    """What was recorded for one set of shapes: `replay` turns what the inputs hold into what the outputs hold."""

    inputs: Outputs
    outputs: Outputs
    replay: Callable[[], None]


class Captured:
    """A function of tensors that returns a tuple of tensors; see the module.

    changes, reads: asked in every call, so that tensors which have been replaced are noticed. generators: what the
    function draws random numbers from; a replay goes on in their streams. Raises `InputError` for inputs that are not
    tensors or tensors on several devices, and `CaptureError` where a GPU refuses the capture.
    """

    def __init__(
        self,
        function: Callable[..., Outputs],
        *,
        changes: Callable[[], Sequence[Tensor]] = tuple,
        reads: Callable[[], Sequence[Tensor]] = tuple,
        generators: Sequence[torch.Generator] = (),
        most: int = MOST,
    ) -> None:
        self.function, self.changes, self.reads, self.generators = function, changes, reads, tuple(generators)
        self.captures: Kept[Capture] = Kept(most)

    def __call__(self, *inputs: Tensor) -> Outputs:
        """Return the outputs for these inputs; they are overwritten by the next call with the same shapes."""
        capture = self.prepare(*inputs)
        for buffer, value in zip(capture.inputs, inputs, strict=True):
            buffer.copy_(value.detach())
        capture.replay()
        return capture.outputs

    def prepare(self, *inputs: Tensor) -> Capture:
        """Return the capture for such inputs, recorded now if there is none.

        A loop that replaces no tensor asks once, and then only replays: to look at all addresses takes Python as long
        as a GPU takes for a small step.
        """
        if wrong := [type(value).__name__ for value in inputs if not isinstance(value, Tensor)]:
            raise InputError(f"{self._name} is captured: expected tensors as inputs, got {wrong[0]}")
        changes, reads = list(self.changes()), list(self.reads())
        device = self._device([*inputs, *changes, *reads])
        key = (
            tuple((value.shape, value.dtype) for value in inputs),
            tuple((value.data_ptr(), value.shape, value.stride(), value.dtype) for value in (*changes, *reads)),
            (device, torch.get_float32_matmul_precision(), torch.is_grad_enabled()),  # a graph keeps these as well
        )
        return self.captures.get(key, lambda: self._capture(inputs, changes, device))

    def _device(self, tensors: Sequence[Tensor]) -> torch.device:
        """Return the one device of the tensors."""
        devices = list(dict.fromkeys(tensor.device for tensor in tensors))
        if len(devices) != 1:
            got = " and ".join(map(str, devices)) or "no tensor"
            raise InputError(f"{self._name} is captured: expected its tensors on one device, got {got}")
        return devices[0]

    def _capture(self, inputs: Sequence[Tensor], changes: Sequence[Tensor], device: torch.device) -> Capture:
        """Record the function for inputs like these; `changes` and the generators are left as they were."""
        buffers = tuple(value.detach().clone(memory_format=torch.contiguous_format) for value in inputs)
        before = [value.detach().clone() for value in changes]
        states = [generator.get_state() for generator in self.generators]

        @torch.no_grad()
        def undo() -> None:
            for value, old in zip(changes, before, strict=True):
                value.copy_(old)
            for generator, state in zip(self.generators, states, strict=True):
                generator.set_state(state)

        record = _record_graph if device.type == "cuda" else _record_call
        try:
            outputs, replay = record(lambda: self.function(*buffers), undo, device, self.generators)
        except CaptureError as error:
            shapes = ", ".join(str(tuple(buffer.shape)) for buffer in buffers) or "its state"
            raise CaptureError(f"{self._name} cannot be captured for {shapes}: {error}") from error.__cause__
        finally:
            undo()
        return Capture(buffers, tuple(output.detach() for output in outputs), replay)

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__name__)


def _record_graph(
    function: Callable[[], Outputs],
    undo: Callable[[], None],
    device: torch.device,
    generators: Sequence[torch.Generator],
) -> tuple[Outputs, Callable[[], None]]:
    """Return the outputs of a CUDA graph of the function, and what replays it."""
    with torch.cuda.device(device):
        stream = _side_stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                function()
                undo()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        before = torch.cuda.current_stream(device)
        gc.collect()  # a graph that nobody uses any more must not be freed while another is captured
        try:
            with torch.cuda.graph(graph, stream=stream):
                outputs = function()
        except Exception as error:
            _settle(stream, device, generators)
            torch.cuda.set_stream(before)  # torch.cuda.graph stays on its own stream when it fails
            cause = error.__context__ or error  # what the end of a failed capture says is less than what made it fail
            raise CaptureError(str(cause).partition("\n")[0]) from cause
    return outputs, graph.replay


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which functions are warmed up and captured: one, since libraries keep memory for each."""
    return torch.cuda.Stream(device)


def _settle(stream: torch.cuda.Stream, device: torch.device, generators: Sequence[torch.Generator]) -> None:
    """Capture next to nothing, because until a capture ends well, generators that took part in one give no numbers."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with contextlib.suppress(Exception), torch.cuda.graph(graph, stream=stream):
        torch.zeros(1, device=device)


def _record_call(
    function: Callable[[], Outputs],
    undo: Callable[[], None],
    device: torch.device,  # noqa: ARG001
    generators: Sequence[torch.Generator],  # noqa: ARG001
) -> tuple[Outputs, Callable[[], None]]:
    """Return the outputs of the function, and what calls it and overwrites them: what other devices do."""
    for _ in range(WARM_UPS):
        function()
        undo()
    outputs = function()

    def replay() -> None:
        for output, value in zip(outputs, function(), strict=True):
            output.detach().copy_(value.detach())

    return outputs, replay
