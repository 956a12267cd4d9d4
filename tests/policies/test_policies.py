"""The small policies: what a cell can see, the order of outputs, and the Jacobian against autograd."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, relu

from maxrl_lab.policies import jacobian
from maxrl_lab.policies.convolutional import FullyConvolutional, covering_dilations, small_cnn
from maxrl_lab.policies.jacobian import log_prob_jacobian, score_gram
from maxrl_lab.policies.stack import Stack, mlp, seeded


def random_levels(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def transparent(size, channels=2):
    """A network whose every path carries a positive slope: a zero gradient then means that there is no path."""
    network = FullyConvolutional(1, 3, size, channels).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    return network


def influence(network, size, row, col):
    """|d sum of the logits of one cell / d input| of a size x size level."""
    level = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    network(level).view(size, size, -1)[row, col].sum().backward()
    return level.grad[0, 0]


class TestFullyConvolutional:
    @pytest.mark.parametrize(
        ("size", "dilations"),
        [
            # a level of n cells needs a reach of n - 1 = 1 (first layer) + the sum of the dilations, at least
            (3, (1,)),
            (4, (1, 2)),
            (5, (1, 2)),
            (6, (1, 2, 4)),
            (9, (1, 2, 4)),
            (10, (1, 2, 4, 8)),
            (17, (1, 2, 4, 8)),
            (18, (1, 2, 4, 8, 16)),
            (33, (1, 2, 4, 8, 16)),
            (34, (1, 2, 4, 8, 16, 32)),
        ],
    )
    def test_covering_dilations_by_hand(self, size, dilations):
        assert covering_dilations(size) == dilations

    @pytest.mark.parametrize("size", range(5, 34, 2))
    def test_every_corner_sees_every_cell(self, size):
        network = transparent(size)
        for row, col in ((0, 0), (0, size - 1), (size - 1, 0), (size - 1, size - 1)):
            assert bool((influence(network, size, row, col) > 0).all())

    @pytest.mark.parametrize("size", [5, 6, 9, 17, 33])
    def test_receptive_field_is_what_is_measured_on_a_large_canvas(self, size):
        network = transparent(size)
        field = network.receptive_field
        canvas = field + 6
        seen = influence(network, canvas, canvas // 2, canvas // 2) > 0
        assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == field
        assert int(seen.sum()) == field**2  # without holes
        assert field >= 2 * size - 1

    def test_an_untrained_policy_of_the_experiments_sees_the_far_corner(self):
        # not only the transparent network: ReLUs with real initial values let something through
        network = seeded(lambda: FullyConvolutional(3, 4, 17, 16), 0).double()
        levels = random_levels(1, 3, 17, 17).double().requires_grad_()
        network(levels).view(17, 17, 4)[0, 0, 0].backward()
        assert bool((levels.grad[0, :, -1, -1] != 0).any())

    def test_outputs_are_in_row_major_order(self):
        # Height and width differ, so that a transposition cannot hide.
        network = seeded(lambda: FullyConvolutional(3, 4, 5, 8), 1)
        levels = random_levels(2, 3, 4, 6)
        hidden = relu(conv2d(levels, network.first.weight, network.first.bias, padding=1))
        for layer, dilation in zip(network.middle, (1, 2), strict=True):
            hidden = hidden + relu(conv2d(hidden, layer.weight, layer.bias, padding=dilation, dilation=dilation))
        logits = network(levels)
        assert logits.shape == (2 * 4 * 6, 4)
        weight, bias = network.last.weight[:, :, 0, 0], network.last.bias
        for level in range(2):
            for row in range(4):
                for col in range(6):
                    wanted = weight @ hidden[level, :, row, col] + bias
                    assert torch.allclose(logits[level * 24 + row * 6 + col], wanted, atol=1e-6)

    def test_levels_of_a_batch_do_not_see_each_other(self):
        network = seeded(lambda: FullyConvolutional(3, 4, 5, 8), 1)
        levels = random_levels(3, 3, 5, 5)
        alone = torch.cat([network(level[None]) for level in levels])
        assert torch.allclose(network(levels), alone, atol=1e-6)

    def test_a_shifted_picture_shifts_the_logits(self):
        # Reach 1 + 1 + 2 = 4: cells at least 4 from every edge of both canvases never see the padding.
        network = seeded(lambda: FullyConvolutional(3, 4, 5, 8), 2).double()
        scene = random_levels(1, 3, 24, 27).double()
        whole = network(scene).view(24, 27, 4)
        part = network(scene[..., 2:22, 3:23]).view(20, 20, 4)
        assert torch.allclose(part[4:16, 4:16], whole[6:18, 7:19], atol=1e-12)
        assert not torch.allclose(part[:1], whole[2:3, 3:23], atol=1e-3)  # at the edge they do

    @pytest.mark.parametrize(("channels", "count"), [(16, 12_116), (32, 47_268)])
    def test_parameters_by_hand(self, channels, count):
        # 3 planes, 4 actions, 33 cells a side: 27 C + C, five layers of 9 C^2 + C, 4 C + 4
        network = FullyConvolutional(3, 4, 33, channels)
        assert 28 * channels + 5 * (9 * channels**2 + channels) + 4 * channels + 4 == count
        assert sum(parameter.numel() for parameter in network.parameters()) == count


class TestSmallCnn:
    def test_shape_and_parameters_by_hand(self):
        network = small_cnn(planes=3, size=7, actions=5, channels=4)
        assert network(random_levels(6, 3, 7, 7)).shape == (6, 5)
        # (27 + 1) 4 + (36 + 1) 4 + (4 * 49 + 1) 5
        assert sum(parameter.numel() for parameter in network.parameters()) == 112 + 148 + 985

    def test_another_size_is_refused(self):
        with pytest.raises(RuntimeError):
            small_cnn(3, 7, 5)(random_levels(1, 3, 6, 6))


NETWORKS = {
    "perceptron": (lambda: mlp([5, 6, 3]), (4, 5)),
    "convolutional": (lambda: FullyConvolutional(3, 4, 5, 3), (2, 3, 5, 5)),
    "small cnn": (lambda: small_cnn(3, 4, 5, 2), (3, 3, 4, 4)),
}


@pytest.fixture(params=NETWORKS)
def network_and_inputs(request):
    make, shape = NETWORKS[request.param]
    return seeded(make, 3), random_levels(*shape)


def by_autograd(network, inputs):
    """Gradient of every log-probability, one backward pass each, in double precision."""
    twin = deepcopy(network).double()
    flat = twin(inputs.double()).log_softmax(-1).flatten()
    rows = [torch.autograd.grad(each, tuple(twin.parameters()), retain_graph=True) for each in flat]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


class TestJacobian:
    def test_of_a_table_is_one_hot_less_the_policy(self):
        table = nn.Linear(2, 3, bias=False)  # on one-hot inputs, column o of the weight is the row of logits of o
        with torch.no_grad():
            table.weight.copy_(torch.tensor([[0.0, 1.0, -2.0], [0.5, 0.5, 3.0]]).T)
        policy = table.weight.detach().double().softmax(0).T
        wanted = torch.block_diag(*(torch.eye(3, dtype=torch.float64) - row for row in policy))
        found = log_prob_jacobian(table, torch.eye(2)).view(6, 3, 2).transpose(1, 2).flatten(1)
        assert torch.allclose(found, wanted, atol=1e-14)

    def test_equals_one_backward_pass_per_log_probability(self, network_and_inputs):
        network, inputs = network_and_inputs
        found = log_prob_jacobian(network, inputs)
        wanted = by_autograd(network, inputs)
        assert found.dtype == torch.float64
        assert found.shape == wanted.shape
        assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-13)

    def test_chosen_cells_in_the_order_asked_for(self, network_and_inputs):
        network, inputs = network_and_inputs
        cells = torch.tensor([5, 0, 7, 5])
        assert torch.allclose(
            log_prob_jacobian(network, inputs, cells), log_prob_jacobian(network, inputs)[cells], atol=1e-14
        )

    def test_mean_score_is_zero(self, network_and_inputs):
        network, inputs = network_and_inputs
        slopes = log_prob_jacobian(network, inputs)
        policy = network.double()(inputs.double()).softmax(-1).detach()
        means = (policy[..., None] * slopes.view(*policy.shape, -1)).sum(1)
        assert means.abs().max() < 1e-13

    def test_the_network_is_left_as_it_was(self, network_and_inputs):
        network, inputs = network_and_inputs
        before = {name: value.clone() for name, value in network.state_dict().items()}
        log_prob_jacobian(network, inputs)
        assert all(parameter.grad is None for parameter in network.parameters())
        for name, value in network.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, before[name])

    def test_too_large_a_jacobian_is_refused_with_the_numbers(self, refuses, monkeypatch):
        network, inputs = mlp([5, 6, 3]), torch.zeros(4, 5)  # 57 parameters, 12 log-probabilities
        monkeypatch.setattr(jacobian, "MAX_ELEMENTS", 683)
        with refuses("the Jacobian of 12 log-probabilities and 57 parameters has 684 numbers, at most 683 are allowed"):
            log_prob_jacobian(network, inputs)
        assert log_prob_jacobian(network, inputs, torch.arange(11)).shape == (11, 57)  # what is asked for counts
        monkeypatch.setattr(jacobian, "MAX_ELEMENTS", 684)
        assert log_prob_jacobian(network, inputs).shape == (12, 57)


class TestScoreGram:
    def test_products_of_the_gradients(self, network_and_inputs):
        network, inputs = network_and_inputs
        whole = by_autograd(network, inputs)
        rows = torch.tensor([[0, 1, 1], [1, 2, 0]])
        found = score_gram(network, inputs, rows)
        actions = network(inputs).shape[-1]
        assert found.dtype == torch.float64
        assert found.shape == (2, 3 * actions, 3 * actions)
        assert not found.requires_grad
        for gram, own in zip(found, rows.tolist(), strict=True):
            scores = torch.cat([whole.view(-1, actions, whole.shape[1])[row] for row in own])
            assert torch.allclose(gram, scores @ scores.T, rtol=1e-10, atol=1e-12)
        jacobian = log_prob_jacobian(network, inputs, torch.arange(3 * actions))
        alone = score_gram(network, inputs, torch.arange(3)[None])[0]
        assert torch.allclose(alone, jacobian @ jacobian.T, rtol=1e-12)

    def test_small_whole_numbers_as_inputs(self):
        network = seeded(lambda: mlp([2, 4, 3]), 0)
        inputs, rows = torch.tensor([[3, 200], [0, 1]], dtype=torch.uint8), torch.tensor([[0, 1, 1]])
        assert torch.equal(score_gram(network, inputs, rows), score_gram(network, inputs.float(), rows))


class TestLogPolicy:
    ROWS = torch.tensor([[0, 3, 3, 1], [2, 0, 1, 1]])
    SHARED = torch.tensor([[0, 49, 24], [10, 10, 33]])

    @pytest.mark.parametrize(("name", "rows"), [("perceptron", ROWS), ("convolutional", SHARED)])
    def test_is_each_network_alone_looked_up(self, name, rows):
        make, shape = NETWORKS[name]
        networks, inputs = [seeded(make, seed) for seed in range(3)], random_levels(*shape)
        found = Stack(networks).log_policy(inputs, rows)
        alone = [network(inputs).log_softmax(-1) for network in networks]
        assert found.shape == (3, 1, *rows.shape, alone[0].shape[-1])
        for run in range(3):
            for task in range(rows.shape[0]):
                for state in range(rows.shape[1]):
                    assert torch.allclose(found[run, 0, task, state], alone[run][rows[task, state]], atol=1e-6)

    def test_gradients_reach_every_network_and_only_its_own(self):
        make, shape = NETWORKS["perceptron"]
        inputs = random_levels(*shape).double()
        weights = random_levels(3, 1, 2, 4, 3, seed=5).double()
        networks = [seeded(make, seed).double() for seed in range(3)]
        (Stack(networks).log_policy(inputs, self.ROWS) * weights).sum().backward()
        for run in range(3):
            twin = seeded(make, run).double()
            (twin(inputs).log_softmax(-1)[self.ROWS] * weights[run, 0]).sum().backward()
            for parameter, own in zip(networks[run].parameters(), twin.parameters(), strict=True):
                assert bool((own.grad != 0).any())
                assert torch.allclose(parameter.grad, own.grad, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_inputs_of_any_type(self, dtype):
        stack = Stack([seeded(lambda: mlp([2, 4, 3]), 0).to(dtype)])
        inputs, rows = torch.tensor([[3, 200], [0, 1]], dtype=torch.uint8), torch.tensor([[0, 1, 1]])
        found = stack.log_policy(inputs, rows)
        assert found.dtype == dtype
        assert torch.equal(found, stack.log_policy(inputs.to(dtype), rows))
