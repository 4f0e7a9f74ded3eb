"""The two packages are twins: the same rooms, definitions and methods in the same order, but for reasons given here."""

import ast
import difflib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
TORCH, TF = SOURCE / "rnn_torch", SOURCE / "rnn_tf"

# Why a definition, its name in the class before it, stands in one twin alone. `*` at the end stands for any ending.
ONLY = {
    "PyTorch writes a program down in three ways, two of which would see a loop of one length": {
        "torch": [
            "as_builtin",
            "leaf",
            "refuse_for_torchscript",
            "*.__prepare_scriptable__",
            "Layer._traced",
            "Layer._refuse_what_nn_lacks",
        ],
    },
    "Under PyTorch's autocast a layer casts for itself; Keras's layers have a dtype policy": {
        "torch": ["autocast*", "no_autocast", "Dropped.to", "_rounded"],
        "tf": ["as_float", "as_real"],
    },
    "Keras broadcasts a batch of 1, and takes masks; PyTorch takes packed sequences, checks sizes, and has other errors": {
        "torch": [
            "states_of",
            "RNNCell._advance",
            "RNNCell._check",
            "Layer._check_*",
            "_check_device",
            "check_rate",
            "Layer._forward_packed",
            "_padded",
            "_packed",
            "Layer._initial",
            "Layer._returned",
            "_refuse_projection",
        ],
        "tf": ["as_state", "common_batch", "Layer._broadcast", "as_mask", "broadcast", "sizes"],
    },
    "nn.RNNBase and keras.layers.RNN ask different things of a layer": {
        "torch": [
            "*.forward",
            "*.extra_repr",
            "Layer._run*",
            "Layer._choose",
            "Layer._weights",
            "Layer._zeros",
            "_apart",
            "Layer._suffixes",
            "Layer._directions",
            "*._state_shapes",
            "Layer.output_size",
            "Layer.cell",
            "GRU.cell",
            "_stacked",
            "OwnLayer.flatten_parameters",
            "*._weight_names",
            "Layer.packed",
            "Layer.recurrence",
            "Layer._in_training",
            "_recurrent_masks",
            "RNNCell._packed",
            "*._activations",
        ],
        "tf": [
            "*.call",
            "*.build",
            "Layer.inner_loop",
            "*.compute_*",
            "*.get_config",
            "*.from_config",
            "delegated",
            "arguments",
            "own_equations",
            "OwnCell*",
            "RNNCell._add",
            "RNNCell._by_matrix",
            "RNNCell.packed",
            "RNNCell._variables",
            "RNNCell.drop_inputs",
            "RNNCell.dropped",
            "RNNCell.get_initial_state",
            "*._bias_initializer",
        ],
    },
    "PyTorch runs step by step, on memory that is laid out by hand; TensorFlow writes a graph, and lays out its memory itself": {
        "torch": [
            "Kernel._new_state",
            "Kernel.block",
            "Kernel.feature_major",
            "Kernel.new*",
            "Kernel.parts",
            "Kernel.project",
            "Kernel.recurrent",
            "Kernel.set_biases",
            "Kernel.views",
            "by_gate",
            "new_history",
        ],
        "tf": [
            "Kernel.gradients",
            "Kernel.weights",
            "before",
            "product",
            "scan",
            "sum_over_steps",
            "transposed_product",
            "Kernel.inputs",
        ],
    },
    "Each framework has its own ways to watch, transform and compile what a driver runs": {
        "torch": [
            "_",
            "_BackPropagation*",
            "Call*",
            "_Gradient*",
            "_Signature*",
            "_backward_op",
            "_cut_off",
            "_dense",
            "_differentiate_again",
            "_unroll_*",
            "_engine",
            "_run",
            "sizes_of",
            "_has_tangent",
            "_is_of_own_class",
            "transforms_are_active",
            "modes_are_active",
            "is_batched",
            "tangents_are_possible",
            "_reason",
            "run",
            "_setup_context",
            "_signature",
            "_watched",
            "_gradients_are_watched",
            "above_autograd",
            "graph_is_kept",
        ],
        "tf": [
            "Graph*",
            "graphs",
            "passes",
            "run",
            "differentiable",
            "in_xla",
            "is_being_saved",
            "over_valid",
            "take",
            "have_tangents",
            "a_tape_may_record",
            "in_xla",
            "moments",
        ],
    },
    "The kernels are called from Python in PyTorch's own threads, and by operations of TensorFlow's, which have gradients": {
        "torch": ["openmp", "new_gates", "_Given*", "backward"],
        "tf": ["_Call*", "_gradient_of_*", "_cotangents", "absent", "load", "compiled", "_build"],
    },
    "PyTorch's layers return their states, too, so that nn.Sequential runs none; Keras's are saved whole, and opened": {
        "torch": ["Chain*", "_in_front", "_put_back", "Table*", "Affine*", "Run*", "_turned", "_tensor"],
        "tf": ["_input", "_filled", "opened"],
    },
    "Keras has activations of every kind by name; nn's LSTM and GRU have one, and PyTorch's functions other slopes and rooms": {
        "torch": [
            "Gated*",
            "_activations",
            "_words",
            "function_of",
            "hard_sigmoid",
            "leaky_relu",
            "linear",
            "name_of",
            "others",
            "softplus",
        ],
    },
    "Keras's data have the batch first, an engine's the time": {"tf": ["swapped", "Engine.batch_major"]},
    "Keras's variables have no names that a network's weights could be found by; `fit` wants a model and a callback": {
        "torch": [
            "_layer",
            "_stacks",
            "_suffix",
            "_train_one_bias",
            "SGD*",
            "Trainer._trained",
            "Trainer.update",
        ],
        "tf": [
            "_call",
            "_parts",
            "bias_masks",
            "on",
            "one_bias",
            "signature",
            "stacks",
            "variables",
            "Adam*",
            "Record*",
            "Trainer._inputs",
            "Trainer.epoch",
            "Update*",
        ],
    },
    "PyTorch has layers for all devices, and a graph within a graph; TensorFlow an operation of cuDNN's, and Keras a switch": {
        "torch": [
            "backward",
            "record",
            "CuDNN*",
            "*_by_cudnn",
            "_of_cudnn",
            "_along_the_graph",
            "cudnn",
            "_cudnn_takes",
            "_as_stack",
            "_as_given",
            "_key",
            "Layer._is_one_call",
        ],
        "tf": ["layer_of", "cudnn", "pack", "gradients_by_fused", "Layer._wants_cudnn"],
    },
    "Weights are pruned and parametrized in PyTorch; a Keras layer is built, and has its cell": {
        "torch": ["_in_force", "_require_floats"],
        "tf": ["_build", "_built_with", "_cells", "_names", "_require_known", "_run", "_values"],
    },
    "PyTorch has no layer that runs a cell, and names all modules; Keras's are walked, and an activation may be one of them": {
        "torch": ["_parts", "_steps"],
        "tf": ["_activation", "_walk", "sublayers"],
    },
    "PyTorch's modules are heard by hooks, and a gradient stands at its weight; Keras's layers are heard by their call": {
        "torch": ["_as_run", "_unstacked", "_give"],
        "tf": ["_mask", "_of_dense", "_heard", "_given", "_named", "_variables"],
    },
}

# How alike each pair of files is at least: the share of words in common, in order. Layers, drivers and the base of the cells are
# where the frameworks ask for different things; the pages are where they do not, but for the memory that PyTorch's reuse.
ALIKE = {
    "__init__.py": 0.8,
    "cells/__init__.py": 0.9,
    "engines/__init__.py": 0.69,
}


# Rooms of one twin alone: in PyTorch memory is laid out by hand, and layers are stacked; TensorFlow calls no kernels but by
# operations of its own.
ALONE = {"cells/memory.py", "stack.py", "operation.py"}


def definitions(path):
    """Every function, class and method of a file by name, in order, with its parameters."""

    def walk(nodes, prefix=""):
        for node in nodes:
            if isinstance(node, ast.FunctionDef):
                given = node.args
                several = [each for each in (given.vararg, given.kwarg) if each]
                yield prefix + node.name, [each.arg for each in (*given.args, *given.kwonlyargs, *several)]
            elif isinstance(node, ast.ClassDef):
                yield prefix + node.name, None
                yield from walk(node.body, f"{prefix}{node.name}.")

    return dict(walk(ast.parse(path.read_text()).body))


def excused(name, twin):
    """Whether a definition has a reason to stand in one twin alone."""
    return any(matches(name, pattern) for each in ONLY.values() for pattern in each.get(twin, []))


def matches(name, pattern):
    if pattern.startswith("*"):
        return name.endswith(pattern[1:]) if not pattern.endswith("*") else pattern.strip("*") in name
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def rooms(package):
    return sorted(str(path.relative_to(package)) for path in package.rglob("*.py"))


def test_the_same_rooms():
    assert [room for room in rooms(TF) if room not in ALONE] == SHARED


SHARED = [room for room in rooms(TORCH) if room not in ALONE]


@pytest.mark.parametrize("room", SHARED)
def test_the_same_definitions_in_the_same_order(room):
    torch, tf = definitions(TORCH / room), definitions(TF / room)
    assert [name for name in torch if name not in tf and not excused(name, "torch")] == []
    assert [name for name in tf if name not in torch and not excused(name, "tf")] == []
    assert [name for name in torch if name in tf] == [name for name in tf if name in torch]


def test_no_reason_without_a_case():
    """A reason whose definitions are gone goes, too."""
    for package, twin in ((TORCH, "torch"), (TF, "tf")):
        names = {name for room in rooms(package) for name in definitions(package / room)}
        for each in ONLY.values():
            for pattern in each.get(twin, []):
                assert any(matches(name, pattern) for name in names), pattern


def likeness(room):
    """The share of words that a pair of files has in common, in order."""
    first, second = ((package / room).read_text().split() for package in (TORCH, TF))
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()


def test_how_alike_the_twins_are(capsys):
    found = {room: likeness(room) for room in SHARED}
    with capsys.disabled():
        print(
            "\nHow alike the twins' files are, in words:",
            ", ".join(f"{room} {each:.2f}" for room, each in found.items()),
        )
    for room, least in ALIKE.items():
        assert found[room] >= least, room
