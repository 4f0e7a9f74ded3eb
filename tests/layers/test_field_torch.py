"""What users ask of rnn_torch beyond one call of whole tensors, each kind as a table over layers, cells and engines.

Tracing, scripting, fx and ONNX; autocast and long sums in low precision; complex numbers; batched and sparse gradients; what
watches operations; outputs changed in place; compiled loops; packed data and the default device; reparametrised weights;
messages. What is expected is what `nn`'s layer gives.
"""

import io
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.flop_counter import FlopCounterMode

import rnn_torch
from rnn_common.cells import IN_BOTH
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation

FEATURES, UNITS = 3, 4
LAYERS = {name: getattr(nn, "RNN" if name == "SimpleRNN" else name) for name in IN_BOTH}
CELLS = {f"{name}Cell": getattr(nn, f"{layer.__name__}Cell") for name, layer in LAYERS.items()}
STACKS = {
    "one layer": {},
    "relu": {"nonlinearity": "relu"},
    "both directions": {"bidirectional": True, "num_layers": 2},
    "no bias": {"bias": False, "batch_first": True},
    "projection": {"proj_size": 2},
}
TWIN = "torch"
each_name = pytest.mark.parametrize("name", LAYERS)
each_cell = pytest.mark.parametrize("name", CELLS)
each_stack = pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, id=f"{name}, {label}")
        for name in LAYERS
        for label, options in STACKS.items()
        if ("nonlinearity" not in options or name == "SimpleRNN") and ("proj_size" not in options or name == "LSTM")
    ],
)


def pair(name, engine="auto", dtype=torch.float64, **options):
    """`nn`'s layer or cell and ours with the same parameters."""
    torch.manual_seed(0)
    builtin = {**LAYERS, **CELLS}[name](FEATURES, UNITS, dtype=dtype, **options)
    options |= {} if name.endswith("Cell") else {"engine": engine}
    ours = getattr(rnn_torch, name)(FEATURES, UNITS, dtype=dtype, **options)
    ours.load_state_dict(builtin.state_dict())
    return builtin, ours


def draw(*shape, dtype=torch.float64, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def flat(returned):
    """The tensors in what a layer returns."""
    return [returned] if isinstance(returned, torch.Tensor) else [tensor for each in returned for tensor in flat(each)]


def assert_close(found, expected, bound=OUTPUT_BOUND):
    found, expected = flat(found), flat(expected)
    assert [a.shape for a in found] == [b.shape for b in expected]
    for a, b in zip(found, expected, strict=True):
        assert deviation(a.detach().numpy(), b.detach().numpy()) <= bound


class Net(nn.Module):
    """A network with the layer or cell inside."""

    def __init__(self, inner):
        super().__init__()
        self.embed, self.inner = nn.Linear(FEATURES, FEATURES, dtype=torch.float64), inner

    def forward(self, x):
        return self.inner(self.embed(x))


# Tracing, scripting, fx and ONNX


@each_stack
def test_a_traced_layer_serves_every_length_and_batch(name, options):
    _, layer = pair(name, **options)
    traced = torch.jit.trace(layer, draw(5, 2, FEATURES))
    for shape in ((9, 2, FEATURES), (5, 7, FEATURES), (1, 1, FEATURES)):
        assert_close(traced(draw(*shape)), layer(draw(*shape)))


@each_name
def test_a_traced_layer_takes_states_and_packed_input(name):
    class Run(nn.Module):
        def __init__(self):
            super().__init__()
            _, self.layer = pair(name)

        def forward(self, x, lengths, *state):
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            output, final = self.layer(packed, state if len(state) == 2 else state[0])
            return output.data, final

    run = Run()
    states = 2 if name == "LSTM" else 1
    arguments = draw(5, 2, FEATURES), torch.tensor([3, 5]), *(draw(1, 2, UNITS, seed=s) for s in range(states))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # packing itself warns that it is traced
        traced = torch.jit.trace(run, arguments, check_trace=False)
    others = draw(6, 2, FEATURES), torch.tensor([6, 2]), *(draw(1, 2, UNITS, seed=5 + s) for s in range(states))
    assert_close(traced(*others), run(*others))


@each_cell
def test_a_traced_or_exported_cell_serves_every_batch(name):
    _, cell = pair(name)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(cell, (draw(2, FEATURES),), dynamic_shapes=({0: batch},)).module()
    for each in (torch.jit.trace(cell, draw(2, FEATURES)), exported):
        assert_close(each(draw(7, FEATURES)), cell(draw(7, FEATURES)))


@each_stack
def test_onnx_by_tracing(name, options):
    """Another length and another batch than those of the export, by ONNX Runtime."""
    if "proj_size" in options:
        pytest.skip("PyTorch's export by tracing has no projection, of nn's layers either, and says so")
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    _, layer = pair(name, dtype=torch.float32, **options)
    layer.eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            layer,
            (draw(5, 2, FEATURES, dtype=torch.float32),),
            file,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "a", 1: "b"}, "y": {0: "a", 1: "b"}},
        )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    x = draw(8, 3, FEATURES, dtype=torch.float32)
    (found,) = session.run(["y"], {"x": x.numpy()})
    assert deviation(found, layer(x)[0].detach().numpy()) <= 1e-5  # float32, both


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_scripted_inside_a_module(name):
    _, layer = pair(name)
    x = draw(5, FEATURES) if name.endswith("Cell") else draw(5, 2, FEATURES)
    net = Net(layer)
    expected = net(x)
    assert_close(torch.jit.script(net)(x), expected)


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_fx_sees_one_call(name):
    _, layer = pair(name)
    net = Net(layer)
    traced = torch.fx.symbolic_trace(net)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["embed", "inner"]
    x = draw(5, FEATURES) if name.endswith("Cell") else draw(9, 2, FEATURES)
    assert_close(traced(x), net(x))


REFUSED = {
    "reset_after=False": ("GRU", {"reset_after": False}),
    "return_all_states": ("LSTM", {"return_all_states": True}),
    "recurrent_dropout": ("SimpleRNN", {"recurrent_dropout": 0.5}),
}


WRITERS = {
    "trace": torch.jit.trace,
    "script": lambda layer, x: torch.jit.script(Net(layer)),
    "onnx": lambda layer, x: torch.onnx.export(
        layer, (x,), io.BytesIO(), dynamo=False, training=torch.onnx.TrainingMode.PRESERVE
    ),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("option", REFUSED)
def test_what_nn_lacks_is_refused_in_words(option, write):
    name, options = REFUSED[option]
    layer = getattr(rnn_torch, name)(FEATURES, UNITS, **options)
    x = torch.zeros(5, 2, FEATURES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match=f"no {option}.*torch.export"):
            WRITERS[write](layer, x)


def test_a_cell_that_cannot_be_scripted_says_so():
    with pytest.raises(RuntimeError, match="no reset_after=False"):
        torch.jit.script(rnn_torch.GRUCell(FEATURES, UNITS, reset_after=False))


def test_recurrent_dropout_is_none_in_inference_and_so_traced():
    layer = rnn_torch.LSTM(FEATURES, UNITS, recurrent_dropout=0.5, dtype=torch.float64).eval()
    assert_close(torch.jit.trace(layer, draw(5, 2, FEATURES))(draw(7, 2, FEATURES)), layer(draw(7, 2, FEATURES)))


@each_name
def test_it_is_recognised(name):
    builtin, layer = pair(name)
    assert isinstance(layer, nn.RNNBase)
    assert (layer.mode, layer.proj_size) == (builtin.mode, builtin.proj_size)


@each_cell
def test_a_cell_is_recognised(name):
    assert isinstance(pair(name)[1], nn.RNNCellBase)


# Types of numbers


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_autocast_leaves_float64_alone(name, engine):
    builtin, layer = pair(name, engine)
    x = draw(5, FEATURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = flat(layer(x)), flat(builtin(x))
    assert {each.dtype for each in [*found, *expected]} == {torch.float64}
    assert_close(found, expected)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
@each_name
def test_input_that_is_no_floating_point_is_refused(name, dtype, autocast):
    x = torch.ones(5, 2, FEATURES).to(dtype)
    for layer in pair(name, dtype=torch.float32):
        with torch.autocast("cpu", enabled=autocast), pytest.raises((ValueError, RuntimeError), match="dtype"):
            layer(x)


@each_name
@pytest.mark.parametrize("options", [{}, {"recurrent_dropout": 1e-9}], ids=["plain", "recurrent_dropout"])
def test_gradients_of_1000_steps_in_bfloat16(name, engine, options):
    """Beside those of float32: a sum over steps that is itself kept in bfloat16 is off by a fifth and more."""
    layer = getattr(rnn_torch, name)(8, 16, engine=engine, **options)
    torch.manual_seed(0)
    for weight in layer.parameters():
        nn.init.uniform_(weight, -0.25, 0.25)
    x = draw(1000, 16, 8, dtype=torch.float32)
    found = []
    for enabled in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            outputs = layer(x)[0]
        found.append(torch.autograd.grad(outputs.float().sum(), list(layer.parameters())))
    for low, full in zip(*found, strict=True):
        assert float((low - full).norm() / full.norm()) < 0.03  # eight bits: 0.004 a rounding


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", LAYERS)
def test_complex_numbers(name, dtype):
    """By way of `reference`, whose gradients are PyTorch's own; those of the input beside finite differences too."""
    torch.manual_seed(0)
    layers = [getattr(rnn_torch, name)(FEATURES, UNITS, dtype=dtype, engine=e) for e in ("fused", "reference")]
    layers[0].load_state_dict(layers[1].state_dict())
    x = torch.complex(draw(4, 2, FEATURES), draw(4, 2, FEATURES, seed=2)).to(dtype).requires_grad_()
    gradients = [
        torch.autograd.grad(layer(x)[0].abs().square().sum(), [x, *layer.parameters()], retain_graph=True)
        for layer in layers
    ]
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
    if dtype == torch.complex128:
        assert torch.autograd.gradcheck(lambda x: layers[0](x)[0], x)


# Other ways to ask for gradients


@each_name
@pytest.mark.parametrize("reset_after", [True, False])
def test_batched_gradients(name, engine, reset_after):
    if name != "GRU" and not reset_after:
        pytest.skip("a cell of the GRU")
    options = {} if reset_after else {"reset_after": False}
    layer = getattr(rnn_torch, name)(FEATURES, UNITS, dtype=torch.float64, engine=engine, **options)
    x = draw(3, 2, FEATURES)

    def run(x):
        return layer(x)[0]

    assert_close(
        torch.autograd.functional.jacobian(run, x, vectorize=True),
        torch.autograd.functional.jacobian(run, x),
        GRADIENT_BOUND,
    )
    assert torch.autograd.gradcheck(run, x.requires_grad_(), check_batched_grad=True)
    assert_close(
        torch.autograd.functional.hessian(lambda x: run(x).square().sum(), x, vectorize=True),
        torch.autograd.functional.hessian(lambda x: run(x).square().sum(), x),
        10 * GRADIENT_BOUND,
    )


@each_name
def test_make_fx_and_flops_see_every_operation(name):
    _, layer = pair(name, "fused")
    x = draw(4, 2, FEATURES)

    def gradients(x, *weights):
        names = [key for key, _ in layer.named_parameters()]
        outputs = torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), x)[0]
        return torch.autograd.grad(outputs.square().sum(), weights)

    weights = [weight.detach().requires_grad_() for weight in layer.parameters()]
    traced = torch.fx.experimental.proxy_tensor.make_fx(gradients)(x, *weights)
    assert_close(traced(x + 1, *weights), gradients(x + 1, *weights), GRADIENT_BOUND)

    counts = []
    for each in (layer, pair(name, "reference")[1]):
        with FlopCounterMode(display=False) as counter:
            each(x)[0].sum().backward()
        counts.append(counter.get_total_flops())
    gates = 1 if name == "SimpleRNN" else 4 if name == "LSTM" else 3
    forward = 2 * 4 * 2 * gates * UNITS * (FEATURES + UNITS)
    assert counts[0] == counts[1]
    assert 2 * forward < counts[0] <= 3 * forward  # no gradient of the input


@each_name
def test_flops_of_a_backward_pass_alone(name):
    """A network that ran before it was watched."""
    _, layer = pair(name, "fused")
    total = layer(draw(4, 2, FEATURES))[0].sum()
    with FlopCounterMode(display=False) as counter:
        total.backward()
    assert counter.get_total_flops() > 0


@pytest.mark.parametrize("read", ["outputs", "final state"])
@each_name
def test_sparse_gradients(name, read):
    """The kernels take them; `nn`'s layer, to whose operations they are strange on a processor, is asked for plain ones."""
    builtin, layer = pair(name, "fused")
    x = draw(4, 2, FEATURES)

    def total(each):
        returned = flat(each(x))[-1 if read == "final state" else 0]
        index = torch.tensor([1, 1, 0])[None, :, None].expand(len(returned), 3, UNITS)
        return returned.gather(1, index, sparse_grad=each is layer).square().sum()

    found, expected = (torch.autograd.grad(total(each), list(each.parameters())) for each in (layer, builtin))
    assert_close(found, expected, GRADIENT_BOUND)


def test_a_unit_that_is_off_lets_no_infinite_gradient_through(engine):
    _, layer = pair("SimpleRNN", engine, nonlinearity="relu")
    for weight in layer.parameters():
        nn.init.constant_(weight, -1.0)
    x = draw(4, 2, FEATURES).abs().requires_grad_()
    outputs = layer(x)[0]
    (d_x,) = torch.autograd.grad(outputs, x, torch.full_like(outputs, torch.inf))
    assert torch.equal(d_x, torch.zeros_like(x))


# Outputs changed in place


@pytest.mark.parametrize(("engine", "compiled"), [("reference", False), ("fused", False), ("fused", True)])
@each_stack
def test_outputs_changed_in_place(name, options, engine, compiled):
    """As `torch.nn.RNN` and `GRU` allow it: what comes back is the caller's."""
    builtin, layer = pair(name, engine, **options)
    x = draw(4, 2, FEATURES)

    def run(layer, in_place):
        outputs = layer(x)[0]
        if in_place:
            outputs.mul_(3).add_(1)
            outputs[1] = 0
            return outputs.square().sum()
        outputs = outputs * 3 + 1
        return torch.cat([outputs[:1], torch.zeros_like(outputs[1:2]), outputs[2:]]).square().sum()

    expected = torch.autograd.grad(run(builtin, False), list(builtin.parameters()))
    if compiled:
        torch._dynamo.reset()
        run = torch.compile(run, backend="aot_eager", fullgraph=True)
    assert_close(torch.autograd.grad(run(layer, True), list(layer.parameters())), expected, GRADIENT_BOUND)


# Packed data, devices, weights that are computed


@each_name
def test_packed_input_with_another_default_device(name, engine):
    _, layer = pair(name, engine)
    packed = pack_padded_sequence(draw(5, 2, FEATURES), [3, 5], enforce_sorted=False)
    with torch.device("meta"):
        found = layer(packed)
    assert_close([found[0].data, *flat(found[1:])], [layer(packed)[0].data, *flat(layer(packed)[1:])])


def reparametrised(base, how):
    if how == "its own parameter":

        class Own(base):
            def __init__(self):
                super().__init__(FEATURES, UNITS)
                self.gain_l0 = nn.Parameter(torch.ones(1))

        return Own()
    layer = base(FEATURES, UNITS)
    if how == "pruned":
        prune.l1_unstructured(layer, "weight_hh_l0", amount=0.5)
    else:
        parametrizations.weight_norm(layer, "weight_hh_l0")
    return layer


@pytest.mark.parametrize("how", ["pruned", "weight_norm", "its own parameter"])
@each_name
def test_all_weights_are_those_in_force(name, how):
    torch.manual_seed(0)
    layer = reparametrised(getattr(rnn_torch, name), how)
    (found,) = layer.all_weights
    expected = [getattr(layer, key + "_l0") for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert len(found) == 4
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@each_name
def test_tensors_on_different_devices_are_named(name):
    _, layer = pair(name, dtype=torch.float32)
    x = torch.zeros(5, 2, FEATURES)
    with pytest.raises(RuntimeError, match=r"not at the same device, found input tensor at meta.* parameter .* cpu"):
        layer(x.to("meta"))
    h = torch.zeros(1, 2, UNITS, device="meta")
    with pytest.raises(RuntimeError, match=r"not at the same device, found input tensor at cpu.* hidden .* meta"):
        layer(x, (h, h) if name == "LSTM" else h)


def left_to_the_loop(name):
    """Options that the kernels do not take; what is dropped at rate 1 is everything, whatever the random numbers."""
    return [{"recurrent_dropout": 1.0}, *([{"proj_size": 2}] if name == "LSTM" else [])]


@each_name
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_of_a_compiled_loop(name, packed):
    """Beside those without a compiler, of the input as well and not."""
    for options in left_to_the_loop(name):
        torch.manual_seed(0)
        layer = getattr(rnn_torch, name)(FEATURES, UNITS, dtype=torch.float64, **options)

        def run(x, layer=layer):
            output, final = layer(pack_padded_sequence(x, [5, 3]) if packed else x)
            return sum(each.square().sum() for each in flat([output.data if packed else output, final]))

        torch._dynamo.reset()
        compiled = torch.compile(run, backend="aot_eager")
        weights = list(layer.parameters())
        for x in (draw(5, 2, FEATURES), draw(5, 2, FEATURES).requires_grad_()):
            sources = [*weights, x] if x.requires_grad else weights
            found, expected = (torch.autograd.grad(each(x), sources) for each in (compiled, run))
            assert_close(found, expected, GRADIENT_BOUND)


@each_name
def test_one_graph_for_every_length(name):
    """Of what the kernels leave to the loop too."""
    for options in ({}, *left_to_the_loop(name)):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        call = torch.compile(getattr(rnn_torch, name)(FEATURES, UNITS, **options), backend="aot_eager")
        for time in (4, 5, 6, 7):
            call(torch.zeros(time, 2, FEATURES))[0].sum().backward()
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2, options
