"""A CUDA graph's stand-in on a CPU: operations are recorded with their tensors and replayed without the Python around.

Shared by the tests of captured functions. A tape refuses, in the words of CUDA, what a graph cannot hold: asking for a
tensor's value, shapes that depend on values, tensors made out of Python's numbers.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maxrl_lab import captured

aten = torch.ops.aten
REFUSED = {
    *(aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.lift_fresh, aten.masked_select, aten.nonzero),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.bincount),
}


def tensors(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def storages(values):
    return {value.untyped_storage().data_ptr() for value in tensors(values)} - {0}


class Tape(TorchDispatchMode):
    """Records what runs while it is open."""

    def __init__(self):
        super().__init__()
        self.entries = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        masks = [index for index in tensors(args[1:]) if index.dtype == torch.bool]
        by_mask = function.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and masks
        by_counts = function in (aten.repeat_interleave.Tensor, aten.repeat_interleave.self_Tensor)
        if function.overloadpacket in REFUSED or by_mask or by_counts:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function}")
        result = function(*args, **kwargs)
        is_view = bool(storages(result) & storages([args, kwargs])) and not function._schema.is_mutable
        if not is_view:
            self.entries.append((function, args, kwargs, result))
        return result

    def replay(self):
        """Run every operation again on the tensors it was recorded with."""
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            for function, args, kwargs, result in self.entries:
                again = function(*args, **kwargs)
                for old, new in zip(tensors(result), tensors(again), strict=True):
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.copy_(new)


def record_tape(function, undo, device, generators):
    """Record a captured function as `captured._record_graph` does."""
    for _ in range(captured.WARM_UPS):
        function()
        undo()
    tape = Tape()
    try:
        with tape:
            outputs = function()
    except RuntimeError as error:
        raise captured.CaptureError(str(error)) from error
    return outputs, tape.replay


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of several devices, of which a GPU takes only numbers in tensors without axes.

    No GPU is here: tensors on the device "meta", which have shapes and no values, stand for those on one.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        devices = {value.device.type for value in tensors([args, kwargs, result]) if value.ndim}
        if len(devices) > 1:
            raise RuntimeError(f"expected all tensors on one device, got {' and '.join(sorted(devices))}: {function}")
        return result
