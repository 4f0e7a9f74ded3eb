"""The engine `vendor` in PyTorch: PyTorch's own kernels behind our layers, oneDNN's on the CPU and cuDNN's on a GPU.

The numbers are those of `nn`'s layer to the bit where that calls the same kernels, and no further from the truth than its own
elsewhere; the graph around a layer is walked as with any other engine. It needs PyTorch, NumPy and pytest alone, and no fixture
of the suite's, so that it can be run on a machine with a GPU and little else.
"""

import contextlib
import dataclasses
import gc
import itertools
import warnings
import weakref

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

import rnn_torch
from rnn_common.parity.contract import FEW_UNITS, GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_torch import private, unroll
from rnn_torch.engines import vendor

# Options of a layer, and the layer of nn's that is the same.
KINDS = {
    "tanh": ("SimpleRNN", nn.RNN, {}),
    "relu": ("SimpleRNN", nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", nn.LSTM, {}),
    "GRU": ("GRU", nn.GRU, {}),
}
LENGTHS = [6, 1, 3, 6, 4]

each_kind = pytest.mark.parametrize("kind", KINDS)
each_device = pytest.mark.parametrize(
    "device", ["cpu", "as cuDNN", pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True
)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
a_gpu = pytest.mark.gpu


class Imitation(private.CuDNN):
    """cuDNN's operation and its derivative by PyTorch's layer, so that what is around them runs on the CPU."""

    def forward(self, weights, piece, x, state, sizes, keep):
        history, *final = self._run(weights, x.contiguous(), state, sizes)
        return history, tuple(final), torch.full((3,), 7.0)

    def backward(
        self, weights, piece, x, state, sizes, history, reserve, d_history, d_final, needs_d_x, needs_d_weights
    ):
        assert torch.equal(reserve, torch.full((3,), 7.0))
        reserve.zero_()  # cuDNN writes in it, too
        n = 1 + len(state)
        with private.above_autograd(), torch.enable_grad():
            leaves = [each.detach().contiguous().requires_grad_() for each in (x, *state, *weights)]
            returned = self._run(leaves[n:], leaves[0], leaves[1:n], sizes)
            assert distance(returned[0], history) <= 1e-6
            pairs = [(y, d) for y, d in zip(returned, (d_history, *d_final), strict=True) if d is not None]
            d_x, *others = torch.autograd.grad([y for y, _ in pairs], leaves, [d for _, d in pairs])
        d_weights = others[len(state) :] if needs_d_weights else []
        return d_x if needs_d_x else None, tuple(others[: len(state)]), d_weights

    def _run(self, weights, x, state, sizes):
        assert all(h.dim() == 3 and h.is_contiguous() for h in state)
        layer = {mode: layer for layer, mode in vendor.LAYERS.values()}[self.mode]
        options = (weights, self._a_run() > 2, self.layers, 0.0, torch.is_grad_enabled(), self.bidirectional)
        hx = tuple(state) if len(state) > 1 else state[0]
        return layer(x, hx, *options, False) if sizes is None else layer(x, torch.tensor(sizes), hx, *options)


def imitation(mode, W, R, count, layers, directions, dtype, device):
    widths = [W[1]] * directions + [directions * R[1]] * directions * (layers - 1)
    runs = len(widths)
    sizes = [size for width in widths for size in (W[0] * width, R[0] * R[1], *[W[0]] * (count // runs - 2))]
    ends = list(itertools.accumulate(sizes))
    return Imitation(mode, R[1], layers, directions > 1, (0, *ends[:-1]), ends[-1])


@pytest.fixture
def device(request, monkeypatch):
    """A device, or the CPU on which what is for cuDNN is run by an imitation of it."""
    if request.param != "as cuDNN":
        return request.param
    monkeypatch.setattr(vendor, "_cudnn_takes", lambda x: True)
    monkeypatch.setattr(private, "cudnn", imitation)
    return "cpu"


def draw(*shape, seed=1, dtype=torch.float64, device="cpu"):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def pair(kind, *sizes, device="cpu", dtype=torch.float32, engine="vendor", **options):
    """Our layer and nn's with the same weights."""
    ours, theirs, own = KINDS[kind]
    torch.manual_seed(0)
    builtin = theirs(*sizes, dtype=dtype, device=device, **own, **options)
    layer = getattr(rnn_torch, ours)(*sizes, dtype=dtype, device=device, engine=engine, **own, **options)
    layer.load_state_dict(builtin.state_dict())
    return layer, builtin


def flat(nested):
    if isinstance(nested, torch.Tensor):
        return [nested]
    nested = [nested.data] if isinstance(nested, nn.utils.rnn.PackedSequence) else nested
    return [tensor for part in nested for tensor in flat(part)]


def hidden(kind, *shape, **options):
    """An initial state as a layer takes it."""
    states = [draw(*shape, seed=20 + i, **options).requires_grad_() for i in range(2 if kind == "LSTM" else 1)]
    return tuple(states) if len(states) > 1 else states[0]


def differentiate(layer, x, hx, given=None):
    """What a layer returns, and its gradients with respect to input, state and weights, for a random cotangent."""
    returned = flat(layer(x if given is None else given(x), hx))
    cotangents = [draw(*y.shape, seed=40 + i).to(y) for i, y in enumerate(returned)]
    return returned, torch.autograd.grad(returned, [x, *flat(hx), *layer.parameters()], cotangents)


def distance(found, expected):
    """The worst deviation of tensors from others, wherever either are."""
    pairs = zip(flat(found), flat(expected), strict=True)
    return max(deviation(*(each.detach().double().cpu().numpy() for each in each_pair)) for each_pair in pairs)


def allowed(theirs, truth, dtype):
    """The contract's bound: twice nn's own error, and a few units in the last place; in float64 the bounds of float64."""
    if dtype is torch.float64:
        return GRADIENT_BOUND
    return 2 * distance(theirs, truth) + FEW_UNITS * torch.finfo(dtype).eps


def pack(x):
    return pack_sequence([x[:length, i] for i, length in enumerate(LENGTHS)], enforce_sorted=False)


# What it takes, and which devices it is asked for


@each_device
@each_kind
def test_what_it_refuses(kind, device):
    layer, _ = pair(kind, 3, 4, device=device)
    x = draw(5, 2, 3, device=device, dtype=torch.float32)
    assert layer.explain(x) == ("vendor", {})
    assert layer.explain(x[:, :0]) == ("reference", {"vendor": "an empty batch"})
    assert layer(x[:, :0])[0].shape == (5, 0, 4)
    masked, _ = pair(kind, 3, 4, device=device)
    masked.recurrent_dropout = 0.5
    assert "dropout" in masked.explain(x).refused["vendor"]
    every = getattr(rnn_torch, KINDS[kind][0])(3, 4, return_all_states=True, engine="vendor", device=device)
    choice = every.explain(x)
    if kind == "LSTM":
        assert choice == ("reference", {"vendor": "every c_t, of which PyTorch's layer returns the last"})
        assert [each.shape for each in every(x)[2]] == [(1, 5, 2, 4)] * 2
    else:
        assert choice == ("vendor", {})
        assert torch.equal(every(x)[2][0], every(x)[0])


@each_device
def test_cells_that_pytorch_has_not(device):
    x = draw(5, 2, 3, device=device, dtype=torch.float32)
    projected = rnn_torch.LSTM(3, 4, proj_size=2, engine="vendor", device=device)
    assert projected.explain(x) == ("reference", {"vendor": "a projection"})
    other = rnn_torch.GRU(3, 4, reset_after=False, engine="vendor", device=device)
    assert other.explain(x) == ("reference", {"vendor": "a cell or activations that PyTorch has no layer of"})


@a_gpu
@each_kind
def test_on_a_gpu_it_is_the_default(kind):
    layer, _ = pair(kind, 3, 4, device="cuda", engine="auto")
    assert layer.explain(draw(5, 2, 3, device="cuda", dtype=torch.float32)) == ("vendor", {})
    other = rnn_torch.GRU(3, 4, reset_after=False, device="cuda")
    assert other.explain(draw(5, 2, 3, device="cuda", dtype=torch.float32)).engine == "fused"


# Its numbers


@each_device
@each_dtype
@each_kind
@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}],
    ids=["plain", "no bias", "two layers, both ways", "batch first"],
)
def test_it_computes_what_nn_computes(kind, options, dtype, device):
    """Outputs, final states and all gradients; and no further from those in float64 than nn's own."""
    layer, builtin = pair(kind, 3, 16, device=device, dtype=dtype, **options)
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    given = {"device": device, "dtype": dtype}
    x = draw(*((5, 6, 3) if options.get("batch_first") else (6, 5, 3)), **given).requires_grad_()
    hx = hidden(kind, count, 5, 16, **given)
    found, expected = (differentiate(each, x, hx) for each in (layer, builtin))
    truth = differentiate(
        builtin.double().cpu(),
        x.detach().cpu().double().requires_grad_(),
        tuple(h.detach().cpu().double().requires_grad_() for h in hx)
        if kind == "LSTM"
        else hx.detach().cpu().double().requires_grad_(),
    )
    assert layer.explain(x).engine == "vendor"
    for place in (0, 1):
        assert distance(found[place], truth[place]) <= allowed(expected[place], truth[place], dtype)
    if dtype is torch.float64:
        assert distance(found[0], truth[0]) <= OUTPUT_BOUND


@each_device
@each_dtype
@each_kind
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences(kind, bidirectional, dtype, device):
    layer, builtin = pair(kind, 3, 8, device=device, dtype=dtype, bidirectional=bidirectional)
    given = {"device": device, "dtype": dtype}
    x = draw(6, 5, 3, **given).requires_grad_()
    hx = hidden(kind, 1 + bidirectional, 5, 8, **given)
    found, expected = (differentiate(each, x, hx, pack) for each in (layer, builtin))
    assert layer.explain(pack(x)).engine == "vendor"
    unit = (
        torch.finfo(dtype).eps if device == "cpu" or dtype is torch.float64 else 1e-3
    )  # on a GPU products are in TF32
    for place in (0, 1):
        assert distance(found[place], expected[place]) <= 50 * unit


@each_kind
def test_low_precision_is_left(kind):
    """Whose gradients PyTorch's own loops add up in that precision."""
    for dtype in (torch.bfloat16, torch.float16):
        layer, _ = pair(kind, 3, 4, dtype=dtype)
        assert "below float32" in layer.explain(draw(5, 2, 3, dtype=dtype)).refused["vendor"]


@a_gpu
@each_kind
def test_low_precision_on_a_gpu(kind):
    """In float16, cuDNN's: nn's own numbers, and gradients that are added up in float32 over 1000 steps."""
    dtype, device = torch.float16, "cuda"
    layer, builtin = pair(kind, 3, 16, device=device, dtype=dtype)
    x = draw(6, 5, 3, device=device, dtype=dtype).requires_grad_()
    hx = hidden(kind, 1, 5, 16, device=device, dtype=dtype)
    assert layer.explain(x).engine == "vendor"
    found, expected = (differentiate(each, x, hx) for each in (layer, builtin))
    for place in (0, 1):
        assert distance(found[place], expected[place]) <= FEW_UNITS * torch.finfo(dtype).eps
    layer, _ = pair(kind, 8, 16, device=device)
    for weight in layer.parameters():
        nn.init.uniform_(weight, -0.25, 0.25)
    x, found = draw(1000, 16, 8, device=device, dtype=torch.float32), []
    for enabled in (True, False):
        with torch.autocast("cuda", dtype=dtype, enabled=enabled):
            output, _ = layer(x)
        # Gradients of order one: sums of many are beyond the largest number of float16.
        found.append(torch.autograd.grad(output.float().sum() / 1000, list(layer.parameters())))
    for low, full in zip(*found, strict=True):
        assert float((low - full).norm() / full.norm()) < 0.03


@each_device
@each_dtype
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_held_state_is_held(kind, dtype, device):
    """To the bit, where the gate is exactly 1: f_t of an LSTM, whose c_t stays; z_t of a GRU, whose h_t stays."""
    layer, _ = pair(kind, 3, 4, device=device, dtype=dtype)
    start = torch.full((1, 2, 4), 2.0**-20, dtype=dtype, device=device)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.zero_()
        for bias in (layer.bias_ih_l0, layer.bias_hh_l0):
            bias[:4] = -1e4  # i_t, or r_t
            bias[4:8] = 1e4  # f_t, or z_t
            bias[8:12] = 0.5  # c̃_t, or ñ_t
        x = draw(50, 2, 3, device=device, dtype=dtype)
        output, final = layer(x, (start, start) if kind == "LSTM" else start)
    assert torch.equal(final[1] if kind == "LSTM" else output[-1:], start)


@each_device
@each_kind
def test_memory_of_any_layout(kind, device):
    """Inputs, states and weights that are views: transposed, broadcast, every second row."""
    layer, _ = pair(kind, 3, 4, device=device)
    like = {"device": device, "dtype": torch.float32}
    x = draw(3, 2, 5, **like).permute(2, 1, 0)
    state = tuple(draw(1, 4, seed=3, **like).expand(2, 4) for _ in layer.cell.states)
    weights = [draw(w.size(-1), w.size(0), seed=i, **like).t() for i, w in enumerate(layer.packed()[:2])]
    weights += [draw(2 * w.size(0), seed=9 + i, **like)[::2] for i, w in enumerate(layer.packed()[2:])]
    results = []
    for engine in ("vendor", "reference"):
        leaves = [t.detach().requires_grad_() for t in (x, *state, *weights)]
        n = 1 + len(state)
        history, final = unroll.unroll(engine, layer.recurrence(), leaves[n:], leaves[0], tuple(leaves[1:n]))
        returned = [*history, *final]
        cotangents = [
            draw(*y.shape[::-1], seed=i, **like).permute(*reversed(range(y.dim()))) for i, y in enumerate(returned)
        ]
        results.append((returned, torch.autograd.grad(returned, leaves, cotangents)))
    assert distance(results[0], results[1]) <= (2e-6 if device == "cpu" else 5e-3)


@a_gpu
@each_kind
def test_without_cudnn(kind):
    layer, builtin = pair(kind, 3, 8, device="cuda")
    x = draw(6, 5, 3, device="cuda", dtype=torch.float32).requires_grad_()
    hx = hidden(kind, 1, 5, 8, device="cuda", dtype=torch.float32)
    with torch.backends.cudnn.flags(enabled=False):
        found, expected = (differentiate(each, x, hx) for each in (layer, builtin))
    assert distance(found, expected) <= 5e-3


# A user's parameters, and warnings


@each_device
@each_kind
@pytest.mark.parametrize("how", ["as they are", "computed", "two layers, both ways", "autocast"])
def test_parameters_stay_as_they_are_and_nothing_is_warned_of(kind, how, device):
    """cuDNN wants the weights in one piece of memory, and PyTorch says so each time that they are not."""
    options = {"num_layers": 2, "bidirectional": True} if how.startswith("two") else {}
    layer, _ = pair(kind, 3, 8, device=device, **options)
    before = [(p.data_ptr(), p._version, p.stride()) for p in layer.parameters()]
    x = draw(5, 2, 3, device=device, dtype=torch.float32)
    low = torch.float16 if device == "cuda" else torch.bfloat16
    around = torch.autocast(device, low) if how == "autocast" else contextlib.nullcontext()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with around:
            if how == "computed":
                weights = {name: p * 1.5 for name, p in layer.named_parameters()}
                output, _ = torch.func.functional_call(layer, weights, (x,))
            else:
                output, _ = layer(x)
        output.float().sum().backward()
        with torch.no_grad(), around:
            layer(x)
        with torch.inference_mode(), around:
            layer(x)
    assert [(p.data_ptr(), p._version, p.stride()) for p in layer.parameters()] == before
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@a_gpu
def test_one_piece_of_memory():
    """The weights of a layer that was moved to a GPU are in one, also of a stack; else a copy of them is made."""
    for options in ({}, {"num_layers": 2, "bidirectional": True}):
        layer, _ = pair("LSTM", 3, 8, device="cpu", **options)
        layer.cuda()
        stack = dataclasses.replace(layer.recurrence(), layers=layer.num_layers, directions=1 + layer.bidirectional)
        weights = list(layer.parameters())
        cudnn = vendor._of_cudnn(stack, weights, weights[0])
        _, piece = cudnn.in_one_piece(weights)
        assert piece.data_ptr() == weights[0].data_ptr()
        copies, other = cudnn.in_one_piece([w.detach().clone() for w in weights])
        assert torch.equal(other, piece)
        assert all(torch.equal(a, b) for a, b in zip(copies, weights, strict=True))
        assert cudnn.in_one_piece(copies)[1].data_ptr() == other.data_ptr()


def test_which_memory_is_one_piece():
    """Only where each weight stands at its place, in memory that holds all of them; else they are copied there."""
    weights = [draw(4, 3), draw(4, 4), draw(4), draw(4)]
    cudnn = private.CuDNN(0, 4, 1, False, places=(0, 12, 28, 32), size=36)

    def at(places, size, offset=0):
        memory = torch.zeros(size, dtype=torch.float64)
        views = [memory[offset + place :][: w.numel()].view(w.shape) for place, w in zip(places, weights, strict=False)]
        return [view.copy_(w) for view, w in zip(views, weights, strict=False)]

    for given, is_one in [
        (at(cudnn.places, 36), True),
        (at(cudnn.places, 50), True),
        (at(cudnn.places, 50, offset=7), False),
        (at((0, 12, 32, 28), 36), False),
        (at((0, 13, 29, 33), 37), False),
        ([*at(cudnn.places, 36)[:3], weights[3]], False),
        ([weights[0].t().contiguous().t(), *at(cudnn.places, 36)[1:]], False),
        (weights, False),
    ]:
        found, piece = cudnn.in_one_piece(given)
        assert (piece.data_ptr() == given[0].data_ptr()) == is_one
        assert torch.equal(piece, torch.cat([w.flatten() for w in weights]))
        assert all(torch.equal(a, b) for a, b in zip(found, weights, strict=True))
    # cuDNN reads biases that a layer has not: what lies behind its matrices may be another layer's.
    given = at((0, 12), 36)
    given[0].untyped_storage().fill_(1)
    _, piece = cudnn._replace(places=(0, 12)).in_one_piece(given)
    assert piece.data_ptr() != given[0].data_ptr()
    assert torch.equal(piece, torch.cat([*(w.flatten() for w in given[:2]), torch.zeros(8)]))


# In a graph


STACKS = {"one layer": {}, "two layers, both ways": {"num_layers": 2, "bidirectional": True}}
each_stack = pytest.mark.parametrize("stack", STACKS)


@each_device
@each_kind
@each_stack
@pytest.mark.parametrize("packed", [False, True])
def test_second_derivatives(kind, stack, packed, device):
    """By way of `reference`, with respect to everything: on the same device, and that in float64."""
    runs = 4 if STACKS[stack] else 1

    def second(engine):
        layer, _ = pair(kind, 2, 3, device=device, dtype=torch.float64, engine=engine, **STACKS[stack])
        x = draw(6, 5, 2, device=device).requires_grad_()
        hx = hidden(kind, runs, 5, 3, device=device)
        inputs = [x, *flat(hx), *layer.parameters()]
        returned = flat(layer(pack(x) if packed else x, hx))
        cotangents = [draw(*y.shape, seed=7 + i, device=device).requires_grad_() for i, y in enumerate(returned)]
        first = torch.autograd.grad(returned, inputs, cotangents, create_graph=True)
        total = sum((d * draw(*d.shape, seed=9 + i, device=device)).sum() for i, d in enumerate(first))
        return first, torch.autograd.grad(total, [*inputs, *cotangents])

    assert distance(second("vendor"), second("reference")) <= GRADIENT_BOUND


@each_device
@each_kind
@each_stack
def test_what_is_handed_out_can_be_changed_in_place(kind, stack, device):
    """Outputs and final states, before the backward pass, whose gradients are those of copies."""
    found = []
    for changed in (lambda y: y.mul_(2), lambda y: y.clone().mul_(2)):
        layer, _ = pair(kind, 3, 4, device=device, **STACKS[stack])
        returned = flat(layer(draw(5, 2, 3, device=device, dtype=torch.float32)))
        total = sum(changed(y).square().sum() for y in returned)
        found.append(torch.autograd.grad(total, list(layer.parameters())))
    assert distance(*found) <= FEW_UNITS * torch.finfo(torch.float32).eps


@each_device
@each_kind
def test_two_calls_whose_states_and_weights_depend_on_the_input(kind, device):
    """In float32, in which the CPU's LSTM is oneDNN's."""

    def gradients(engine):
        layer, _ = pair(kind, 3, 3, device=device, engine=engine)
        x = draw(5, 2, 3, device=device, dtype=torch.float32).requires_grad_()
        weights = {name: p * (1 + x.mean()) for name, p in layer.named_parameters()}
        state = x.mean(0, keepdim=True)
        output, hx = layer(x, (state, state) if kind == "LSTM" else state)
        output, hx = torch.func.functional_call(layer, weights, (output, hx))
        output.mul_(2)[1].neg_()
        loss = output.square().sum() + sum(h.sum() for h in flat(hx)[-1:])
        return torch.autograd.grad(loss, [x, *layer.parameters()])

    assert distance(gradients("vendor"), gradients("reference")) <= (5e-6 if device == "cpu" else 2e-2)


@each_device
@each_dtype
@each_kind
def test_a_graph_can_be_walked_again_or_not(kind, dtype, device):
    layer, _ = pair(kind, 3, 4, device=device, dtype=dtype)
    output, _ = layer(draw(5, 2, 3, device=device, dtype=dtype))
    parameters = list(layer.parameters())
    first = torch.autograd.grad(output.sum(), parameters, retain_graph=True)
    again = torch.autograd.grad(output.sum(), parameters)
    assert distance(first, again) <= FEW_UNITS * torch.finfo(dtype).eps
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output.sum(), parameters)


@each_device
@each_dtype
@each_kind
@pytest.mark.parametrize("what", ["input", "state", "weight"])
def test_what_is_changed_in_place_before_the_backward_pass(kind, what, dtype, device):
    """The usual error, and not gradients of other numbers; what a caller is given can be changed."""
    layer, _ = pair(kind, 3, 4, device=device, dtype=dtype)
    x, hx = draw(5, 2, 3, device=device, dtype=dtype), hidden(kind, 1, 2, 4, device=device, dtype=dtype)
    output, final = layer(x, hx)
    output.mul_(2)
    flat(final)[0].mul_(2)
    with torch.no_grad():
        {"input": x, "state": flat(hx)[0], "weight": layer.weight_hh_l0}[what].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@each_device
@each_kind
def test_a_history_that_is_changed_in_place(kind, device):
    """The driver's own returns, which the backward pass may need."""
    layer, _ = pair(kind, 3, 4, device=device)
    x = draw(5, 2, 3, device=device, dtype=torch.float32)
    state = tuple(flat(hidden(kind, 2, 4, device=device, dtype=torch.float32)))
    (history,), _ = unroll.unroll("vendor", layer.recurrence(), layer.packed(), x, state)
    history.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        history.sum().backward()


@each_device
@each_kind
def test_only_what_is_asked_for(kind, device):
    """A frozen layer, an input without a gradient, one gradient out of all."""
    results = []
    for engine in ("vendor", "reference"):
        layer, _ = pair(kind, 3, 4, device=device, engine=engine)
        x = draw(5, 2, 3, device=device, dtype=torch.float32)
        only = torch.autograd.grad(layer(x)[0].sum(), layer.bias_hh_l0)
        y = x.clone().requires_grad_()
        one = torch.autograd.grad(layer(y)[0].sum(), layer.weight_ih_l0)
        layer.requires_grad_(False)
        assert not layer(x)[0].requires_grad
        frozen = torch.autograd.grad(layer(y)[0].sum(), y)
        results.append([*only, *one, *frozen])
    assert distance(*results) <= (2e-6 if device == "cpu" else 5e-3)


@each_device
@each_kind
def test_batched_gradients_and_transforms_go_to_the_reference(kind, device):
    layer, _ = pair(kind, 3, 4, device=device, dtype=torch.float64)
    x = draw(3, 2, 3, device=device)
    found = torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum((0, 1)), x, vectorize=True)
    expected = torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum((0, 1)), x)
    assert distance(found, expected) <= GRADIENT_BOUND
    gradient = torch.func.grad(lambda x: layer(x)[0].sum())(x)
    assert distance(gradient, expected.sum(0)) <= GRADIENT_BOUND


@each_device
@each_dtype
@each_kind
@pytest.mark.parametrize("how", ["hooks", "save on the CPU", "checkpoint", "checkpoint by a second call"])
def test_what_is_saved_can_be_kept_elsewhere_or_computed_anew(kind, how, dtype, device):
    layer, _ = pair(kind, 3, 4, device=device, dtype=dtype)
    x = draw(5, 2, 3, device=device, dtype=dtype).requires_grad_()
    expected = torch.autograd.grad(layer(x)[0].sum(), [x, *layer.parameters()])
    if how.startswith("checkpoint"):
        output, _ = checkpoint(layer, x, use_reentrant=how != "checkpoint")
    else:
        elsewhere = {
            "hooks": torch.autograd.graph.saved_tensors_hooks(lambda t: t.cpu().clone(), lambda t: t.to(device)),
            "save on the CPU": torch.autograd.graph.save_on_cpu(),
        }
        with elsewhere[how]:
            output, _ = layer(x)
    output.sum().backward()
    found = [x.grad, *(p.grad for p in layer.parameters())]
    assert distance(found, expected) <= FEW_UNITS * torch.finfo(dtype).eps


@each_device
@each_kind
def test_nothing_is_left_behind(kind, device):
    """The graph within goes with the backward pass, though the output stays, and with the output where there is none."""
    layer, _ = pair(kind, 3, 4, device=device)
    seen = []
    cudnn = vendor._cudnn_takes(layer.weight_ih_l0)
    keeping = "_forward_by_cudnn" if cudnn else "record"
    keep = getattr(vendor, keeping)

    def watched(*arguments):
        kept = keep(*arguments)
        seen.append([weakref.ref(tensor) for tensor in (kept[-1] if cudnn else kept)])
        return kept

    gc.collect()
    gc.disable()
    try:
        setattr(vendor, keeping, watched)
        output, _ = layer(draw(5, 2, 3, device=device, dtype=torch.float32))
        assert all(tensor() is not None for tensor in seen[0])
        output.sum().backward()
        unused, _ = layer(draw(5, 2, 3, device=device, dtype=torch.float32))
        del unused, _
    finally:
        setattr(vendor, keeping, keep)
        gc.enable()
    assert len(seen) == 2
    assert all(tensor() is None for saved in seen for tensor in saved)


@a_gpu
@each_kind
def test_memory_on_a_gpu_does_not_grow(kind):
    layer, builtin = pair(kind, 64, 128, device="cuda")
    x = torch.randn(100, 32, 64, device="cuda", requires_grad=True)
    peaks = []
    for each in (layer, builtin):
        for _ in range(3):
            each(x)[0].sum().backward()
        torch.cuda.synchronize()
        start = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(5):
            each(x)[0].sum().backward()
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() == start
        peaks.append(torch.cuda.max_memory_allocated() - start)
    # The output's copy, which may be changed in place, with its gradient; and at most a copy of the weights.
    assert peaks[0] <= peaks[1] + 2 * 100 * 32 * 128 * 4 + sum(p.nbytes for p in layer.parameters()), peaks


def test_it_keeps_what_nn_keeps():
    """By what autograd is given to keep, a byte each once: nn's, and a copy of the output that may be changed in place."""
    for kind in KINDS:
        kept = []
        layer, builtin = pair(kind, 3, 32)
        x = draw(50, 8, 3, dtype=torch.float32)
        for each in (layer, builtin):
            places = {}

            def pack(tensor, places=places):
                places[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                output, _ = each(x)
            kept.append(sum(places.values()))
        assert kept[0] <= kept[1] + output.nbytes + sum(p.nbytes for p in layer.parameters()), (kind, kept)


@each_kind
def test_a_frozen_layer_asks_cudnn_for_no_gradients_of_weights(kind, monkeypatch):
    monkeypatch.setattr(vendor, "_cudnn_takes", lambda x: True)
    monkeypatch.setattr(private, "cudnn", imitation)
    asked, backward = [], Imitation.backward
    monkeypatch.setattr(Imitation, "backward", lambda *given: asked.append(given[-1]) or backward(*given))
    layer, _ = pair(kind, 3, 4)
    for needed in (True, False):
        layer.requires_grad_(needed)
        layer(draw(5, 2, 3, dtype=torch.float32).requires_grad_())[0].sum().backward()
    assert asked == [True, False]


class Nothing(torch.autograd.Function):
    """From whose gradient nothing comes."""

    @staticmethod
    def forward(ctx, y):
        return y.clone()

    @staticmethod
    def backward(ctx, d):
        return None


@each_device
@each_kind
@each_stack
def test_no_gradient_comes_of_none(kind, stack, device):
    layer, _ = pair(kind, 3, 4, device=device, dropout=0.5 if stack != "one layer" else 0, **STACKS[stack])
    output, _ = layer(draw(5, 2, 3, device=device, dtype=torch.float32))
    Nothing.apply(output).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())


@each_device
@each_kind
@each_stack
def test_weights_of_a_class_of_ones_own(kind, stack, device):
    """A layer that computes its weights, for each layer and direction, in `packed`."""
    layer, _ = pair(kind, 3, 4, device=device, **STACKS[stack])

    class Halved(type(layer)):
        def packed(self, suffix="_l0", dtype=None):
            return [w / 2 for w in super().packed(suffix, dtype)]

    halved = Halved(3, 4, engine="vendor", device=device, **KINDS[kind][2], **STACKS[stack])
    halved.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for weight in layer.parameters():
            weight.div_(2)
        x = draw(5, 2, 3, device=device, dtype=torch.float32)
        assert torch.equal(halved(x)[0], layer(x)[0])


# torch.compile


@each_device
@each_dtype
@each_kind
def test_compiled(kind, dtype, device):
    """As one operation each way, which makes its graph again in the backward pass."""
    layer, _ = pair(kind, 3, 4, device=device, dtype=dtype)
    x = draw(6, 5, 3, device=device, dtype=dtype).requires_grad_()
    hx = hidden(kind, 1, 5, 4, device=device, dtype=dtype)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")

    def call(x, hx):
        return compiled(x, hx)

    call.parameters = layer.parameters
    expected = differentiate(layer, x, hx)
    found = differentiate(call, x, hx)
    unit = torch.finfo(dtype).eps if device == "cpu" or dtype is torch.float64 else 1e-4
    for place in (0, 1):
        assert distance(found[place], expected[place]) <= 4 * FEW_UNITS * unit
    with torch.no_grad():
        assert distance(compiled(x.detach(), hx), expected[0]) <= 4 * FEW_UNITS * unit


@each_device
@each_dtype
@each_kind
def test_the_operation_on_packed_sequences(kind, dtype, device):
    layer, _ = pair(kind, 3, 4, device=device, dtype=dtype)
    recurrence, packed = layer.recurrence(), pack(draw(6, 5, 3, device=device, dtype=dtype))
    names = " ".join(f.__name__ for f in recurrence.activations)
    results = []
    for operation in (True, False):
        x = packed.data.detach().requires_grad_()
        state = tuple(h.detach().requires_grad_() for h in flat(hidden(kind, 5, 4, device=device, dtype=dtype)))
        weights = [w.detach().requires_grad_() for w in layer.packed()]
        if operation:
            signature = ("vendor", recurrence.cell.name, names, False, False, True)
            given = (x, list(state), weights, [], packed.batch_sizes)
            returned = torch.ops.rnn_torch.unroll(*signature, *given)
            returned = [y for y in returned if y.numel()]  # there is no c_t but the last
        else:
            history, final = unroll.unroll("reference", recurrence, weights, x, state, packed.batch_sizes)
            returned = [*history, *final]
        cotangents = [draw(*y.shape, seed=40 + i).to(y) for i, y in enumerate(returned)]
        results.append((returned, torch.autograd.grad(returned, [x, *state, *weights], cotangents)))
    assert distance(*results) <= (20 * torch.finfo(dtype).eps if device == "cpu" or dtype is torch.float64 else 5e-3)


@each_device
def test_compiled_it_is_left_where_every_c_t_is_asked_for(device):
    layer = rnn_torch.LSTM(3, 4, return_all_states=True, engine="vendor", device=device)
    x = draw(5, 2, 3, device=device, dtype=torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected = rnn_torch.LSTM(3, 4, return_all_states=True, engine="reference", device=device)
    expected.load_state_dict(layer.state_dict())
    assert distance(compiled(x), expected(x)) <= (1e-6 if device == "cpu" else 5e-3)
