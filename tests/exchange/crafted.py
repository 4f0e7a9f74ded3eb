"""Files as `torch.save` writes them, put together by hand: an instruction, a member, a claim at a time."""

import struct
import zipfile


def word(text):
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def whole(number):
    return b"\x8a" + bytes([9]) + number.to_bytes(9, "little", signed=True)


def name(module, function):
    return f"c{module}\n{function}\n".encode()


def row(*values):
    """A tuple."""
    return b"(" + b"".join(values) + b"t"


def sizes(*numbers):
    return row(*map(whole, numbers))


def call(module, function, *arguments):
    return name(module, function) + row(*arguments) + b"R"


def dictionary(**entries):
    return b"}(" + b"".join(word(key) + value for key, value in entries.items()) + b"u"


def storage(key="0", count=6, kind="FloatStorage", more=b""):
    """A reference to a storage; `more` is what files before 1.6 say besides."""
    return b"(" + word("storage") + name("torch", kind) + word(key) + word("cpu") + whole(count) + more + b"tQ"


def tensor(stored=None, shape=(2, 3), strides=(3, 1), start=0):
    arguments = [
        stored or storage(),
        whole(start),
        sizes(*shape),
        sizes(*strides),
        b"\x89",
        b"ccollections\nOrderedDict\n)R",
    ]
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def program(body):
    return b"\x80\x02" + body + b"."


FLOATS = struct.pack("<6f", *range(6))


def archive(path, body, storages=None, *, others=None, compression=zipfile.ZIP_STORED, order=b"little"):
    """A file of today, whose object is what `body` makes."""
    storages = {"0": FLOATS} if storages is None else storages
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("net/data.pkl", program(body))
        file.writestr("net/byteorder", order)
        for key, content in storages.items():
            file.writestr(f"net/data/{key}", content)
        for member, content in (others or {}).items():
            file.writestr(f"net/{member}", content)
    return path


def before_1_6(path, body, storages=None):
    """A file of old, whose object is what `body` makes; each storage's bytes, and how many numbers these are."""
    storages = {"0": (FLOATS, 6)} if storages is None else storages
    magic = program(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")
    about = program(whole(1001)) + program(dictionary(little_endian=b"\x88"))
    keys = program(b"](" + b"".join(word(key) for key in storages) + b"e")
    content = b"".join(struct.pack("<q", count) + numbers for numbers, count in storages.values())
    path.write_bytes(magic + about + program(body) + keys + content)
    return path
