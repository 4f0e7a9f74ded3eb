"""Files of arrays, NumPy's and safetensors: read as they are; what they claim is checked before it is believed."""

import io
import json
import pickle
import random
import time
import zipfile

import numpy as np
import pytest

from rnn_common.exchange.arrays_file import read
from rnn_common.exchange.contents import NotUnderstood
from tests.exchange.strangers import peak, said_of

SECONDS = 30  # that the worst file may take, on a machine that does much else, and counts lines
RANDOM = np.random.default_rng(0)
ARRAYS = {
    "enc_w_ih": RANDOM.standard_normal((6, 3)).astype("float32"),
    "double": RANDOM.standard_normal(4),
    "half": np.array([[1.5], [-2]], "float16"),
    "none": np.zeros((0, 3)),
    "one": np.array(3.5),
    "yes": np.array([True, False]),
    **{
        f"{kind}{8 * size}": np.array([1, 100], f"{kind[0]}{size}") for kind in ("int", "uint") for size in (1, 2, 4, 8)
    },
}


def same(found, arrays):
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert not found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


# NumPy


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read(tmp_path / "a.npz")
    same(found.arrays, ARRAYS)
    assert found.notes == ()
    assert found.format == "NumPy arrays"


def test_npz_in_other_orders(tmp_path):
    W = np.arange(6.0).reshape(2, 3)
    np.savez(tmp_path / "a.npz", W=np.asfortranarray(W), big=W.astype(">f8"))
    same(read(tmp_path / "a.npz").arrays, {"W": W, "big": W})


def test_npz_of_every_version(tmp_path):
    for version in ((1, 0), (2, 0), (3, 0)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, ARRAYS["half"], version)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
            file.writestr("half.npy", stream.getvalue())
        same(read(tmp_path / "a.npz").arrays, {"half": ARRAYS["half"]})


class Harm:
    """Runs a command where it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def test_objects_are_left_out_and_never_made(tmp_path):
    proof = tmp_path / "executed"
    harm = np.array([Harm(f"touch {proof}")], object)
    pickle.loads(pickle.dumps(harm))
    assert proof.exists(), "it should harm whoever unpickles it"
    proof.unlink()
    np.savez(tmp_path / "a.npz", harm=harm, words=np.array(["a", "b"]), z=np.array([1j]), w=ARRAYS["double"])
    found = read(tmp_path / "a.npz")
    assert not proof.exists()
    same(found.arrays, {"w": ARRAYS["double"]})
    assert found.notes == tuple(f"'{name}' is left out: it holds no plain numbers" for name in ("harm", "words", "z"))


def npz(path, header, numbers=bytes(48), version=b"\x01\x00", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        text = header.encode()
        file.writestr("w.npy", b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + numbers)
    return path


def header(descr="'<f8'", order="False", shape="(2, 3)"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


HEADERS = {
    "a huge array": (header(shape=f"({2**38},)"), "at most 4,294,967,296 bytes together, 'w.npy' goes beyond"),
    "larger than the member": (header(shape="(2, 4)"), "should have .* bytes, as it says, got"),
    "smaller than the member": (header(shape="(2, 2)"), "should have .* bytes, as it says, got"),
    "a size of many digits": (header(shape="(" + "9" * 5000 + ",)"), "of a whole shape"),
    "a negative size": (header(shape="(-2, 3)"), "should begin with a dtype, an order and a shape"),
    "a call for a shape": (header(shape="(exit(),)"), "should begin with a dtype"),
    "many axes": (header(shape="(" + "1, " * 9 + ")"), "at most 8 axes"),
    "a word for an order": (header(order="'C'"), "should begin with a dtype"),
    "a shape for a dtype": (header("(2,)"), "should begin with a dtype"),
    "no end": (header()[:-3], "should begin with a dtype"),
    "something before": ("1 +" + header(), "should begin with a dtype"),
    "nothing": ("", "should begin with a dtype"),
}


@pytest.mark.parametrize("claim", HEADERS)
def test_headers_are_checked_before_memory_is_asked_for(tmp_path, claim):
    text, said = HEADERS[claim]
    path = npz(tmp_path / "a.npz", text)
    with pytest.raises(NotUnderstood, match=said):
        read(path)
    assert peak(read, path)[0] < 2**20


def test_other_headers(tmp_path):
    assert "version 1 to 3" in said_of(read, npz(tmp_path / "a.npz", header(), version=b"\x04\x00"))
    same(read(npz(tmp_path / "a.npz", header())).arrays, {"w": np.zeros((2, 3))})
    turned = "{'shape':(2,3),'descr':'<f8','fortran_order':True}"
    same(read(npz(tmp_path / "a.npz", turned)).arrays, {"w": np.zeros((2, 3))})


def test_a_bomb_is_bounded(tmp_path):
    """256 MiB of zeros in one, that the header says truly; and 32 MiB of zeros, which are weights to begin with."""
    zip_file = zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with zip_file as file, file.open("w.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (2**25,)})
        for _ in range(16):
            member.write(bytes(2**24))
    taken, said = peak(read, tmp_path / "a.npz")
    assert "at most 20 times as large as the file" in said
    assert taken < 2**20
    np.savez_compressed(tmp_path / "b.npz", w=np.zeros(2**22))
    assert len(read(tmp_path / "b.npz").arrays["w"]) == 2**22


def test_names_in_npz(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("../../etc/w.npy", npz_member())
        file.writestr("readme.txt", "hello")
    found = read(tmp_path / "a.npz")
    assert list(found.arrays) == ["../../etc/w"]
    assert found.notes == ("'readme.txt' is left out: it holds no plain numbers",)
    for bad in ("a\x1b.npy", "a" * 1001 + ".npy"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
            file.writestr(bad, npz_member())
        assert "names should be" in said_of(read, tmp_path / "a.npz")


def npz_member():
    stream = io.BytesIO()
    np.save(stream, ARRAYS["double"])
    return stream.getvalue()


def test_a_name_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("w.npy", npz_member())
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("w.npy", npz_member())
    assert said_of(read, tmp_path / "a.npz") == "'w.npy' should be there once, got it twice"


# safetensors


def st(path, header, content=bytes(24), length=None):
    """A file of that header, a mapping or bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + content)
    return path


def entry(dtype="F32", shape=(2, 3), offsets=(0, 24), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def test_safetensors(tmp_path):
    save = pytest.importorskip("safetensors.numpy").save_file
    save(ARRAYS, tmp_path / "a.safetensors", {"format": "pt", "made by": "é"})
    found = read(tmp_path / "a.safetensors")
    same(dict(sorted(found.arrays.items())), dict(sorted(ARRAYS.items())))
    assert found.config == {"format": "pt", "made by": "é"}
    assert found.notes == ()


def test_safetensors_by_hand(tmp_path):
    W = np.arange(6, dtype=np.float32).reshape(2, 3)
    upper = (W.view(np.uint32) >> 16).astype("<u2")
    content = upper.tobytes() + W.astype("<f4").tobytes() + bytes(6)
    header = {
        "b": entry("BF16", offsets=(0, 12)),
        "w": entry(offsets=(12, 36)),
        "small": entry("F8_E4M3", offsets=(36, 42)),
    }
    found = read(st(tmp_path / "a.safetensors", header, content))
    same(found.arrays, {"b": W, "w": W})
    assert found.notes == (
        "'small' is left out: it holds F8_E4M3",
        "bfloat16 is read as float32, which holds each of its numbers",
    )
    assert found.config is None


CLAIMS = {
    "a huge array": ({"w": entry(shape=(2**38,))}, "at most 4,294,967,296 bytes together, 'w' goes beyond"),
    "a huge array at huge offsets": (
        {"w": entry(shape=(2**38,), offsets=(0, 2**40))},
        "within the file's 24, got 0 to 1099511627776",
    ),
    "more numbers than bytes": ({"w": entry(shape=(3, 3))}, "'w' should have 36 bytes, as its shape says, got 24"),
    "fewer numbers than bytes": ({"w": entry(shape=(2, 2))}, "'w' should have 16 bytes, as its shape says, got 24"),
    "bytes beyond the file": ({"w": entry(shape=(7,), offsets=(0, 28))}, "within the file's 24, got 0 to 28"),
    "bytes before the file": ({"w": entry(offsets=(-24, 0))}, "should begin at byte 0"),
    "an end before the start": ({"w": entry(offsets=(0, -24))}, "should begin at byte 0"),
    "the same bytes twice": ({"w": entry(), "v": entry()}, "'v' should begin at byte 24"),
    "a hole": (
        {"w": entry(shape=(2,), offsets=(0, 8)), "v": entry(shape=(2,), offsets=(16, 24))},
        "'v' should begin at byte 8",
    ),
    "bytes of no array": ({"w": entry(shape=(2,), offsets=(0, 8))}, "the file's 24 bytes together, got 8"),
    "no whole size": ({"w": entry(shape=(2.0, 3))}, "each of a whole size"),
    "true for a size": ({"w": entry(shape=(True, 6))}, "each of a whole size"),
    "a negative size": ({"w": entry(shape=(-2, -3))}, "each of a whole size"),
    "many axes": ({"w": entry(shape=(1,) * 9)}, "at most 8 axes"),
    "no whole offset": ({"w": entry(offsets=(0, 24.0))}, "the offsets of 'w' should be whole numbers"),
    "one offset": ({"w": entry(offsets=(0,))}, "'w' should have a shape and two offsets"),
    "a number for a dtype": ({"w": entry(4)}, "the dtype of 'w' should be one of F64, F32"),
    "a field that nobody knows": ({"w": entry(more=1)}, "should have a dtype, a shape and data_offsets"),
    "a list for an entry": ({"w": []}, "should have a dtype, a shape and data_offsets"),
    "a word for metadata": ({"__metadata__": "x", "w": entry()}, "__metadata__ should be a mapping"),
    "a name that cannot be shown": ({"\x1b[2J": entry()}, "names should be"),
    "a list": ([], "JSON should be a mapping"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested at most 16 deep"),
    "a name twice": (b'{"a": 1, "a": 2}', "'a' should be there once"),
    "no JSON": (b"{", "it is not JSON, or truncated"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_are_checked_before_memory_is_asked_for(tmp_path, claim):
    header, said = CLAIMS[claim]
    path = st(tmp_path / "a.safetensors", header)
    with pytest.raises(NotUnderstood, match=said):
        read(path)
    assert peak(read, path)[0] < 2**22


def test_lengths_of_headers(tmp_path):
    for length in (10**6, 2**63, 2**64 - 1):
        path = st(tmp_path / "a.safetensors", {"w": entry()}, length=length)
        assert "length of its header" in said_of(read, path)
        assert peak(read, path)[0] < 2**20
    for content in (b"", bytes(7), bytes(8)):
        (tmp_path / "a.safetensors").write_bytes(content)
        assert said_of(read, tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.safetensors")
    assert "should be a regular file" in said_of(read, tmp_path)


# Altered files


def altered(content, count, seed):
    """Beginnings of a file, and the file with some bytes changed."""
    chance = random.Random(seed)
    for _ in range(count // 4):
        yield content[: chance.randrange(len(content))]
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(chance.choice([1, 1, 2, 5])):
            changed[chance.randrange(len(changed))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        yield bytes(changed)


@pytest.mark.parametrize("form", ["npz", "npz deflated", "safetensors"])
def test_altered_files_end_well(tmp_path, form):
    path = tmp_path / f"a.{form.split()[0]}"
    if form == "safetensors":
        st(path, {"w": entry(), "v": entry("I16", (2,), (24, 28)), "__metadata__": {"a": "b"}}, bytes(28))
    else:
        (np.savez_compressed if "deflated" in form else np.savez)(path, w=ARRAYS["half"], v=ARRAYS["double"])
    start = time.process_time()
    content = path.read_bytes()
    said = set()
    for changed in altered(content, 1000, seed=0):
        path.write_bytes(changed)
        said.add(said_of(read, path)[:20])
    assert time.process_time() - start < SECONDS
    assert len(said) > 4


@pytest.mark.parametrize("seed", range(2))
def test_altered_headers_end_well(tmp_path, seed):
    """In a zip file that is whole, so that the changes come through."""
    said = {
        said_of(read, npz(tmp_path / "a.npz", changed.decode("latin-1")))
        for changed in altered(header().encode(), 400, seed)
    }
    assert len(said) > 4
