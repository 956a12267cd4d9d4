"""Captured functions on a CPU: buffers, state, random numbers, and what a replay leaves out, which is Python."""

import inspect
from contextlib import contextmanager

import pytest
import torch
from replay import OneDevice, record_tape

from maxrl_lab import captured
from maxrl_lab.captured import Captured, CaptureError, Kept


@pytest.fixture(params=["called", "replayed"])
def how(request, monkeypatch):
    """Captured functions are called, as on every CPU, or replayed from a tape, as from a CUDA graph."""
    if request.param == "replayed":
        monkeypatch.setattr(captured, "_record_call", record_tape)
    return request.param


class Counter:
    """A state that a function changes: its value, and how often Python has run."""

    def __init__(self, value=0.0):
        self.value = torch.tensor([value])
        self.calls = 0

    def add(self, number):
        self.calls += 1
        self.value.add_(number)
        return (self.value * 2, number + 1)


class TestValues:
    def test_outputs_are_the_functions(self, how):
        function = Captured(lambda x, y: (x @ y, x.sum()))
        stream = torch.Generator().manual_seed(0)
        for _ in range(4):
            x, y = torch.randn(3, 4, generator=stream), torch.randn(4, 2, generator=stream)
            product, total = function(x, y)
            assert torch.equal(product, x @ y)
            assert torch.equal(total, x.sum())

    def test_inputs_are_copied_and_never_changed(self, how):
        function = Captured(lambda x: (x.add_(1),))
        x = torch.zeros(2)
        assert function(x)[0].tolist() == [1, 1]
        assert function(x)[0].tolist() == [1, 1]
        assert x.tolist() == [0, 0]

    def test_outputs_are_overwritten_by_the_next_call(self, how):
        function = Captured(lambda x: (x * 2,))
        (first,) = function(torch.ones(2))
        kept = first.clone()
        (second,) = function(torch.full((2,), 5.0))
        assert second is first
        assert first.tolist() == [10, 10]
        assert kept.tolist() == [2, 2]

    def test_inputs_that_are_strided_or_need_a_gradient(self, how):
        function = Captured(lambda x: (x + 1,))
        x = torch.arange(6.0, requires_grad=True).view(2, 3).T
        for _ in range(2):
            (output,) = function(x)
            assert torch.equal(output, x.detach() + 1)
            assert not output.requires_grad

    def test_a_gradient_within_the_function(self, how):
        weight = torch.tensor([1.0, 2.0], requires_grad=True)
        total = torch.zeros(2)

        def slope(x):
            with torch.enable_grad():
                loss = (weight.square() * x).sum()
            total.add_(torch.autograd.grad(loss, weight)[0])
            return (loss,)

        function = Captured(slope, changes=lambda: [total], reads=lambda: [weight])
        for number in (1.0, 3.0, 10.0):
            function(torch.tensor([number, 0.0]))
        assert total.tolist() == [2 * (1 + 3 + 10), 0]
        with torch.no_grad():
            weight.fill_(7.0)  # a policy that learns stays at its address
        (loss,) = function(torch.ones(2))
        assert loss.item() == 2 * 49


class TestState:
    def test_recording_leaves_no_trace(self, how):
        counter = Counter(3.0)
        function = Captured(counter.add, changes=lambda: [counter.value])
        double, after = function(torch.tensor([2.0]))
        assert (counter.value.item(), double.item(), after.item()) == (5, 10, 3)
        assert function(torch.tensor([10.0]))[0].item() == 30
        assert counter.value.item() == 15

    def test_a_replay_runs_no_python(self, how):
        counter = Counter()
        function = Captured(counter.add, changes=lambda: [counter.value])
        for _ in range(5):
            function(torch.ones(1))
        assert counter.value.item() == 5
        recorded = captured.WARM_UPS + 1
        assert counter.calls == (recorded if how == "replayed" else recorded + 5)

    def test_preparing_runs_nothing_and_a_loop_replays(self, how):
        counter = Counter()
        function = Captured(counter.add, changes=lambda: [counter.value])
        capture = function.prepare(torch.ones(1))
        assert counter.value.item() == 0
        for number in (1.0, 2.0, 4.0):
            capture.inputs[0].fill_(number)
            capture.replay()
        assert counter.value.item() == 7
        assert [output.item() for output in capture.outputs] == [14, 5]
        assert function.prepare(torch.zeros(1)) is capture

    def test_a_state_that_was_replaced_is_noticed(self, how):
        counter = Counter()
        function = Captured(counter.add, changes=lambda: [counter.value])
        function(torch.ones(1))
        old, counter.value = counter.value, torch.tensor([100.0])
        function(torch.ones(1))
        assert (old.item(), counter.value.item()) == (1, 101)

    def test_what_is_read_may_be_replaced(self, how):
        policy = torch.nn.Linear(2, 1, bias=False)
        function = Captured(lambda x: (policy.weight.detach() @ x,), reads=lambda: [*policy.parameters()])
        function(torch.ones(2))
        policy.weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        assert function(torch.ones(2))[0].item() == 7

    def test_parameters_that_are_only_read_keep_their_version(self, how):
        weight = torch.nn.Parameter(torch.ones(2))
        before = weight._version
        Captured(lambda x: (weight.detach() * x,), reads=lambda: [weight])(torch.ones(2))
        assert weight._version == before

    def test_a_function_that_fails_leaves_its_state(self):
        counter = Counter()

        def broken(number):
            counter.add(number)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            Captured(broken, changes=lambda: [counter.value])(torch.ones(1))
        assert counter.value.item() == 0


class TestRandomNumbers:
    def test_they_are_those_of_ordinary_calls(self, how):
        def sample(x):
            return (x + torch.rand(3, generator=stream),)

        stream = torch.Generator().manual_seed(5)
        wanted = [sample(torch.zeros(3))[0] for _ in range(4)]
        stream.manual_seed(5)
        function = Captured(sample, generators=[stream])
        for numbers in wanted:
            assert torch.equal(function(torch.zeros(3))[0], numbers)
        stream.manual_seed(5)
        assert torch.equal(function(torch.zeros(3))[0], wanted[0])


class TestShapes:
    def test_other_shapes_and_types_are_captured_anew(self, how):
        calls = []
        function = Captured(lambda x: (calls.append(x.shape) or x * 2,))
        for x in (torch.ones(2), torch.ones(3), torch.ones(3, dtype=torch.float64), torch.ones(2)):
            assert torch.equal(function(x)[0], x * 2)
            assert function(x)[0].dtype == x.dtype
        assert len(function.captures) == 3

    def test_a_bounded_number_is_kept_and_the_oldest_goes(self, how):
        function = Captured(lambda x: (x * 2,), most=2)
        first = function(torch.ones(1))[0]
        function(torch.ones(2))
        assert function(torch.ones(1))[0] is first  # asked for again: now the one with two numbers is the oldest
        function(torch.ones(3))
        assert function(torch.ones(1))[0] is first
        assert len(function.captures) == 2

    def test_precision_of_products_is_part_of_a_capture(self, how):
        function = Captured(lambda x: (x @ x,))
        before = torch.get_float32_matmul_precision()
        try:
            for name in ("highest", "high", "highest"):
                torch.set_float32_matmul_precision(name)
                function(torch.eye(2))
        finally:
            torch.set_float32_matmul_precision(before)
        assert len(function.captures) == 2

    def test_values_are_kept_while_they_are_asked_for(self):
        kept, made = Kept(2), []
        for key in "abacab":
            kept.get(key, lambda key=key: made.append(key))
        assert made == ["a", "b", "c", "b"]


class TestRefused:
    def test_inputs_that_are_no_tensors(self, refuses):
        function = Captured(lambda x: (x,))
        name = "TestRefused.test_inputs_that_are_no_tensors.<locals>.<lambda>"
        with refuses(f"{name} is captured: expected tensors as inputs, got float"):
            function(1.0)

    def test_several_devices_and_none(self, refuses):
        function = Captured(lambda *x: x)
        function_name = "TestRefused.test_several_devices_and_none.<locals>.<lambda>"
        name = f"{function_name} is captured: expected its tensors on one device"
        with refuses(f"{name}, got cpu and meta"):
            function(torch.ones(1), torch.ones(1, device="meta"))
        with refuses(f"{name}, got no tensor"):
            function()

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: (x * x.sum().item(),),
            lambda x: (x * 2 if bool(x.any()) else x,),
            lambda x: (x[x > 0],),
            lambda x: (x.nonzero(),),
            lambda x: (x + torch.tensor([1.0, 2.0]),),
        ],
    )
    def test_the_tape_refuses_what_a_graph_cannot_hold(self, function, monkeypatch):
        """What the other tests with a tape rely on."""
        monkeypatch.setattr(captured, "_record_call", record_tape)
        with pytest.raises(CaptureError, match=r"cannot be captured for \(2,\): operation not permitted"):
            Captured(function)(torch.ones(2))

    def test_a_second_device_is_noticed_where_no_gpu_is(self):
        """What the other tests with tensors on the device "meta" rely on."""
        x = torch.ones(2, device="meta", requires_grad=True)
        with OneDevice():
            (2 * x * torch.tensor(3.0)).sum().backward()
            with pytest.raises(RuntimeError, match="expected all tensors on one device, got cpu and meta"):
                x[torch.tensor([0, 1])]


class Card:
    """Stand-ins for torch.cuda, which write down what was asked of them, in order."""

    def __init__(self, monkeypatch, fails=False):
        self.events, self.current, card = [], "main stream", self

        class Stream:
            def __init__(self, device):
                card.events.append("new stream")

            def wait_stream(self, other):
                card.events.append(f"side waits for {other}")

            def __str__(self):
                return "side stream"

        class Main:
            def wait_stream(self, other):
                card.events.append(f"main waits for {other}")

            def __str__(self):
                return "main stream"

        class Graph:
            def register_generator_state(self, generator):
                card.events.append("register generator")

            def replay(self):
                card.events.append("replay")

        @contextmanager
        def use(stream):
            card.events.append(f"on {stream}")
            yield
            card.events.append(f"off {stream}")

        @contextmanager
        def graph(cuda_graph, pool=None, stream=None, capture_error_mode="global"):
            assert isinstance(cuda_graph, Graph)
            card.events.append(f"capture on {stream}")
            try:
                yield
            except RuntimeError as error:
                raise RuntimeError("operation failed due to a previous error during capture") from error
            card.events.append("captured")

        main = Main()
        inspect.signature(torch.cuda.graph).bind(Graph(), stream=Stream(0))
        self.events.clear()
        monkeypatch.setattr(captured, "_side_stream", Stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", graph)
        monkeypatch.setattr(torch.cuda, "stream", use)
        monkeypatch.setattr(torch.cuda, "device", use)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: card.events.append(f"back to {stream}"))


class TestOrderOnACard:
    """No card is here: what is asked of torch.cuda, and in which order."""

    def record(self, card, function, generators=()):
        def run():
            card.events.append("run")
            return function()

        return captured._record_graph(run, lambda: card.events.append("undo"), torch.device("cuda:0"), generators)

    def test_warm_up_and_capture_on_one_side_stream(self, monkeypatch):
        card = Card(monkeypatch)
        _, replay = self.record(card, lambda: (torch.ones(1),), [torch.Generator()])
        warm_up = ["run", "undo"] * captured.WARM_UPS
        assert card.events == [
            *("on cuda:0", "new stream", "side waits for main stream", "on side stream", *warm_up, "off side stream"),
            *("main waits for side stream", "register generator", "capture on side stream", "run", "captured"),
            "off cuda:0",
        ]
        replay()
        assert card.events[-1] == "replay"

    def test_a_capture_that_fails_names_what_made_it_fail(self, monkeypatch):
        card, runs = Card(monkeypatch), []

        def fails_when_captured():
            runs.append(1)
            if len(runs) > captured.WARM_UPS:
                raise RuntimeError("operation not permitted when stream is capturing\nand much more")
            return ()

        with pytest.raises(CaptureError, match=r"\Aoperation not permitted when stream is capturing\Z"):
            self.record(card, fails_when_captured, [torch.Generator()])
        # torch's generators wait for a capture that ends well, so another is begun
        register, capture = "register generator", "capture on side stream"
        assert card.events[-6:] == [register, capture, "run", register, capture, "back to main stream"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_on_a_gpu():
    counter = Counter()
    counter.value = counter.value.cuda()
    stream = torch.Generator("cuda").manual_seed(3)

    def step(number):
        return (*counter.add(number), torch.rand(4, device="cuda", generator=stream))

    wanted = [torch.rand(4, device="cuda", generator=stream) for _ in range(3)]
    stream.manual_seed(3)
    function = Captured(step, changes=lambda: [counter.value], generators=[stream])
    for number, numbers in zip((1.0, 2.0, 4.0), wanted, strict=True):
        double, after, sampled = function(torch.full((1,), number, device="cuda"))
        assert after.item() == number + 1
        assert torch.equal(sampled, numbers)
    assert counter.value.item() == 7
    assert double.item() == 14
    assert counter.calls == captured.WARM_UPS + 1
    with pytest.raises(CaptureError, match="cannot be captured"):
        Captured(lambda x: (x * x.sum().item(),))(torch.ones(2, device="cuda"))
    assert function(torch.zeros(1, device="cuda"))[0].item() == 14
    assert bool((torch.rand(100, device="cuda") != torch.rand(100, device="cuda")).any())  # generators still work
