"""Files from strangers: whatever they hold ends in one line that names what is wrong, or in a run; never otherwise, never late.

Valid checkpoints are changed at random, a field or an array at a time, and their digests made right again, as a stranger who
means harm would; then they are loaded, gone on with, and asked. As a program, `python tests/test_strangers.py SEED COUNT`, it
does so as often as one likes, and prints what was not refused, and how that ended.
"""

import json
import math
import os
import random
import resource
import signal
import struct
import sys
import time
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors.numpy import load_file, save

from common import checkpoint, experiments, framework, prediction, reader
from common.checkpoint import BadCheckpoint
from common.data.sequences import Sequences
from common.models import Network, Stack, initial_weights
from common.recipe import Recipe
from common.tasks import problems
from common.training import Run

SECONDS = 2  # of computing, a change
HANG = 60  # seconds by the clock, a change, on a machine that does much else
MEBIBYTES = 200  # that all changes together may need beyond what the valid files need
ODD = [
    None, True, False, 0, 1, -1, 2, 0.5, -0.5, 4.0, 10**6, 10**9, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 10**30, 10**39,
    10**400, -(10**400), 1e-46, 1e-320, 1e38, 1e39, 1e300, -1e39, math.nan, math.inf, -math.inf, "", "0", "1", "LSTM", "GRU",
    "names", "text", "tiny", "full", "float64", "NaN", "é", "\x1b[2J", "\ud800", "a\nb", "x" * 100_000, [], {}, [None],
    [[]], [0], ["a", "b"], [1] * 10_000, {"a": 1}, {"": {}}, [{"update": 1, "loss": 0.5, "metric": 1.0}],
]  # fmt: skip


# Valid checkpoints


@dataclass
class Valid:
    """A checkpoint's two files, and how it is gone on with and asked."""

    described: dict
    arrays: dict
    resume: object
    ask: object


def of_a_task(task, folder):
    """The checkpoint of a task, in the middle of its run."""
    problem = problems(task, "tiny")[0]
    twin = framework.get(framework.installed()[0])
    run = experiments.make_run(problem, "GRU", 0, task=task, setting="tiny", folder=folder)
    run.save_seconds = 0
    twin.train(run)

    def resume(path):
        found, read = experiments.resume(path)
        about = read.about
        own = {"task": about["task"], "setting": about["setting"], "dtype": read.recipe.dtype, "resume": read}
        go_on = experiments.make_run(found, about["cell"], about["seed"], **own)
        return experiments.train(twin, found, go_on).scores

    def ask(path):
        return prediction.answer(twin, checkpoint.load(path), ["ab"], length=5, temperature=0.7, seed=0)

    return valid(folder, resume, ask if task in (*prediction.SPEAKERS, "text") else None)


def of_ones_own(folder):
    """The checkpoint of a run of a user's own, of SGD with patience, in the middle."""
    numbers = np.random.default_rng(0)
    data = Sequences("own", tuple(numbers.standard_normal((5, 2)) for _ in range(12)), np.arange(12) % 2)
    twin = framework.get(framework.installed()[0])
    model = Network(Stack("LSTM", 2, 3), 2, "sequence")
    recipe = Recipe("sgd", patience=2, epochs=4, batch_size=5, warm_up=2, dtype="float64")

    def make(**more):
        return Run(model, recipe, data, initial_weights(model), validation=data, **more)

    def resume(path):
        run = make(resume=checkpoint.load(path))
        twin.train(run)
        return run.losses

    twin.train(make(folder=folder, save_seconds=0))
    return valid(folder, resume, None)


def valid(folder, resume, ask):
    path = min(folder.glob("*.json"))
    return Valid(json.loads(path.read_text()), load_file(path.with_suffix(".safetensors")), resume, ask)


# Changes


def places(value, path=()):
    """Every place in JSON, by the names and indices on the way to it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield (*path, name)
        yield from places(each, (*path, name))


def at(value, path):
    for name in path:
        value = value[name]
    return value


def change_json(chance, described):
    """One change of a field; says which."""
    every = [path for path in places(described) if not str(path[0]).startswith("sha256")]
    path = chance.choice(every)
    holder, name = at(described, path[:-1]), path[-1]
    value = holder[name]
    how = chance.choice(["remove", "odd", "odd", "odd", "near", "near", "swap", "wrap", "add", "rename"])
    if how == "remove":
        del holder[name]
    elif how == "near" and isinstance(value, (int, float)):
        holder[name] = chance.choice([value + 1, value - 1, -value, value * 2, value * 10**9])
    elif how == "near" and isinstance(value, (str, list)):
        more = [value[:-1], value[1:], value + value[:1], value[::-1], value[:0], value * (10_000 // (len(value) + 1))]
        holder[name] = chance.choice(more)
    elif how == "swap":
        other = chance.choice(every)
        theirs = deepcopy(at(described, other))
        at(described, other[:-1])[other[-1]] = deepcopy(value)
        if (name in holder) if isinstance(holder, dict) else (name < len(holder)):
            holder[name] = theirs
        path += other
    elif how == "wrap":
        deep = chance.choice([1, 2, 15, 20, 900])
        for _ in range(deep):
            holder[name] = [holder[name]] if deep % 2 else {"a": holder[name]}
    elif how == "add" and isinstance(holder, dict):
        holder[chance.choice(["more", "", "\ud800", "x" * 1000])] = chance.choice(ODD)
    elif how == "rename" and isinstance(holder, dict):
        holder[chance.choice(["more", f"{name}s", "task"])] = holder.pop(name)
    else:
        holder[name] = chance.choice(ODD)
    return how, path


def change_array(chance, arrays):
    """One change of an array; says which."""
    name = chance.choice(sorted(arrays))
    array = arrays[name].copy()
    how = chance.choice(["remove", "rename", "add", "dtype", "shape", "value", "value", "value", "swap", "group"])
    if how == "remove":
        del arrays[name]
    elif how == "rename":
        arrays[name + chance.choice(["x", "/x", "\n", "\x1b[2J"])] = arrays.pop(name)
    elif how == "add":
        arrays[chance.choice(["more", "more/x", "weights/x", "random/x", "best/W_hy", "curves/x", "moments x/y"])] = (
            array
        )
    elif how == "dtype":
        with np.errstate(all="ignore"):
            kind = chance.choice([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, np.complex64])
            arrays[name] = array.astype(kind)
    elif how == "shape":
        arrays[name] = chance.choice(
            [array[..., :-1], array[None], array.reshape(-1), array.T, array[:0], np.repeat(array, 2, 0)]
        )
    elif how == "value" and array.size and array.dtype.kind == "f":
        place = chance.randrange(array.size)
        array.reshape(-1)[place] = chance.choice([np.nan, np.inf, -np.inf, -1, 0, 1e-300, 1e30, 3e38, -3e38])
        arrays[name] = array * array.dtype.type(chance.choice([1, 1, 1, -1, 1e15]))
    elif how == "swap":
        other = chance.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    else:
        group, to = name.partition("/")[0], chance.choice(["best", "random", "moments sum", "moments v"])
        for each in [each for each in arrays if each.startswith(f"{group}/")]:
            arrays[to + each.removeprefix(group)] = arrays.pop(each)
    return how, (name,)


def changed_bytes(chance, content):
    """The arrays' file with a change that safetensors would not write; and which."""
    how = chance.choice(["cut", "grow", "flip", "length", "header", "noise", "empty"])
    size = struct.unpack("<Q", content[:8])[0]
    if how == "cut":
        return how, content[: chance.randrange(len(content))]
    if how == "grow":
        return how, content + b"\0" * chance.choice([1, 8, 3_000_000])
    if how == "flip":
        place = chance.randrange(min(len(content), 400))
        return how, content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    if how == "length":
        return how, struct.pack("<Q", chance.choice([0, 1, 2**31, 2**63, 2**64 - 1])) + content[8:]
    if how == "header":
        header = json.loads(content[8 : 8 + size])
        change_json(chance, header)
        text = dumped(header).encode()
        return how, struct.pack("<Q", len(text)) + text + content[8 + size :]
    return how, chance.randbytes(chance.choice([0, 1, 7, 8, 9, 1000]))


def dumped(value):
    """JSON, whole numbers of any length included."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(limit)


def write(path, described, content):
    """Both files, their digests made right, unless the JSON is refused before its digest is looked at."""
    described = {name: value for name, value in described.items() if name != "sha256 of the rest"}
    if "sha256 of the arrays" in described:
        described["sha256 of the arrays"] = sha256(content).hexdigest()
    text = dumped(described)
    try:
        read = reader.mapping(text.encode())
        text = json.dumps({**read, "sha256 of the rest": checkpoint._digest(read)})
    except ValueError:
        pass
    path.write_text(text)
    path.with_suffix(".safetensors").write_bytes(content)


def tensors(arrays):
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def stranger(chance, known, path):
    """Write a changed checkpoint; say what was changed."""
    described, arrays = deepcopy(known.described), dict(known.arrays)
    kind = chance.choice(["json", "json", "json", "arrays", "bytes"])
    changes = []
    if kind == "json":
        changes = [change_json(chance, described) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
    if kind == "arrays":
        changes = [change_array(chance, arrays) for _ in range(chance.choice([1, 1, 2]))]
    content = tensors(arrays)
    if kind == "bytes":
        how, content = changed_bytes(chance, content)
        changes = [(how, ("arrays",))]
    write(path, described, content)
    return kind, changes


# What becomes of them


@contextmanager
def at_most(seconds):
    """A hang is an error."""

    def hang(*_):
        raise TimeoutError(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def one_line(error):
    return len(str(error)) < 1500 and str(error).isprintable()


def ending(known, path):
    """How a changed checkpoint ends: refused, or accepted and with what, or what is bad about it."""
    begun = time.process_time()
    came = []
    try:
        with at_most(HANG):
            try:
                checkpoint.load(path)
            except (BadCheckpoint, FileNotFoundError) as error:
                return ("refused", str(error)) if one_line(error) else ("not one line", repr(error))
            for use in filter(None, (known.resume, known.ask)):
                try:
                    use(path)
                except (ValueError, ArithmeticError) as error:
                    came.append(f"{use.__name__}: {error}")
                    if isinstance(error, OverflowError) or not one_line(error):
                        return "not one line", repr(error)
    except Exception as error:
        return "bad", f"{type(error).__name__}: {str(error)[:300]}"
    if time.process_time() - begun > SECONDS:
        return "slow", f"{time.process_time() - begun:.1f} s"
    return "accepted", "; ".join(came)


def peak():
    """The most memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def endings(known, seed, count, path):
    """What each of so many changes was, and how it ended."""
    chance = random.Random(seed)
    for _ in range(count):
        name = chance.choice(sorted(known))
        kind, changes = stranger(chance, known[name], path)
        yield f"{name} {kind} {changes}", *ending(known[name], path)


def every_valid_one(folder, tasks):
    known = {task: of_a_task(task, folder / task) for task in tasks} | {"own": of_ones_own(folder / "own")}
    for each in known.values():
        write(folder / "valid.json", each.described, tensors(each.arrays))
        assert ending(each, folder / "valid.json") == ("accepted", "")
    return known


if __name__ == "__main__":
    import tempfile

    counts, place = Counter(), Path(tempfile.mkdtemp())
    known = every_valid_one(place, ["names", "text", "translation", "adding", "copying", "speech", "series"])
    before = peak()
    for what, how, said in endings(known, int(sys.argv[1]), int(sys.argv[2]), place / "changed.json"):
        counts[how] += 1
        if how != "refused" or os.environ.get("ALL"):
            print(how, what[:500], said.partition("refused: ")[2] or said, sep=" | ", flush=True)
    print(counts, f"{peak() - before:.0f} MiB more")
