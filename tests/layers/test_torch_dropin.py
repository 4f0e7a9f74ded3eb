"""rnn_torch in the place of `torch.nn`'s recurrent layers and cells: what users of `nn` do with them, compared with `nn`."""

import copy
import functools
import inspect
import itertools
import pickle
from contextlib import nullcontext

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import multiprocessing, nn
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import rnn_torch
from rnn_common import equations
from rnn_common.cells import IN_BOTH
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_torch.twin import read
from tests.cases import inductors_compiler

LAYERS = {name: getattr(nn, "RNN" if name == "SimpleRNN" else name) for name in IN_BOTH}
CELLS = {f"{name}Cell": getattr(nn, f"{layer.__name__}Cell") for name, layer in LAYERS.items()}

each_layer = pytest.mark.parametrize("name", LAYERS)
each_cell = pytest.mark.parametrize("name", CELLS)
each_engine = pytest.mark.parametrize("engine", ["auto", *rnn_torch.ENGINES])


def flat(nested):
    """Every tensor of a result, in order."""
    if isinstance(nested, PackedSequence):
        return [nested.data]
    if isinstance(nested, torch.Tensor):
        return [nested]
    return [tensor for part in nested for tensor in flat(part)]


def assert_close(found, expected, bound):
    found, expected = flat(found), flat(expected)
    assert [t.shape for t in found] == [t.shape for t in expected]
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    for a, b in zip(found, expected, strict=True):
        assert deviation(a.detach().numpy(), b.detach().numpy()) <= bound


def pair(name, *args, **options):
    """Our layer or cell and nn's, made from the same seed in float64."""
    made = []
    for cls in (getattr(rnn_torch, name), (LAYERS | CELLS)[name]):
        torch.manual_seed(0)
        made.append(cls(*args, dtype=torch.float64, **options))
    return made


def draw(*shape, seed=1, **options):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed), **options)


def compare(ours, theirs, *inputs):
    """Same outputs, in the same types, and same gradients of inputs and parameters."""
    results = []
    for module in (ours, theirs):
        leaves = [leaf.detach().requires_grad_() for leaf in flat(inputs) if leaf.is_floating_point()]
        supply = iter(leaves)

        def rebuild(nested, supply=supply):
            if isinstance(nested, PackedSequence):
                return nested._replace(data=next(supply))
            return next(supply) if isinstance(nested, torch.Tensor) else tuple(rebuild(part) for part in nested)

        torch.manual_seed(2)
        outputs = module(*(rebuild(each) for each in inputs))
        torch.manual_seed(3)
        cotangents = [torch.randn_like(output) for output in flat(outputs)]
        gradients = torch.autograd.grad(flat(outputs), [*leaves, *module.parameters()], cotangents)
        results.append((outputs, gradients))
    (found, found_gradients), (expected, expected_gradients) = results
    assert type(found[0]) is type(expected[0])
    assert_close(found, expected, OUTPUT_BOUND)
    assert_close(found_gradients, expected_gradients, GRADIENT_BOUND)
    return found, expected


# The signature


def combinations(name):
    for layers, bias, batch_first, bidirectional in itertools.product((1, 2), *[(True, False)] * 3):
        options = dict(num_layers=layers, bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        yield options
        if layers > 1:
            yield options | {"dropout": 0.4}
        if name == "LSTM":
            yield options | {"proj_size": 2}
        if name == "SimpleRNN":
            yield options | {"nonlinearity": "relu"}


@each_layer
@pytest.mark.parametrize("form", ["batched", "unbatched", "packed", "packed sorted"])
@pytest.mark.parametrize("given", [False, True], ids=["zero state", "hx"])
def test_every_combination_of_options(name, form, given):
    """Parameters from the same seed, outputs, states and gradients, with the same dropout masks in training."""
    for options in combinations(name):
        ours, theirs = pair(name, 3, 4, **options)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
        x = draw(5, 2, 3) if not options["batch_first"] else draw(2, 5, 3)
        batch = (2,)
        if form == "unbatched":
            x, batch = draw(5, 3), ()
        elif form.startswith("packed"):
            lengths = [5, 3] if "sorted" in form else [3, 5]
            x = pack_padded_sequence(x, lengths, options["batch_first"], enforce_sorted="sorted" in form)
        runs = options["num_layers"] * (1 + options["bidirectional"])
        states = [draw(runs, *batch, options.get("proj_size", 4), seed=5), draw(runs, *batch, 4, seed=6)]
        hx = tuple(states) if name == "LSTM" else states[0]
        found, expected = compare(ours, theirs, x, *([hx] if given else []))
        if form.startswith("packed"):
            for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
                a, b = getattr(found[0], field), getattr(expected[0], field)
                assert (a is None and b is None) or torch.equal(a, b)


@each_layer
def test_signature(name):
    """nn's documented arguments come first, in its order; what nn lacks is keyword-only."""
    documented = [
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
        "device",
        "dtype",
    ]
    if name != "LSTM":
        documented.remove("proj_size")
    if name == "SimpleRNN":
        documented.insert(3, "nonlinearity")
    parameters = list(inspect.signature(getattr(rnn_torch, name)).parameters.values())
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == documented


@each_layer
def test_positional_arguments(name):
    middle = {"SimpleRNN": ["relu"]}.get(name, [])
    arguments = [3, 4, 2, *middle, False, True, 0.0, True]
    ours, theirs = getattr(rnn_torch, name)(*arguments).double(), LAYERS[name](*arguments).double()
    ours.load_state_dict(theirs.state_dict())
    compare(ours, theirs, draw(2, 5, 3))


@each_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batched", "unbatched"])
@pytest.mark.parametrize("given", [False, True], ids=["zero state", "hx"])
def test_cells(name, bias, batch, given):
    ours, theirs = pair(name, 3, 4, bias)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    h, c = draw(*batch, 4, seed=5), draw(*batch, 4, seed=6)
    state = [((h, c) if name == "LSTMCell" else h)] if given else []
    compare(ours, theirs, draw(*batch, 3), *state)


def test_relu_cell():
    ours, theirs = pair("SimpleRNNCell", 3, 4, nonlinearity="relu")
    compare(ours, theirs, draw(2, 3))
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: sin"):
        rnn_torch.SimpleRNNCell(3, 4, nonlinearity="sin")(torch.zeros(2, 3))


@each_layer
def test_the_representation_names_what_is_not_default(name):
    layer = getattr(rnn_torch, name)(3, 4, num_layers=2, bias=False, dropout=0.5)
    assert repr(layer) == f"{name}(3, 4, num_layers=2, bias=False, dropout=0.5)"
    theirs = LAYERS[name](3, 4, num_layers=2, bias=False, dropout=0.5)
    assert repr(theirs).partition("(")[2] == repr(layer).partition("(")[2]


@each_layer
def test_all_weights(name):
    ours, theirs = pair(name, 3, 4, num_layers=2, bidirectional=True)
    assert [[p.shape for p in each] for each in ours.all_weights] == [
        [p.shape for p in each] for each in theirs.all_weights
    ]
    assert sum(map(len, ours.all_weights)) == len(list(ours.parameters()))
    assert ours.flatten_parameters() is None


# Bad input


BAD_CALLS = {
    "width": lambda m, h: m(torch.zeros(5, 2, 4)),
    "rank": lambda m, h: m(torch.zeros(1, 5, 2, 3)),
    "dtype": lambda m, h: m(torch.zeros(5, 2, 3).half()),
    "no steps": lambda m, h: m(torch.zeros(0, 2, 3)),
    "state of another batch": lambda m, h: m(torch.zeros(5, 2, 3), h(1, 3, 4)),
    "state of another width": lambda m, h: m(torch.zeros(5, 2, 3), h(1, 2, 5)),
    "state of another number of layers": lambda m, h: m(torch.zeros(5, 2, 3), h(2, 2, 4)),
    "batched state, unbatched input": lambda m, h: m(torch.zeros(5, 3), h(1, 2, 4)),
    "unbatched state, batched input": lambda m, h: m(torch.zeros(5, 2, 3), h(1, 4)),
    "packed, state of another batch": lambda m, h: m(pack_sequence([torch.zeros(2, 3)] * 2), h(1, 3, 4)),
    "packed, dtype": lambda m, h: m(pack_sequence([torch.zeros(2, 3).double()])),
}


@each_layer
@pytest.mark.parametrize("what", BAD_CALLS)
def test_bad_calls_raise_what_nn_raises(name, what):
    def state(*shape):
        return (torch.zeros(shape), torch.zeros(shape)) if name == "LSTM" else torch.zeros(shape)

    ours, theirs = getattr(rnn_torch, name)(3, 4), LAYERS[name](3, 4)
    if name == "LSTM" and what.startswith("packed"):  # nn.LSTM forgets these checks; its own for tensors is what fits
        expected_error = {"packed, dtype": ValueError, "packed, state of another batch": RuntimeError}[what]
        with pytest.raises(expected_error, match=r"does not match weight dtype|Expected hidden\[0\] size \(1, 2, 4\)"):
            BAD_CALLS[what](ours, state)
        return
    with pytest.raises(Exception) as expected:  # noqa: PT011
        BAD_CALLS[what](theirs, state)
    with pytest.raises(type(expected.value)) as found:
        BAD_CALLS[what](ours, state)
    assert str(found.value) == str(expected.value)


@each_layer
def test_a_state_of_another_dtype(name):
    """nn's message comes from the depths ("mat1 and mat2 must have the same dtype"); ours names the argument."""
    state = torch.zeros(1, 2, 4).double()
    with pytest.raises(RuntimeError, match=r"Expected hidden.* of dtype torch.float32, got torch.float64"):
        getattr(rnn_torch, name)(3, 4)(torch.zeros(5, 2, 3), (state, state) if name == "LSTM" else state)


@each_cell
@pytest.mark.parametrize(
    ("x", "h"),
    [((2, 5), (2, 4)), ((2, 3), (2, 5)), ((2, 3), (3, 4)), ((2, 3), (4,)), ((1, 2, 3), (2, 4)), ((2, 3), (1, 2, 4))],
)
def test_bad_calls_of_cells_raise_what_nn_raises(name, x, h):
    def call(cell):
        state = torch.zeros(h)
        cell(torch.zeros(x), (state, state) if name == "LSTMCell" else state)

    with pytest.raises(Exception) as expected:  # noqa: PT011
        call(CELLS[name](3, 4))
    with pytest.raises(type(expected.value)) as found:
        call(getattr(rnn_torch, name)(3, 4))
    assert str(found.value).replace("SimpleRNN", "RNN") == str(expected.value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rnn_torch.SimpleRNN(3, 4, nonlinearity="sin"), ValueError, "Unknown nonlinearity 'sin'"),
        (lambda: rnn_torch.GRU(3, 4, proj_size=2), ValueError, "proj_size argument is only supported for LSTM"),
        (lambda: rnn_torch.LSTM(3, 4, proj_size=4), ValueError, "proj_size has to be smaller than hidden_size"),
        (lambda: rnn_torch.LSTM(3, 4, proj_size=-1), ValueError, "proj_size should be a positive integer or zero"),
        (lambda: rnn_torch.LSTM(3, 4, dropout=1.5), ValueError, r"dropout should be a number in range \[0, 1\]"),
        (lambda: rnn_torch.LSTM(3, 4, dropout=True), ValueError, r"dropout should be a number in range \[0, 1\]"),
        (lambda: rnn_torch.LSTM(3, 4, recurrent_dropout=-1), ValueError, "recurrent_dropout should be a number"),
        (lambda: rnn_torch.LSTM(3, 4, engine="warp"), ValueError, "engine should be one of auto, .*got 'warp'"),
        (lambda: rnn_torch.LSTM(3, 4, speed=1), TypeError, "unexpected keyword argument 'speed'"),
    ],
)
def test_bad_options(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_dropout_with_one_layer_warns():
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last recurrent layer"):
        rnn_torch.LSTM(3, 4, dropout=0.5)


# torch.compile and torch.export


@each_layer
def test_compile_without_a_graph_break(name):
    ours, _ = pair(name, 3, 4, num_layers=2, bidirectional=True)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    x = draw(5, 2, 3)
    assert_close(compiled(x), ours(x), OUTPUT_BOUND)
    flat(compiled(x))[0].sum().backward()
    found = [p.grad.clone() for p in ours.parameters()]
    ours.zero_grad()
    flat(ours(x))[0].sum().backward()
    assert_close(found, [p.grad for p in ours.parameters()], GRADIENT_BOUND)


@pytest.mark.skipif(not inductors_compiler(), reason="the compiler that torch.compile calls is not installed")
def test_compile_with_inductor():
    ours, _ = pair("GRU", 3, 4)
    x = draw(3, 2, 3)
    assert_close(torch.compile(ours, fullgraph=True)(x), ours(x), OUTPUT_BOUND)


@each_layer
def test_compile_recompiles_no_more_than_a_plain_loop(name):
    from torch._dynamo.testing import CompileCounter

    def loop(x):
        h = x.new_zeros(2, 3)
        for t in range(len(x)):
            h = torch.tanh(x[t] + h)
        return h

    def count(function):
        torch._dynamo.reset()
        counter = CompileCounter()
        compiled = torch.compile(function, fullgraph=True, backend=counter)
        for time in (4, 5, 6, 4, 5, 6):
            compiled(draw(time, 2, 3))
        return counter.frame_count

    ours, _ = pair(name, 3, 4)
    assert count(ours) <= count(loop)


@each_layer
def test_export_with_a_dynamic_batch(name):
    ours, _ = pair(name, 3, 4, num_layers=2, batch_first=True)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(ours, (draw(3, 5, 3),), dynamic_shapes=({0: batch},))
    for size in (2, 7):
        x = draw(size, 5, 3)
        assert_close(program.module()(x), ours(x), OUTPUT_BOUND)


# torch.func


def loss(module, parameters, x):
    return sum((t**2).sum() for t in flat(functional_call(module, parameters, (x,))))


@each_layer
def test_functional_call_and_grad(name):
    ours, theirs = pair(name, 3, 4)
    parameters, x = dict(ours.named_parameters()), draw(5, 2, 3)
    doubled = {key: 2 * value.detach() for key, value in parameters.items()}
    theirs.load_state_dict(doubled)
    assert_close(functional_call(ours, doubled, (x,)), theirs(x), OUTPUT_BOUND)
    found = grad(functools.partial(loss, ours))(doubled, x)
    sum((t**2).sum() for t in flat(theirs(x))).backward()
    assert_close(
        [found[key] for key, _ in theirs.named_parameters()], [p.grad for p in theirs.parameters()], GRADIENT_BOUND
    )


@each_layer
def test_per_sample_gradients(name):
    ours, _ = pair(name, 3, 4)
    parameters, x = {k: v.detach() for k, v in ours.named_parameters()}, draw(6, 5, 3)
    found = vmap(grad(functools.partial(loss, ours)), in_dims=(None, 0))(parameters, x)
    for i, sequence in enumerate(x):
        expected = grad(functools.partial(loss, ours))(parameters, sequence)
        assert_close([found[key][i] for key in parameters], [expected[key] for key in parameters], GRADIENT_BOUND)


@each_layer
def test_forward_mode(name):
    """The directional derivative from forward mode is the one from reverse mode."""
    ours, theirs = pair(name, 3, 4)
    x, direction = draw(5, 2, 3), draw(5, 2, 3, seed=9)
    _, tangent = jvp(lambda x: ours(x)[0], (x,), (direction,))
    cotangent = draw(5, 2, 4, seed=10)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(theirs(leaf)[0], leaf, cotangent)
    assert (tangent * cotangent).sum().item() == pytest.approx((gradient * direction).sum().item(), rel=1e-12)


@each_layer
def test_jacobian(name):
    ours, theirs = pair(name, 3, 4)
    x = draw(3, 1, 3)
    expected = torch.autograd.functional.jacobian(lambda x: theirs(x)[0], x)
    assert_close(jacrev(lambda x: ours(x)[0])(x), expected, GRADIENT_BOUND)


# Second derivatives


@each_layer
@pytest.mark.parametrize("form", ["plain", "packed", "bidirectional"])
def test_double_backward(name, engine, form):
    """By finite differences, which cannot see rounding, and to rounding against nn."""
    options = {"bidirectional": form == "bidirectional"}
    torch.manual_seed(0)
    ours = getattr(rnn_torch, name)(2, 3, dtype=torch.float64, engine=engine, **options)
    theirs = LAYERS[name](2, 3, dtype=torch.float64, **options)
    theirs.load_state_dict(ours.state_dict())
    names = [key for key, _ in ours.named_parameters()]

    def run(module, x, *parameters):
        packed = pack_padded_sequence(x, [2, 3], enforce_sorted=False) if form == "packed" else x
        return tuple(flat(functional_call(module, dict(zip(names, parameters, strict=True)), (packed,))))

    inputs = [t.detach().clone().requires_grad_() for t in (draw(3, 2, 2), *ours.parameters())]
    assert torch.autograd.gradgradcheck(functools.partial(run, ours), inputs)

    def second(module):
        outputs = run(module, *inputs)
        first = torch.autograd.grad(outputs, inputs, [draw(*t.shape, seed=4) for t in outputs], create_graph=True)
        return torch.autograd.grad(first, inputs, [draw(*t.shape, seed=5) for t in first])

    assert_close(second(ours), second(theirs), GRADIENT_BOUND)


# Precision, memory, serialisation


@each_layer
def test_autocast(name):
    """The output is of the lower precision and as far from the float32 result as that precision allows."""
    torch.manual_seed(0)
    layer = getattr(rnn_torch, name)(3, 4)
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    assert {t.dtype for t in flat(low)} == {torch.bfloat16}
    for a, b in zip(flat(low), flat(layer(x)), strict=True):
        # Each of 5 steps rounds a handful of numbers of order one to 8 bits.
        assert (a.float() - b).abs().max() <= 5 * 5 * 2**-8
    sum(t.float().sum() for t in flat(low)).backward()
    assert {p.grad.dtype for p in layer.parameters()} == {torch.float32}


@each_cell
def test_autocast_of_cells(name):
    cell = getattr(rnn_torch, name)(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert {t.dtype for t in flat([cell(torch.randn(2, 3))])} == {torch.bfloat16}


@pytest.mark.gpu
@each_layer
def test_autocast_on_a_gpu(name):
    layer = getattr(rnn_torch, name)(3, 4, device="cuda")
    with torch.autocast("cuda"):
        assert {t.dtype for t in flat(layer(torch.randn(5, 2, 3, device="cuda")))} == {torch.float16}


@each_layer
def test_checkpoint(name):
    ours, theirs = pair(name, 3, 4, num_layers=2, dropout=0.3)
    compare(lambda_module(ours, lambda x: checkpoint(ours, x, use_reentrant=False)), theirs, draw(5, 2, 3))


def lambda_module(module, call):
    """A callable with a module's parameters."""

    class Called:
        parameters = module.parameters

        def __call__(self, *inputs):
            return call(*inputs)

    return Called()


@each_layer
def test_copies(name, tmp_path):
    ours, _ = pair(name, 3, 4, num_layers=2, bidirectional=True)
    x = draw(5, 2, 3)
    path = tmp_path / "weights.pt"
    torch.save(ours.state_dict(), path)
    fresh = getattr(rnn_torch, name)(3, 4, num_layers=2, bidirectional=True, dtype=torch.float64)
    fresh.load_state_dict(torch.load(path, weights_only=True))
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), fresh):
        assert all(torch.equal(a, b) for a, b in zip(flat(other(x)), flat(ours(x)), strict=True))
        assert other.weight_ih_l0 is not ours.weight_ih_l0


@each_layer
def test_devices_and_dtypes(name):
    with torch.device("meta"):
        layer = getattr(rnn_torch, name)(3, 4)
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert getattr(rnn_torch, name)(3, 4, device="meta")(torch.zeros(5, 2, 3, device="meta"))[0].shape == (5, 2, 4)
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.zeros(5, 2, 3))[0].dtype == torch.float32
    assert layer.to(torch.bfloat16)(torch.zeros(5, 2, 3, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    assert layer.double()(draw(5, 2, 3))[0].dtype == torch.float64


def gradients_of_all(x, wrap):
    """Gradients of each layer's parameters for a mean square over the batch."""
    found = {}
    for name in LAYERS:
        torch.manual_seed(0)
        layer = getattr(rnn_torch, name)(3, 4, batch_first=True, dtype=torch.float64)
        wrapped = wrap(layer)  # kept until the backward pass is through: DistributedDataParallel listens to it
        wrapped(x)[0].pow(2).mean().backward()
        found[name] = [p.grad for p in layer.parameters()]
    return found


def one_of_two_processes(rank, store, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = gradients_of_all(draw(4, 5, 3)[2 * rank : 2 * rank + 2], nn.parallel.DistributedDataParallel)
    if rank == 0:
        torch.save(found, results)
    torch.distributed.barrier()  # neither leaves while the other still talks to it
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel(tmp_path, monkeypatch):
    """Two processes with half of the batch each find the gradients that one finds with the whole."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    results = tmp_path / "gradients.pt"
    multiprocessing.spawn(one_of_two_processes, (str(tmp_path / "store"), str(results)), nprocs=2)
    found, expected = torch.load(results, weights_only=True), gradients_of_all(draw(4, 5, 3), lambda layer: layer)
    for name in LAYERS:
        assert_close(found[name], expected[name], GRADIENT_BOUND)


# What nn lacks


@each_layer
def test_what_nn_itself_cannot(name):
    """For comparison: nn's layers refuse a full graph, nn.RNN and GRU fail under vmap, nn.GRU ignores a CPU's autocast."""
    theirs = LAYERS[name](3, 4)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(theirs, fullgraph=True, backend="eager")(torch.zeros(5, 2, 3))
    parameters = {k: v.detach() for k, v in theirs.named_parameters()}
    if name != "LSTM":
        with pytest.raises(RuntimeError):
            vmap(grad(functools.partial(loss, theirs)), in_dims=(None, 0))(parameters, torch.zeros(6, 5, 3))
    if name == "GRU":
        with torch.autocast("cpu", torch.bfloat16):
            assert theirs(torch.zeros(5, 2, 3))[0].dtype == torch.float32


@pytest.mark.parametrize("bias", [True, False])
def test_the_third_form_of_the_gru(bias):
    """`reset_after=False` against the oracle, layer and cell; both biases of every gate are added."""
    torch.manual_seed(0)
    layer = rnn_torch.GRU(3, 4, bias=bias, batch_first=True, dtype=torch.float64, reset_after=False)
    with pytest.warns(UserWarning, match="were added into one") if bias else nullcontext():
        parameters = read(layer)
    assert parameters.cell.name == "GRU v3"
    x = draw(2, 5, 3)
    expected = equations.unroll(parameters, x.numpy())
    assert deviation(layer(x)[0].detach().numpy(), expected.outputs) <= OUTPUT_BOUND
    cell = rnn_torch.GRUCell(3, 4, bias, dtype=torch.float64, reset_after=False)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
    h = None
    for t in range(5):
        h = cell(x[:, t], h)
        assert deviation(h.detach().numpy(), expected.outputs[:, t]) <= OUTPUT_BOUND
    assert "reset_after=False" in repr(layer)
    assert "reset_after=False" in repr(cell)


@each_layer
def test_recurrent_dropout_is_one_mask_a_gate_and_sequence(name):
    """By hand: the same draws, and h masked on its way into each gate, the same at every step."""
    torch.manual_seed(0)
    layer = getattr(rnn_torch, name)(3, 4, recurrent_dropout=0.5, dtype=torch.float64)
    x = draw(6, 2, 3)
    torch.manual_seed(7)
    found = layer(x)[0]
    torch.manual_seed(7)
    gates = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}[name]
    masks = [nn.functional.dropout(torch.ones(2, 4, dtype=torch.float64), 0.5) for _ in range(gates)]
    assert all(set(mask.unique().tolist()) <= {0.0, 2.0} for mask in masks)
    # A sequence alone, its masks folded into the recurrent weights: W (m ⊙ h) = (W diag m) h.
    for b in range(2):
        plain = LAYERS[name](3, 4, dtype=torch.float64)
        plain.load_state_dict(layer.state_dict())
        with torch.no_grad():
            for block, mask in zip(plain.weight_hh_l0.chunk(gates), masks, strict=True):
                block *= mask[b]
        assert deviation(found[:, b].detach().numpy(), plain(x[:, b])[0].detach().numpy()) <= OUTPUT_BOUND
    layer.eval()
    expected = LAYERS[name](3, 4, dtype=torch.float64)
    expected.load_state_dict(layer.state_dict())
    assert_close(layer(x), expected(x), OUTPUT_BOUND)


@each_layer
@pytest.mark.parametrize("batch_first", [False, True])
def test_every_state_at_every_step(name, batch_first):
    ours, theirs = pair(name, 3, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
    ours.return_all_states = True
    x = draw(2, 5, 3) if batch_first else draw(5, 2, 3)
    output, hidden, states = ours(x)
    assert_close((output, hidden), theirs(x), OUTPUT_BOUND)
    finals = flat(hidden)
    for history, final in zip(flat([states]), finals, strict=True):
        assert history.shape == (4, 2, 5, 4) if batch_first else (4, 5, 2, 4)
        time_major = history.transpose(1, 2) if batch_first else history
        # Forward runs end at the last step, backward runs at the first.
        assert torch.equal(time_major[0::2, -1], final[0::2])
        assert torch.equal(time_major[1::2, 0], final[1::2])
    top = flat([states])[0]
    assert torch.equal(torch.cat([top[2], top[3]], -1), output)


def test_every_cell_state_of_an_lstm():
    """c_t for every t, which nn.LSTM does not give, against stepping with nn.LSTMCell; packed too."""
    layer = rnn_torch.LSTM(3, 4, dtype=torch.float64, return_all_states=True)
    cell = nn.LSTMCell(3, 4, dtype=torch.float64)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
    x = draw(5, 2, 3)
    expected, state = [], None
    for x_t in x:
        state = cell(x_t, state)
        expected.append(state[1])
    assert deviation(layer(x)[2][1][0].detach().numpy(), torch.stack(expected).detach().numpy()) <= OUTPUT_BOUND
    packed = pack_padded_sequence(x, [2, 5], enforce_sorted=False)
    output, (_, c_n), (_, c) = layer(packed)
    assert torch.equal(c[0, -1], c_n[0])
    assert deviation(c[0, :2, 0].detach().numpy(), torch.stack(expected)[:2, 0].detach().numpy()) <= OUTPUT_BOUND
    assert torch.equal(c[0, 1, 0], c[0, 4, 0])  # held once the sequence has ended
    assert pad_packed_sequence(output)[1].tolist() == [2, 5]


def test_numbers_of_one_sequence_do_not_depend_on_its_batch():
    layer, _ = pair("LSTM", 3, 4)
    x = draw(5, 3, 3)
    alone = np.stack([layer(x[:, b : b + 1])[0].detach().numpy()[:, 0] for b in range(3)], 1)
    assert deviation(layer(x)[0].detach().numpy(), alone) <= OUTPUT_BOUND
