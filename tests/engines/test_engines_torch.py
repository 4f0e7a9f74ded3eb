"""The engines in PyTorch that have a backward pass of their own: what they take and leave, parts, memory, every way of asking for
a derivative. Every test is run with each as the engine of its layers."""

import dataclasses
import gc
import subprocess
import sys
from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.flop_counter import FlopCounterMode

import rnn_torch
from rnn_common import twins
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.native import library
from rnn_common.parity.contract import FEW_UNITS, GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_torch import engines, unroll
from rnn_torch.cells import kernel
from rnn_torch.engines import reference
from tests.cases import build, check_against_oracle

each_layer = pytest.mark.parametrize("name", IN_BOTH)
ENGINE = ""


@pytest.fixture(params=[name for name, engine in rnn_torch.ENGINES.items() if engine.backward], autouse=True)
def fast(request, monkeypatch):
    """The engine that `layer_of` gives a layer; skipped where `reference` runs in its place."""
    if request.param == "native" and (why := library.absent()):
        pytest.skip(why)
    if request.param == "vendor" and "cell" in request.fixturenames and request.getfixturevalue("cell") == "GRU v3":
        pytest.skip("PyTorch has no such layer")
    monkeypatch.setitem(globals(), "ENGINE", request.param)
    return request.param


def draw(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer_of(cell, *sizes, **options):
    row = CELLS[cell]
    options = {"dtype": torch.float64, "engine": ENGINE, **options, **row.options}
    torch.manual_seed(0)
    return getattr(rnn_torch, row.layer_class)(*sizes, **options)


def flat(nested):
    return [nested] if isinstance(nested, torch.Tensor) else [t for part in nested for t in flat(part)]


def assert_close(found, expected, bound):
    for a, b in zip(flat(found), flat(expected), strict=True):
        assert a.shape == b.shape
        assert deviation(a.detach().numpy(), b.detach().numpy()) <= bound


def differentiate(layer, *inputs, chosen=lambda outputs: outputs, **options):
    """What a layer returns, and the gradients of some of it with respect to inputs and parameters."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    returned = flat(layer(leaves[0], tuple(leaves[1:]) if len(leaves) > 2 else (leaves[1:] or [None])[0]))
    some = [returned[i] for i in chosen(range(len(returned)))]
    cotangents = [draw(*each.shape, seed=7 + i) for i, each in enumerate(some)]
    return returned, torch.autograd.grad(some, [*leaves, *layer.parameters()], cotangents, allow_unused=True, **options)


def both_engines(cell, *inputs, sizes=(3, 4), chosen=lambda outputs: outputs, **options):
    results = []
    for engine in (ENGINE, "reference"):
        layer = layer_of(cell, *sizes, engine=engine, **options)
        results.append(differentiate(layer, *inputs, chosen=chosen))
    (found, gradients), (expected, expected_gradients) = results
    assert_close(found, expected, OUTPUT_BOUND)
    for a, b in zip(gradients, expected_gradients, strict=True):
        if a is None or b is None:  # nothing depends on it: one engine says zero, the other says so
            assert a is None or not a.any()
            assert b is None or not b.any()
        else:
            assert_close(a, b, GRADIENT_BOUND)


# Which cases it takes


def refused(
    name, change=lambda recurrence: recurrence, weights=lambda weights: weights, dtype=torch.float64, **options
):
    """Why the engine does not take a case of a layer, or None."""
    layer = getattr(rnn_torch, name)(3, 4, dtype=torch.float64, **options)
    state = (draw(2, 4).to(dtype),) * len(layer.cell.states)
    packed = weights(layer.packed(dtype=torch.float64))
    choice = unroll.explain(ENGINE, change(layer.recurrence()), packed, draw(5, 2, 3).to(dtype), state)
    assert choice.engine == ("reference" if choice.refused else ENGINE)
    return choice.refused.get(ENGINE)


def test_it_can_be_asked_for(fast):
    x = draw(5, 2, 3)
    assert layer_of("GRU", 3, 4).explain(x) == (fast, {})
    assert layer_of("GRU", 3, 4, engine="reference").explain(x) == ("reference", {})
    packed = torch.nn.utils.rnn.pack_sequence([draw(3, 3)])
    assert layer_of("LSTM", 3, 4, proj_size=2).explain(packed) == ("reference", {fast: "a projection"})


def test_the_default_is_the_fastest_that_there_is():
    chosen = layer_of("GRU", 3, 4, engine="auto").explain(draw(5, 2, 3))
    without = library.absent()
    assert chosen == (("fused", {"native": without}) if without else ("native", {}))
    lower = layer_of("GRU", 3, 4, engine="auto", dtype=torch.bfloat16).explain(draw(5, 2, 3, dtype=torch.bfloat16))
    assert lower == ("fused", {"native": "numbers other than float32 and float64"})


@pytest.mark.parametrize(("name", "expected"), [("SimpleRNN", "fused"), ("LSTM", "vendor"), ("GRU", "fused")])
def test_the_default_without_compiled_kernels(name, expected, monkeypatch):
    monkeypatch.setattr(library, "absent", lambda: "no compiler")
    layer = layer_of(name, 3, 4, engine="auto")
    assert layer.explain(draw(5, 2, 3)) == (expected, {"native": "no compiler"})


def test_what_every_engine_is_asked_for_has_an_answer():
    """Whatever the device: the last that is asked takes every case."""
    for device in ("cuda", "cpu", "meta", "mps"):
        for name in CELLS:
            asked = engines.order(device, name)
            assert asked[-1] == "reference"
            assert len(set(asked)) == len(asked)
            assert set(asked) <= set(rnn_torch.ENGINES)


@each_layer
def test_what_it_takes(name):
    assert refused(name) is None
    assert refused(name, bias=False) is None


def test_what_it_leaves_to_the_reference():
    assert "projection" in refused("LSTM", proj_size=2)
    assert refused("SimpleRNN", nonlinearity="relu") is None
    for name in IN_BOTH:
        sines = lambda r: dataclasses.replace(r, activations=(torch.sin, *r.activations[1:]))  # noqa: E731
        assert "activations" in refused(name, sines)
        assert "dropout" in refused(name, lambda r: dataclasses.replace(r, masks={"W_hh": torch.ones(2, 4)}))
        assert refused(name, dtype=torch.complex128)
        with FlopCounterMode(display=False):
            assert "watches operations" in refused(name)
        own = refused(name, weights=lambda weights: [TwoTensor(weights[0], weights[0]), *weights[1:]])
        assert "a class with operations of its own" in own
    assert "activations" in refused("GRU", lambda r: dataclasses.replace(r, activations=(torch.tanh, torch.tanh)))
    layer = layer_of("LSTM", 3, 4, recurrent_dropout=0.5)
    assert "dropout" in layer.explain(draw(5, 2, 3)).refused[ENGINE]
    state = torch.get_rng_state()
    assert "dropout" in layer.explain(draw(5, 2, 3)).refused[ENGINE]
    assert torch.equal(torch.get_rng_state(), state)  # a question changes no answer
    assert layer.eval().explain(draw(5, 2, 3)).engine == ENGINE


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: torch.func.vmap(f),
        lambda f: torch.func.grad(lambda x: f(x).sum()),
        lambda f: lambda x: torch.func.jvp(f, (x,), (x,))[1],
    ],
    ids=["vmap", "grad", "jvp"],
)
def test_transforms_go_to_the_reference(transform, monkeypatch):
    seen = []
    forward = reference.forward
    monkeypatch.setattr(reference, "forward", lambda *a, **o: seen.append(1) or forward(*a, **o))
    layer = layer_of("LSTM", 3, 4)
    transform(lambda x: layer(x)[0])(draw(6, 5, 3))
    assert seen


def test_what_it_leaves_is_run_all_the_same():
    for options in ({"proj_size": 2}, {"recurrent_dropout": 0.5}):
        results = []
        for engine in (ENGINE, "reference"):
            layer = layer_of("LSTM", 3, 4, engine=engine, **options)
            torch.manual_seed(3)
            results.append(layer(draw(5, 2, 3)))
        assert all(torch.equal(a, b) for a, b in zip(*map(flat, results), strict=True))


# Parts, layouts, sizes


@pytest.mark.parametrize("rows", [1, 6, 7, 10**6])
def test_the_parts_of_a_sequence_do_not_show(cell, rows, monkeypatch):
    """A step at a time, parts of several steps with a shorter last one, everything at once."""
    monkeypatch.setattr(kernel, "ROWS", rows)
    monkeypatch.setattr(kernel, "CACHED", 0)
    state = [draw(1, 3, 4, seed=5), draw(1, 3, 4, seed=6)][: 2 if cell == "LSTM" else 1]
    both_engines(cell, draw(11, 3, 3), *state)
    layer = layer_of(cell, 3, 4)
    x = draw(11, 3, 3)
    with torch.no_grad():
        inferred = layer(x)
    assert_close(inferred, layer(x), OUTPUT_BOUND)


@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("hidden", [5, 33])
def test_every_memory_layout(cell, batch, hidden):
    """Below, at and above the batch from which features are stored first, and with a batch above the width."""
    row = CELLS[cell]
    check_against_oracle(twins.get("torch"), build(row, batch, 6, 3, hidden, None), ENGINE)


@pytest.mark.parametrize(
    "options", [{}, {"batch_first": True}, {"bidirectional": True, "num_layers": 2}, {"bias": False}]
)
def test_options_of_the_layer(cell, options):
    both_engines(cell, draw(5, 2, 3), **options)


def test_relu():
    both_engines("SimpleRNN", draw(5, 2, 3), nonlinearity="relu")


def test_memory_that_is_not_contiguous(cell):
    """Inputs that are views, and cotangents that are."""
    layer = layer_of(cell, 3, 4)
    x = draw(3, 2, 5).permute(2, 1, 0)
    output, _ = layer(x)
    output.sum().backward()  # an expanded cotangent
    found = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    output, _ = layer(x.contiguous())
    output.backward(torch.ones(2, 4, 5, dtype=torch.float64).permute(2, 0, 1))
    assert_close(found, [p.grad for p in layer.parameters()], GRADIENT_BOUND)


def test_an_empty_batch(cell):
    output, final = layer_of(cell, 3, 4)(draw(5, 0, 3))
    assert output.shape == (5, 0, 4)
    assert flat(final)[0].shape == (1, 0, 4)


# Padding


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("all_states", [False, True])
def test_lengths(cell, bidirectional, all_states):
    results = []
    for engine in (ENGINE, "reference"):
        layer = layer_of(cell, 3, 4, engine=engine, bidirectional=bidirectional, return_all_states=all_states)
        x = draw(6, 4, 3).requires_grad_()
        packed = pack_padded_sequence(x, [6, 1, 3, 6], enforce_sorted=False)
        output, *rest = layer(packed)
        returned = flat([output.data, *rest])
        cotangents = [draw(*each.shape, seed=i) for i, each in enumerate(returned)]
        results.append((returned, torch.autograd.grad(returned, [x, *layer.parameters()], cotangents)))
    (found, gradients), (expected, expected_gradients) = results
    assert_close(found, expected, OUTPUT_BOUND)
    assert_close(gradients, expected_gradients, GRADIENT_BOUND)


# How many steps each sequence of a batch has.
LENGTHS = {
    "all": [5, 5, 5],
    "one": [4],
    "one step": [1, 1],
    "falling": [6, 5, 4, 3, 2, 1],
    "one long": [9, 1, 1, 1],
    "runs": [7, 7, 4, 4, 4, 2],
}


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 10**6])
def test_packed_sequences_are_each_run_alone(cell, lengths, reverse, rows, monkeypatch):
    """What comes of a packed batch, and its gradients, against one sequence after the other; in parts of any size."""
    monkeypatch.setattr(kernel, "ROWS", rows)
    monkeypatch.setattr(kernel, "CACHED", 0)
    layer = layer_of(cell, 3, 4)
    sequences = [draw(length, 3, seed=i).requires_grad_() for i, length in enumerate(LENGTHS[lengths])]
    state = tuple(draw(len(sequences), 4, seed=20 + i).requires_grad_() for i in range(2 if cell == "LSTM" else 1))
    wanted = [*sequences, *state, *layer.parameters()]
    results = []
    for engine in rnn_torch.ENGINES:
        x, batch_sizes, _, _ = nn.utils.rnn.pack_sequence(sequences)
        case = (layer.recurrence(), layer.packed())
        run = partial(unroll.unroll, unroll.explain(engine, *case, x, state, True).engine, *case)
        history, final = run(x, state, batch_sizes, reverse, True)
        steps = [nn.utils.rnn.unpack_sequence(PackedSequence(h, batch_sizes)) for h in history]
        results.append([*flat(steps), *final])
    alone = [run(x[:, None], tuple(h[i : i + 1] for h in state), None, reverse, True) for i, x in enumerate(sequences)]
    histories, finals = zip(*alone, strict=True)
    expected = [h.squeeze(1) for each in zip(*histories, strict=True) for h in each]
    expected += [torch.cat(each) for each in zip(*finals, strict=True)]
    cotangents = [draw(*each.shape, seed=50 + i) for i, each in enumerate(expected)]
    gradients = torch.autograd.grad(expected, wanted, cotangents)
    for found in results:
        assert_close(found, expected, OUTPUT_BOUND)
        assert_close(torch.autograd.grad(found, wanted, cotangents), gradients, GRADIENT_BOUND)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_follows_a_sequence_that_is_not_finite(cell, bad):
    """It ended early: the others' numbers, and the gradients of a loss of theirs, are finite, as in nn."""
    layer = layer_of(cell, 3, 4)
    sequences = [draw(5, 3), torch.full((2, 3), bad, dtype=torch.float64)]
    output, _ = layer(nn.utils.rnn.pack_sequence(sequences))
    longest = nn.utils.rnn.unpack_sequence(output)[0]
    longest[3:].sum().backward()
    with torch.no_grad():
        assert_close(longest, layer(sequences[0])[0], OUTPUT_BOUND)
    alone = layer_of(cell, 3, 4)
    alone(sequences[0])[0][3:].sum().backward()
    if cell == "GRU v3":  # which nn lacks
        return
    found, expected = [p.grad for p in layer.parameters()], [p.grad for p in alone.parameters()]
    theirs = {"SimpleRNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[cell](3, 4, dtype=torch.float64)
    theirs.load_state_dict(layer.state_dict())
    theirs_output, _ = theirs(nn.utils.rnn.pack_sequence(sequences))
    nn.utils.rnn.unpack_sequence(theirs_output)[0][3:].sum().backward()
    for ours, nns, right in zip(found, (p.grad for p in theirs.parameters()), expected, strict=True):
        assert torch.equal(ours.isfinite(), nns.isfinite())
        assert_close(ours[ours.isfinite()], right[ours.isfinite()], GRADIENT_BOUND)


# Derivatives


@pytest.mark.parametrize(
    "chosen",
    [lambda r: [0], lambda r: [len(r) - 1], lambda r: [1], lambda r: list(r)[1:]],
    ids=["outputs", "last state", "h_n", "all states"],
)
def test_a_loss_of_a_part_of_what_comes_back(cell, chosen):
    state = [draw(1, 2, 4, seed=5), draw(1, 2, 4, seed=6)][: 2 if cell == "LSTM" else 1]
    both_engines(cell, draw(5, 2, 3), *state, chosen=chosen)


def test_the_gradient_can_be_taken_again(cell):
    """`retain_graph`: the backward pass leaves what it works on as it was."""
    layer = layer_of(cell, 3, 4)
    output, _ = layer(draw(5, 2, 3))
    first = torch.autograd.grad(output.sum(), layer.parameters(), retain_graph=True)
    again = torch.autograd.grad(output.sum(), layer.parameters())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_gradients_that_nobody_asks_for(cell):
    layer = layer_of(cell, 3, 4).requires_grad_(False)
    x = draw(5, 2, 3).requires_grad_()
    layer(x)[0].sum().backward()
    assert all(p.grad is None for p in layer.parameters())
    expected = layer_of(cell, 3, 4, engine="reference")
    y = x.detach().clone().requires_grad_()
    expected(y)[0].sum().backward()
    assert_close(x.grad, y.grad, GRADIENT_BOUND)


def test_changing_an_input_is_noticed(cell):
    """The inputs are kept for the backward pass: PyTorch refuses rather than give a wrong gradient."""
    x = draw(5, 2, 3)
    output, _ = layer_of(cell, 3, 4)(x)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_third_derivatives(cell):
    """Of a scalar function of the input, along a line, by both engines."""

    def derivatives(engine):
        layer = layer_of(cell, 2, 3, engine=engine)
        s = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        value = (layer(s * draw(3, 2, 2))[0] * draw(3, 2, 3, seed=4)).sum()
        found = []
        for _ in range(3):
            (value,) = torch.autograd.grad(value, s, create_graph=True)
            found.append(value.item())
        return found

    assert derivatives(ENGINE) == pytest.approx(derivatives("reference"), rel=1e-12)


def test_second_derivatives_of_everything(cell):
    """With respect to inputs, states, parameters and the cotangent itself."""

    def second(engine):
        layer = layer_of(cell, 2, 3, engine=engine)
        states = [draw(1, 2, 3, seed=5), draw(1, 2, 3, seed=6)][: 2 if cell == "LSTM" else 1]
        leaves = [t.requires_grad_() for t in (draw(4, 2, 2), *states)]
        cotangent = draw(4, 2, 3, seed=7).requires_grad_()
        output, _ = layer(leaves[0], tuple(leaves[1:]) if len(leaves) > 2 else leaves[1])
        inputs = [*leaves, *layer.parameters()]
        first = torch.autograd.grad(output, inputs, cotangent, create_graph=True)
        total = sum((d * draw(*d.shape, seed=9 + i)).sum() for i, d in enumerate(first))
        return torch.autograd.grad(total, [*inputs, cotangent])

    assert_close(second(ENGINE), second("reference"), GRADIENT_BOUND)


# Memory and precision


def test_it_keeps_what_the_backward_pass_needs_and_no_more(cell):
    """By what autograd is given to keep, in numbers a step and unit of the hidden state: gates and states, each once."""
    time, batch, hidden = 50, 8, 32
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    layer = layer_of(cell, 3, hidden)
    x = draw(time, batch, 3)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output, _ = layer(x)
    given = [x, *layer.parameters()]
    own = sum(size for pointer, size in kept.items() if pointer not in {t.untyped_storage().data_ptr() for t in given})
    blocks = {"SimpleRNN": 1, "LSTM": 6, "GRU": 5, "GRU v3": 4}[cell]
    if ENGINE != "vendor":  # of which see test_vendor_torch.py
        assert own == pytest.approx(blocks * time * batch * hidden, rel=0.05)
    assert output.shape == (time, batch, hidden)


def test_inference_keeps_nothing(cell):
    layer = layer_of(cell, 3, 4)
    with torch.no_grad():
        output, _ = layer(draw(5, 2, 3))
    assert output.grad_fn is None
    gc.collect()
    with torch.inference_mode():
        assert layer(draw(5, 2, 3))[0].is_inference()


@each_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("batch", [3, 32])
def test_low_precision(name, dtype, batch):
    """No less accurate than nn's layer: at most twice as far from the truth, and a few units in the last place."""
    if ENGINE == "vendor":
        pytest.skip("it takes no such numbers on the CPU")
    builtin = {"SimpleRNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[name]
    torch.manual_seed(0)
    truth, theirs, ours = builtin(8, 32).to(dtype), builtin(8, 32).to(dtype), layer_of(name, 8, 32).to(dtype)
    theirs.load_state_dict(truth.state_dict())
    ours.load_state_dict(truth.state_dict())
    truth.double()
    x = draw(20, batch, 8, dtype=dtype)
    outcomes = []
    for layer in (truth, theirs, ours):
        output, _ = layer(x.to(next(layer.parameters()).dtype))
        output.backward(draw(*output.shape, dtype=dtype).to(output.dtype))
        outcomes.append([output, *(p.grad for p in layer.parameters())])
    unit = torch.finfo(dtype).eps
    errors = [
        [deviation(a.detach().double().numpy(), b.detach().numpy()) for a, b in zip(each, outcomes[0], strict=True)]
        for each in outcomes[1:]
    ]
    assert max(errors[1]) <= 2 * max(errors[0]) + FEW_UNITS * unit


# torch.compile


def test_compiled_it_is_one_operation(cell):
    """Whatever the length, so that a graph does not grow with it; outputs and gradients stay the same."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    layer = layer_of(cell, 3, 4)
    compiled = torch.compile(layer, fullgraph=True, backend=backend, dynamic=True)
    for time in (5, 9, 40):
        compiled(draw(time, 2, 3))
    assert len(graphs) <= 2
    assert all(sum(node.target is torch.ops.rnn_torch.unroll for node in g.graph.nodes) == 1 for g in graphs)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found, gradients = differentiate(compiled, draw(6, 3, 3))
    expected, expected_gradients = differentiate(layer, draw(6, 3, 3))
    assert_close(found, expected, OUTPUT_BOUND)
    assert_close(gradients, expected_gradients, GRADIENT_BOUND)
    with torch.no_grad():
        assert_close(compiled(draw(6, 3, 3)), layer(draw(6, 3, 3)), OUTPUT_BOUND)


def test_the_first_call_of_a_process_can_be_compiled(fast):
    """Though what a cell's row computes once and for all has not been computed."""
    if fast != "fused":
        pytest.skip("the same for each")
    program = (
        "import torch, rnn_torch\n"
        "layer = rnn_torch.LSTM(3, 4, engine='fused')\n"
        "torch.compile(layer, fullgraph=True, backend='eager')(torch.ones(5, 2, 3))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize("batch", [2, 20])
@pytest.mark.parametrize("keep", [False, True])
def test_the_operation_is_well_formed(cell, batch, keep):
    """PyTorch's own check: schema, shapes and strides as promised, gradients as registered."""
    layer = layer_of(cell, 3, 24)
    recurrence = layer.recurrence()
    packed = [p.detach().requires_grad_(keep) for p in layer.packed()]
    state = [draw(batch, 24, seed=i) for i in range(2 if cell == "LSTM" else 1)]
    signature = (ENGINE, recurrence.cell.name, " ".join(recurrence.cell.activations), False, False, keep)
    checks = ["test_schema", "test_faketensor"] + (["test_autograd_registration"] if keep else [])
    packed_data = (draw(2 * batch - 1, 3), torch.tensor([batch, batch - 1]))  # of which every state is kept
    for x, batch_sizes in [(draw(5, batch, 3), None)] + [packed_data] * keep:
        arguments = (*signature, x, state, packed, [], batch_sizes)
        torch.library.opcheck(torch.ops.rnn_torch.unroll.default, arguments, test_utils=checks)


def test_exported_it_is_pytorchs_own_operations():
    """A program that runs where this package is not installed."""
    program = torch.export.export(layer_of("LSTM", 3, 4), (draw(3, 2, 3),))
    assert not [node for node in program.graph.nodes if "rnn_torch" in str(node.target)]
