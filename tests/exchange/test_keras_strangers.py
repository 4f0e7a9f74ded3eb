"""Files that pretend to be Keras's: each ends in an error of one line, in bounded time and memory."""

import io
import json
import os
import random
import zipfile

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from rnn_common.exchange import apart, by_keras, hdf5_file, keras_file
from rnn_common.exchange.contents import NotUnderstood


def one_line(call, *words):
    with pytest.raises((ValueError, OSError)) as caught:
        call()
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert len(said) < 500
    for word in words:
        assert word in said, said


def layer(file, weight=b"kernel:0"):
    """A file by layer with one layer, whose one array is still to be written."""
    file.attrs["layer_names"] = [b"d"]
    file.attrs["keras_version"] = b"2.2.4"
    group = file.create_group("d")
    group.attrs["weight_names"] = [weight]
    return group


def put(**options):
    return lambda file: layer(file).create_dataset("kernel:0", **options)


def external_link(file):
    layer(file)["kernel:0"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_cycle(file):
    layer(file)["kernel:0"] = h5py.SoftLink("/d/kernel:0")


def soft_layer(file):
    file.attrs["layer_names"] = [b"d"]
    file["d"] = h5py.SoftLink("/")


def climbing(name):
    return lambda file: layer(file, name).create_dataset("kernel:0", data=np.ones((2, 2)))


def virtual(file):
    layout = h5py.VirtualLayout((2, 2), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (2, 2))
    layer(file).create_virtual_dataset("kernel:0", layout)


def deflated_bomb(file):
    """64 kB of zeros in a chunk that says that it is 64 bytes."""
    import zlib

    each = layer(file).create_dataset("kernel:0", (4, 4), "f4", chunks=(4, 4), compression="gzip")
    each.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**16), 9))


def references(file):
    group = layer(file)
    group.create_dataset("kernel:0", (2,), dtype=h5py.ref_dtype)[0] = group.ref


def own_parent(file):
    group = file.create_group("layers")
    group["inner"] = group


def twice(file):
    group = file.create_group("layers/lstm/cell/vars")
    group["0"] = np.ones(2)
    group["1"] = group["0"]


def attribute(name, value):
    def fill(file):
        layer(file).create_dataset("kernel:0", data=np.ones((2, 2)))
        file.attrs[name] = value

    return fill


STRANGERS = {
    "external link": (external_link, "'kernel:0' should be in the file itself, got a ExternalLink"),
    "soft cycle": (soft_cycle, "'kernel:0' should be in the file itself, got a SoftLink"),
    "soft layer": (soft_layer, "'d' should be in the file itself, got a SoftLink"),
    "climbs": (climbing(b"../d/kernel:0"), "'../d/kernel:0' should be a path within its group"),
    "absolute": (climbing(b"/d/kernel:0"), "should be a path within its group"),
    "itself": (climbing(b"./kernel:0"), "should be a path within its group"),
    "not there": (climbing(b"bias:0"), "'bias:0' should be in the file, but it is not"),
    "external storage": (put(shape=(2, 2), dtype="f4", external=[("/etc/passwd", 0, 16)]), "got data elsewhere"),
    "virtual": (virtual, "got data elsewhere"),
    "unwritten chunks": (put(shape=(9000, 9000), dtype="f4", chunks=(900, 900)), "should have at most 1,048,576 bytes"),
    "unwritten": (put(shape=(9000, 9000), dtype="f4"), "should have at most 1,048,576 bytes"),
    "compressed bomb": (
        put(data=np.zeros((3000, 3000)), compression="gzip", chunks=(3000, 3000)),
        "for those in the file",
    ),
    "chunk beyond": (put(shape=(2, 2), dtype="f4", chunks=(9000, 9000), maxshape=(None, None)), "should have at most"),
    "deflated bomb": (deflated_bomb, "should inflate to 64 bytes"),
    "huge": (put(shape=(2**30, 2**20), dtype="f4", chunks=(1024, 1024)), "at most 4,294,967,296 bytes together"),
    "many chunks": (put(data=np.ones((200, 200), "f4"), chunks=(1, 1)), "should be in at most 20,000 chunks"),
    "lzf": (put(data=np.ones((4, 4)), compression="lzf"), "HDF5's filters [32000]"),
    "strings": (put(data=np.array([b"a", b"b"])), "should be numbers, got |S1"),
    "objects": (put(data=["a"], dtype=h5py.string_dtype()), "should be numbers, got object"),
    "references": (references, "should be numbers, got object"),
    "records": (put(shape=(2,), dtype=[("a", "f4")]), "should be numbers"),
    "nothing": (put(data=h5py.Empty("f4")), "should be an array"),
    "own parent": (own_parent, "should be in the file once"),
    "two names": (twice, "'layers/lstm/cell/vars/1' should be in the file once"),
    "names of numbers": (attribute("layer_names", np.arange(3)), "layer_names should be of strings, got int64"),
    "names not in UTF-8": (attribute("layer_names", [b"\xff"]), "layer_names should be text in UTF-8"),
    "a layer twice": (attribute("layer_names", [b"d", b"d"]), "got 'd' twice"),
    "no version": (attribute("keras_version", b"new"), "keras_version should begin with numbers, got 'new'"),
    "no Keras": (lambda file: file.create_dataset("x", data=np.ones(3)), "layer_names, or arrays called vars/0, got x"),
    "Keras 0": (lambda file: file.attrs.update(nb_layers=2), "as Keras 0 wrote them"),
    "deep": (lambda file: file.create_group("/".join("a" * 200)), "32 deep"),
    "JSON list": (attribute("model_config", b"[1]"), "model_config: JSON should be a mapping"),
    "JSON deep": (attribute("model_config", b'{"a":' + b"[" * 9000), "model_config"),
    "JSON cut": (attribute("model_config", b'{"a":'), "model_config: it is not JSON, or truncated"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_hdf5_of_strangers(tmp_path, name):
    fill, words = STRANGERS[name]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        fill(file)
    one_line(lambda: hdf5_file.contents_of(tmp_path / "x.h5"), words)


@pytest.mark.parametrize("name", ["external link", "compressed bomb", "huge"])
def test_hdf5_of_strangers_read_apart(tmp_path, name):
    fill, words = STRANGERS[name]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        fill(file)
    with pytest.raises(NotUnderstood, match=r"^[^\n]*$") as caught:
        hdf5_file.read(tmp_path / "x.h5")
    assert words in str(caught.value)


def test_compressed_and_shuffled_chunks_are_read(tmp_path):
    array = np.random.default_rng(0).standard_normal((33, 21)).astype(">f4")
    for options in ({"compression": "gzip", "shuffle": True}, {"shuffle": True}, {"compression": 9}, {}):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            layer(file).create_dataset("kernel:0", data=array, chunks=(7, 5), **options)
        found = hdf5_file.contents_of(tmp_path / "x.h5").arrays["d/kernel:0"]
        assert np.array_equal(found, array)
    with h5py.File(tmp_path / "x.h5", "w") as file:  # one chunk is written, the rest is the fill value
        layer(file).create_dataset("kernel:0", (14, 10), "f4", chunks=(7, 5), fillvalue=3)[:7, :5] = array[:7, :5]
    found = hdf5_file.contents_of(tmp_path / "x.h5").arrays["d/kernel:0"]
    assert np.array_equal(found[:7, :5], array[:7, :5])
    assert (found[7:] == 3).all()


# A .keras


def weights():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, shape in {"0": (3, 16), "1": (4, 16), "2": (16,)}.items():
            file[f"layers/lstm/cell/vars/{name}"] = np.ones(shape, "f4")
    return content.getvalue()


LSTM = {"module": "keras.layers", "class_name": "LSTM", "config": {"name": "a", "units": 4}, "registered_name": None}
MODEL = {"class_name": "Sequential", "config": {"name": "s", "layers": [LSTM]}}


def archive(path, leave_out=(), compression=zipfile.ZIP_STORED, **others):
    members = {
        "config.json": json.dumps(MODEL),
        "metadata.json": json.dumps({"keras_version": "3.4.0"}),
        "model.weights.h5": weights(),
    }
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in (members | others).items():
            if name not in leave_out:
                file.writestr(name, content)
    return path


def test_a_keras_archive(tmp_path):
    """Members of other names are not read, and nothing is left behind."""
    path = archive(tmp_path / "x.keras", **{"assets/vocabulary.txt": "x", "code.py": "raise SystemExit"})
    found = keras_file.read(path)
    assert found.format == "Keras 3.4.0"
    assert list(found.arrays) == [f"layers/lstm/cell/vars/{index}" for index in range(3)]
    ((lstm,), chain, _) = by_keras.find(found)
    assert chain
    assert (lstm.name, lstm.cell.name, lstm.input_size, lstm.hidden_size) == ("a", "LSTM", 3, 4)
    assert os.listdir(tmp_path) == ["x.keras"]


def bad(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: archive(path, ["config.json"]), "a .keras should hold config.json"),
        (lambda path: archive(path, ["metadata.json"]), "a .keras should hold metadata.json"),
        (lambda path: archive(path, ["model.weights.h5"]), "a .keras should hold model.weights.h5"),
        (lambda path: archive(path, **{"../x": "y"}), "'../x' should be a path within its group"),
        (lambda path: archive(path, **{"/etc/x": "y"}), "'/etc/x' should be a path within its group"),
        (lambda path: archive(path, compression=zipfile.ZIP_BZIP2), "config.json should be stored or deflated"),
        (
            lambda path: archive(path, compression=zipfile.ZIP_DEFLATED, **{"config.json": " " * 2**22}),
            "config.json",
        ),
        (
            lambda path: archive(path, compression=zipfile.ZIP_DEFLATED, **{"config.json": " " * 2**24}),
            "config.json should have at most",
        ),
        (lambda path: archive(path, **{"model.weights.h5": b"no"}), "model.weights.h5 in"),
        (lambda path: archive(path, **{"config.json": "[]"}), "JSON should be a mapping"),
        (lambda path: archive(path, **{"metadata.json": "{}"}), "keras_version should be a string, got None"),
        (lambda path: bad(path, b"PK\x03\x04" * 40), "is no zip of Keras's"),
        (lambda path: bad(path, b""), "is no zip of Keras's"),
    ],
)
def test_archives_of_strangers(tmp_path, make, words):
    path = make(tmp_path / "x.keras")
    one_line(lambda: keras_file.contents_of(path), words)


# Configurations


def rnn(**options):
    return {"class_name": "LSTM", "config": {"name": "a", "units": 4, **options}}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([rnn(units=5)], "should have 5 rows, the layer's units, got 4"),
        ([rnn(use_bias=False)], "'a' should have 2 arrays, as a LSTM, got 3"),
        ([rnn(use_bias="yes")], "use_bias should be true or false, got 'yes'"),
        ([rnn(return_sequences=1)], "return_sequences should be true or false, got 1"),
        ([{"class_name": "GRU", "config": {"name": "a"}}], "'a' should have 3 or 9 arrays, as a GRU, got 0"),
        ([rnn(), rnn(name="b")], "'b' should have 3 or 12 arrays, as a LSTM, got 0"),
        ([{"class_name": "LSTM", "config": 3}], "a layer's config should be a mapping, got 3"),
        ([{"config": {}}], "a layer should have a class_name"),
        ([7], "a layer should have a class_name, got 7"),
        ([{"class_name": "LSTM", "config": {"name": ["a"]}}], "a layer's name should be a string"),
        ([{"class_name": "Bidirectional", "config": {"name": "a"}}], "a layer should have a class_name, got None"),
    ],
)
def test_configurations_of_strangers(tmp_path, layers, words):
    model = {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}
    path = archive(tmp_path / "x.keras", **{"config.json": json.dumps(model)})
    one_line(lambda: by_keras.find(keras_file.contents_of(path)), words)


def test_odd_activations_are_refused_by_name(tmp_path):
    model = {"class_name": "Sequential", "config": {"layers": [rnn(activation=[[1]])]}}
    path = archive(tmp_path / "x.keras", **{"config.json": json.dumps(model)})
    ((layer,), _, _) = by_keras.find(keras_file.contents_of(path))
    assert layer.kind == "LSTM with the activation [[1]]"


# Damage


def test_damaged_files_end_in_one_line(tmp_path):
    """Truncated and altered: as it was, or an error of one line; the library's own faults end in its process."""
    dice, lines = random.Random(0), []
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layer(file).create_dataset("kernel:0", data=np.ones((9, 9)), chunks=(5, 5), compression="gzip", shuffle=True)
        file.attrs["model_config"] = json.dumps(MODEL).encode()
    for path in (tmp_path / "a.h5", archive(tmp_path / "b.keras")):
        whole = path.read_bytes()
        refused = 0
        for turn in range(10):
            content = bytearray(whole)
            if turn < 3:
                del content[dice.randrange(len(content)) :]
            for _ in range(1 << turn % 5):
                content[dice.randrange(len(content))] = dice.randrange(256)
            damaged = bad(tmp_path / f"x{path.suffix}", bytes(content))
            try:
                by_keras.find((keras_file if path.suffix == ".keras" else hdf5_file).read(damaged))
            except (ValueError, OSError) as error:
                refused += 1
                lines.append(len(str(error).splitlines()))
        assert refused > 3
    assert set(lines) == {1}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; os.abort()", "reading it stopped"),
        ("import time; time.sleep(60)", "reading it stopped"),
        ("", "reading it stopped"),
        ("import sys; sys.stdout.buffer.write(bytes([255]) * 8)", "should say at most"),
        (
            "import sys, json; c = json.dumps({'arrays': [['a', '<f4', [2**20, 2**20]]]}).encode();"
            "sys.stdout.buffer.write(len(c).to_bytes(8, 'little') + c)",
            "at most 4,294,967,296 bytes together",
        ),
        (
            "import sys, json; c = json.dumps({'arrays': [['a', '<f4', [9]]]}).encode();"
            "sys.stdout.buffer.write(len(c).to_bytes(8, 'little') + c + bytes(7))",
            "reading it stopped",
        ),
        (apart.PROGRAM.replace("send(", "import numpy; numpy.ones(2**40); send("), "reading it stopped"),
    ],
)
def test_what_ends_the_process_is_an_error_here(tmp_path, monkeypatch, program, words):
    path = bad(tmp_path / "x.h5", b"x")
    monkeypatch.setattr(apart, "PROGRAM", program)
    monkeypatch.setattr(apart, "SECONDS", 1.0)
    one_line(lambda: hdf5_file.read(path), words)


def test_memory_is_bounded(tmp_path, monkeypatch):
    """More than the process may have: refused, though the file is what it says."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        layer(file).create_dataset("kernel:0", data=np.zeros((2000, 2000)), chunks=(500, 500), compression="gzip")
    assert hdf5_file.read(tmp_path / "x.h5").arrays["d/kernel:0"].shape == (2000, 2000)
    monkeypatch.setattr(apart, "MEMORY", 2**27)
    one_line(lambda: hdf5_file.read(tmp_path / "x.h5"))


@pytest.mark.parametrize("read", [hdf5_file.read, keras_file.read])
def test_what_is_no_file(tmp_path, read):
    one_line(lambda: read(tmp_path), "should be a regular file")
    one_line(lambda: read(tmp_path / "absent.h5"), "No such file")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.h5")
        one_line(lambda: read(tmp_path / "pipe.h5"), "should be a regular file")
