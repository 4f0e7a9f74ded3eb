"""What `torch.save` writes is read as PyTorch reads it, array for array."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rnn_common.exchange.contents import NotUnderstood
from rnn_common.exchange.pytorch_file import read

FORMS = {"today": {}, "before 1.6": {"_use_new_zipfile_serialization": False}}


@pytest.fixture(params=FORMS)
def saved(request, tmp_path):
    """Saves a value in either form, and reads it."""

    def saved(value):
        torch.save(value, tmp_path / "a.pt", **FORMS[request.param])
        return read(tmp_path / "a.pt")

    return saved


def same(found, state):
    """Arrays are the tensors, in their order and of their types."""
    assert list(found) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach().numpy()
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_state_dicts(saved, cell, bias):
    module = getattr(torch.nn, cell)(3, 4, 2, bias=bias, bidirectional=True)
    found = saved(module.state_dict())
    same(found.arrays, module.state_dict())
    assert found.format.startswith("PyTorch state dict")
    assert found.notes == ()
    assert found.config is None
    parameters = dict(module.named_parameters())
    same(saved(parameters).arrays, parameters)


def test_checkpoints(saved):
    """Names are the ways to the tensors; numbers and words are the configuration; Adam's moments are arrays like others."""
    net = torch.nn.DataParallel(torch.nn.Linear(3, 2))
    adam = torch.optim.Adam(net.parameters(), lr=0.125)
    net.module(torch.ones(1, 3)).sum().backward()
    adam.step()
    found = saved(
        {"epoch": 3, "model_state": net.state_dict(), "optimizer_state": adam.state_dict(), "losses": [0.5, 0.25]}
    )
    expected = {f"model_state/{name}": tensor for name, tensor in net.state_dict().items()}
    for index, moments in adam.state_dict()["state"].items():
        expected |= {f"optimizer_state/state/{index}/{name}": tensor for name, tensor in moments.items()}
    same(found.arrays, expected)
    assert next(iter(found.arrays)) == "model_state/module.weight"
    assert found.arrays["optimizer_state/state/0/step"].shape == ()
    assert found.format.startswith("PyTorch checkpoint")
    assert found.config["epoch"] == 3
    assert found.config["losses/1"] == 0.25
    assert found.config["optimizer_state/param_groups/0/lr"] == 0.125
    assert found.config["optimizer_state/param_groups/0/betas/0"] == 0.9


def test_types(saved):
    kinds = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    state = {kind: torch.tensor([[0, 1], [2, 3]]).to(getattr(torch, kind)) for kind in kinds}
    same(saved(state).arrays, state)


def test_types_without_a_storage_of_their_own(saved):
    state = {kind: torch.tensor([0, 1, 200]).to(getattr(torch, kind)) for kind in ("uint16", "uint32", "uint64")}
    same(saved(state).arrays, state)


def test_bfloat16(saved):
    tensor = torch.randn(3, 4).bfloat16()
    found = saved({"w": tensor[:, 1:]})
    same(found.arrays, {"w": tensor[:, 1:].float()})
    assert found.notes == ("bfloat16 is read as float32, which holds each of its numbers",)


def test_views(saved):
    """Transposed, strided, in the middle, expanded, without numbers, and two names of one tensor."""
    whole = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "transposed": whole.transpose(0, 2),
        "strided": whole[:, ::2, 1::2],
        "middle": whole[1, 1:],
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 5),
        "number": whole[1, 1, 1],
        "none": whole[:, :0],
        "again": whole,
        "parameter": torch.nn.Parameter(whole[0]),
    }
    found = saved(state).arrays
    same(found, state)
    assert np.shares_memory(found["again"], found["middle"])


def test_parameters_with_attributes(saved):
    parameter = torch.nn.Parameter(torch.arange(3.0))
    parameter.what = "mine"
    tensor = torch.arange(4.0)
    tensor.what = "mine"
    same(saved({"parameter": parameter, "tensor": tensor}).arrays, {"parameter": parameter, "tensor": tensor})


class Net(torch.nn.Module):
    """A model of a class that a reader does not have."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(5, 3)
        self.rnns = torch.nn.ModuleList([torch.nn.GRU(3, 4), torch.nn.GRU(4, 4)])
        self.norm = torch.nn.BatchNorm1d(4)
        self.width = 4


def test_whole_models(saved):
    """Their arrays, named as in their state_dict; their classes are named, and not made."""
    net = Net()
    found = saved(net)
    assert found.format.startswith("PyTorch model")
    state = net.state_dict()
    same({name: found.arrays[name] for name in state}, state)
    assert set(found.arrays) == set(state)
    assert found.config["width"] == 4
    assert found.config["rnns.1.hidden_size"] == 4
    assert f"{Net.__module__}.Net" in found.notes[0]
    inside = saved({"net": net, "epoch": 1})
    assert set(inside.arrays) == {f"net/{name}" for name in state}


def test_what_else_a_checkpoint_holds(saved):
    """Settings, a scheduler, a set, random numbers' state: named, and the tensors beside them read."""
    import argparse
    import random

    weight = torch.nn.Parameter(torch.ones(3))
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([weight], 0.1), 3)
    found = saved(
        {
            "args": argparse.Namespace(hidden=4, path="a"),
            "scheduler": scheduler.state_dict(),
            "symbols": {"a", "b"},
            "random": random.getstate(),
            "numpy": np.random.get_state(),
            "device": torch.device("cpu"),
            "dtype": torch.float32,
            "weight": weight,
        }
    )
    same({"weight": found.arrays["weight"]}, {"weight": weight})
    assert list(found.arrays) == ["weight"]
    assert "argparse.Namespace" in found.notes[-1]
    assert "torch.device" not in found.notes[-1]
    assert found.config["args/hidden"] == 4


def test_one_tensor(saved):
    same(saved(torch.arange(3.0)).arrays, {"tensor": torch.arange(3.0)})


def test_what_is_no_plain_array(saved):
    sparse = torch.eye(3).to_sparse()
    found = saved({"sparse": sparse, "complex": torch.ones(2, dtype=torch.complex64), "w": torch.ones(2)})
    assert "w" in found.arrays
    assert "complex" not in found.arrays
    assert "'complex'" in found.notes[0]


def test_torchscript_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(3, 2)).save(tmp_path / "a.pt")
    with pytest.raises(NotUnderstood, match=r"is TorchScript, .*state_dict\(\)"):
        read(tmp_path / "a.pt")


def test_all_that_pytorch_opens_is_the_same(tmp_path):
    """Against torch.load, on the shapes and strides of chance."""
    torch.manual_seed(0)
    chance = np.random.default_rng(0)
    state = {}
    for index in range(200):
        base = torch.randn([int(size) for size in chance.integers(1, 5, chance.integers(0, 5))])
        view = base.permute(chance.permutation(base.ndim).tolist())
        for axis in range(view.ndim):
            start, step = int(chance.integers(0, view.shape[axis])), int(chance.integers(1, 3))
            view = view[(slice(None),) * axis + (slice(start, None, step),)]
        state[f"t{index}"] = view
    torch.save(state, tmp_path / "a.pt")
    same(read(tmp_path / "a.pt").arrays, torch.load(tmp_path / "a.pt", weights_only=True))
