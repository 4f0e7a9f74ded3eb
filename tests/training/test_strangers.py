"""Files from strangers: whatever they hold ends in one line that names what is wrong, or in a run; never otherwise, never late.

Valid checkpoints are changed at random, a field or an array at a time, and their digests made right again, as a stranger who
means harm would; then they are loaded, gone on with, and asked. As a program, `python
tests/training/test_strangers.py SEED COUNT`, it does so as often as one likes, and prints what was not refused, and how that
ended.
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
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors.numpy import load_file, save

from rnn_common import reader, twins
from rnn_common.data.sequences import Sequences
from rnn_common.networks import Network, Stack, initial_weights
from rnn_common.tasks import prediction, problems
from rnn_common.training import checkpoint, experiments
from rnn_common.training.checkpoint import BadCheckpoint
from rnn_common.training.recipe import Recipe
from rnn_common.training.run import Diverged, Run

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
    """A checkpoint's two files; functions of its path that use it; what these give."""

    described: dict
    arrays: dict
    uses: list
    results: list


def of_a_task(task, folder):
    """The checkpoint of a task, in the middle of its run."""
    problem = problems(task, "tiny")[0]
    twin = twins.get(twins.installed()[0])
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
        return prediction.answer(
            twin, checkpoint.load(path), ["ab"], prediction.Options(length=5, temperature=0.7, seed=0)
        )

    return valid(folder, resume, *([ask] if task in (*prediction.SPEAKERS, "text") else []))


def of_ones_own(folder):
    """The checkpoint of a run of a user's own, of SGD with patience, in the middle."""
    numbers = np.random.default_rng(0)
    data = Sequences("own", tuple(numbers.standard_normal((5, 2)) for _ in range(12)), np.arange(12) % 2)
    twin = twins.get(twins.installed()[0])
    model = Network(Stack("LSTM", 2, 3), 2, "sequence")
    recipe = Recipe("sgd", patience=2, epochs=4, batch_size=5, warm_up=2, dtype="float64")

    def make(**more):
        return Run(model, recipe, data, initial_weights(model), validation=data, **more)

    def resume(path):
        run = make(resume=checkpoint.load(path))
        twin.train(run)
        return run.losses

    twin.train(make(folder=folder, save_seconds=0))
    return valid(folder, resume)


def valid(folder, *uses):
    path = min(folder.glob("*.json"))
    arrays = load_file(path.with_suffix(".safetensors"))
    return Valid(json.loads(path.read_text()), arrays, list(uses), [use(path) for use in uses])


# Changes


def places(value, path=()):
    """The places in JSON, by the names and indices on the way to them; of what is deep or long not all."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in islice(inner, 60):
        yield (*path, name)
        if len(path) < 8:
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
        deep = chance.choice([1, 2, 15, 20, 60])
        for _ in range(deep):
            holder[name] = [holder[name]] if deep % 2 else {"a": holder[name]}
    elif how == "add" and isinstance(holder, dict):
        holder[chance.choice(["more", "", "\ud800", "x" * 1000])] = deepcopy(chance.choice(ODD))
    elif how == "rename" and isinstance(holder, dict):
        holder[chance.choice(["more", f"{name}s", "task"])] = holder.pop(name)
    else:
        holder[name] = deepcopy(chance.choice(ODD))
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
        with np.errstate(over="ignore"):
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
    """How a changed checkpoint ends: refused, with the same results, or with others; or what is bad about that."""
    begun = time.process_time()
    results = []
    try:
        with at_most(HANG):
            try:
                checkpoint.load(path)
            except (BadCheckpoint, FileNotFoundError) as error:
                return ("refused", str(error)) if one_line(error) else ("not one line", repr(error))
            for use in known.uses:
                try:
                    results.append(use(path))
                except (ValueError, Diverged) as error:
                    if not one_line(error):
                        return "not one line", repr(error)
                    results.append(f"{use.__name__} refuses: {error}")
    except Exception as error:
        return "bad", f"{type(error).__name__}: {str(error)[:300]}"
    if time.process_time() - begun > SECONDS:
        return "slow", f"{time.process_time() - begun:.1f} s"
    refused = [result for result in results if isinstance(result, str)]
    if refused:
        return "refused later", "; ".join(refused)
    return "the same" if results == known.results else "other results", ""


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
        assert ending(each, folder / "valid.json") == ("the same", "")
    return known


TASKS = ["names", "text", "adding"]


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    pytest.importorskip("faker")
    pytest.importorskip("torch")  # TensorFlow builds a graph for each run, which takes seconds
    return every_valid_one(tmp_path_factory.mktemp("valid"), TASKS)


# The tests


def test_changed_checkpoints_are_refused_in_one_line_or_run(known, tmp_path):
    """A change of the JSON that is accepted changes no result, but where a plausible figure of an epoch replaces another."""
    before, counts = peak(), Counter()
    for what, how, said in endings(known, 0, 400, tmp_path / "changed.json"):
        counts[how] += 1
        plausible = " json " not in what or "epochs" in what
        allowed = ["refused", "refused later", "the same"] + ["other results"] * plausible
        assert how in allowed, (what, how, said)
    assert peak() - before < MEBIBYTES
    assert counts["refused"] > 300
    assert counts["the same"] > 5
    assert counts["other results"] > 5


def put(*path_and_value):
    *path, name, value = path_and_value
    return lambda described: at(described, path).update({name: value})


FIELDS = [
    ("names", put("model", "stack", "layers", 10**30), "model.stack.layers should be a whole number of at most 64 bits"),
    ("names", put("model", "stack", "layers", 1e30), r"model.stack.layers should be a whole number, got 1e\+30"),
    ("names", put("model", "stack", "layers", 10**9), "layers should be at most 1000, got 1000000000"),
    ("names", put("model", "stack", "layers", True), "model.stack.layers should be a whole number, got True"),
    ("names", put("model", "stack", "bidirectional", 1), "model.stack.bidirectional should be true or false, got 1"),
    ("names", put("model", "stack", "dropout", math.nan), "model.stack.dropout should be a finite number, got nan"),
    ("names", put("model", "stack", "hidden", 10**12), "should have shape"),
    ("names", put("model", "stack", "cell", "/tmp/file.py:CELL"), "cell should be one of .*, got '/tmp/file.py:CELL'"),
    ("names", put("model", "kind", ["Network"]), r"model.kind should be one of Network, EncoderDecoder, got \['Network'\]"),
    ("names", put("model", []), r"checkpoint.model should be a mapping, got \[\]"),
    ("names", put("recipe", "learning_rate", 1e39), r"learning_rate should be above 0 and finite, got 1e\+39"),
    ("names", put("recipe", "learning_rate", 10**400), "checkpoint.recipe.learning_rate should be a finite number, got inf"),
    ("names", put("recipe", "momentum", 10**400), "checkpoint.recipe.momentum should be a finite number, got inf"),
    ("names", put("recipe", "momentum", 1e39), r"momentum should be at least 0 and below 1, in float32, got 1e\+39"),
    ("names", put("recipe", "beta_1", 10**39), r"beta_1 should be at least 0 and below 1, in float32, got 1e\+39"),
    ("names", put("recipe", "beta_1", "0.9"), "checkpoint.recipe.beta_1 should be a finite number, got '0.9'"),
    ("names", put("recipe", "seed", 2**32), r"recipe: seed should be below 2\*\*32, got 4294967296"),
    ("names", put("recipe", "more", 0), "recipe should be of the fields optimizer, .*, got 'more' besides"),
    ("names", put("seconds", 10**400), "checkpoint.seconds should be a finite number, got inf"),
    ("names", put("seconds", 1e39), r"seconds should be from 0 to 10,000,000,000, got 1e\+39"),
    ("names", put("seconds", -1), "seconds should be from 0 to"),
    ("names", put("framework", "jax"), "checkpoint.framework should be one of torch, tf, got 'jax'"),
    ("names", put("data", None), "checkpoint.data should be a string, got None"),
    ("names", put("epochs", [{"update": 9, "loss": 1.0, "metric": 0.5}]), r"epochs should be of growing updates up to 5"),
    ("names", put("epochs", [{"update": 3, "loss": math.nan, "metric": 0.5}]), r"epochs\[0\].loss should be a finite number"),
    ("names", put("position", "batch", -1), "checkpoint.position: batch should be at least 0, got -1"),
    ("names", put("position", "batch", 10**6), "position should be of whole epochs and a part of one"),
    ("names", put("position", "epoch", 10**12), "position should be of whole epochs and a part of one"),
    ("names", put("about", [1]), r"checkpoint.about should be a mapping, got \[1\]"),
    ("names", put("about", "languages", []), "about.languages should number 4, got 0"),
    ("names", put("about", "languages", "Twi"), "about.languages should be a list, got 'Twi'"),
    ("names", put("about", "languages", [1, 2, 3, 4]), r"about.languages\[0\] should be a string, got 1"),
    ("names", put("about", "languages", ["Czech", "Croatian", "Dutch", "Twi"]), "about.languages should be of .*, in order"),
    ("names", put("about", "alphabet", "abc"), r"about.alphabet should be \d+ symbols, as the model has, got 3"),
    ("names", put("about", "alphabet", list("abc")), "about.alphabet should be a string, got"),
    ("names", put("about", "cell", "LSTM"), "about.cell should be that of the model, GRU, got LSTM"),
    ("names", put("about", "seed", 1), "about.seed should be that of the recipe, 0, got 1"),
    ("names", put("about", "task", "text"), "about.problem should be one of the task text, got 'names'"),
    ("names", put("about", "task", "chess"), "about.task should be one of speech, .*, got 'chess'"),
    ("names", put("about", "problem", "text"), "about.problem should be one of the task names, got 'text'"),
    ("names", put("about", "setting", "\x1b[2J"), r"about.setting should be one of tiny, quick, full, got '\\x1b\[2J'"),
    ("names", put("data", "\x1b[2J"), r"checkpoint.data should be without control characters, got '\\x1b\[2J'"),
    ("names", put("about", "more", [[]] * 600_000), "JSON should have at most 500,000 values"),
    ("names", put("about", "more", "x" * 9_000_000), "should have at most 8,388,608 bytes, got 9,"),
    ("text", lambda d: d["about"].update(alphabet=d["about"]["alphabet"][::-1]), "about.alphabet should be in order"),
    ("text", lambda d: d["model"].update(outputs=3), "model.outputs should be .*, as its inputs, got 3"),
]  # fmt: skip


@pytest.mark.parametrize(("of", "change", "said"), FIELDS, ids=[said[:60] for *_, said in FIELDS])
def test_a_field_is_named(known, tmp_path, of, change, said):
    described = deepcopy(known[of].described)
    change(described)
    write(tmp_path / "changed.json", described, tensors(known[of].arrays))
    begun = time.process_time()
    with pytest.raises(BadCheckpoint, match=said) as refusal:
        checkpoint.load(tmp_path / "changed.json")
    assert one_line(refusal.value)
    assert time.process_time() - begun < SECONDS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"moments v/b_y": lambda array: -array - 1}, "moments v should be at least 0"),
        ({"moments m/b_y": lambda array: array + np.inf}, "moments m: b_y should be finite"),
        ({"curves/losses": lambda array: array * np.nan}, "losses should be finite and of float64"),
        ({"curves/norms": lambda array: array.astype(np.float32)}, "norms should be finite and of float64"),
        ({"curves/more": lambda _: np.zeros(1)}, "its arrays should be of a checkpoint, got 'curves/more'"),
        ({"more": lambda _: np.zeros(1)}, "its arrays should be of a checkpoint, got 'more'"),
        ({"best/b_y": lambda _: np.zeros(1)}, "best should be there where the recipe has patience"),
        ({"random/x": lambda _: np.zeros(1)}, "random should be .*'s whole numbers, got 'x' float64"),
        ({"weights/b_y": lambda _: np.zeros(2**20)}, "changed.safetensors should have at most .* bytes, got"),
    ],
)  # fmt: skip
def test_an_array_is_named(known, tmp_path, changes, said):
    arrays = known["names"].arrays
    arrays = arrays | {name: change(arrays.get(name)) for name, change in changes.items()}
    write(tmp_path / "changed.json", known["names"].described, tensors(arrays))
    with pytest.raises(BadCheckpoint, match=said) as refusal:
        checkpoint.load(tmp_path / "changed.json")
    assert one_line(refusal.value)


@pytest.mark.parametrize("position", [(0, 500, 500), (2, 1, 5), (4, 0, 16)])
def test_a_position_that_is_not_in_the_data_is_refused(known, tmp_path, position):
    """Files that fit each other, but not the data, where an epoch has 3 batches: no batch would ever come, or a wrong one."""
    described, arrays = deepcopy(known["own"].described), dict(known["own"].arrays)
    described["position"] = dict(zip(("epoch", "batch", "update"), position, strict=True))
    described["epochs"] = [
        {"update": update, "loss": 1.0, "metric": 0.5} for update in range(1, 1 + max(1, position[0]))
    ]
    arrays |= {f"curves/{name}": np.ones(position[-1]) for name in ("losses", "norms")}
    write(tmp_path / "changed.json", described, tensors(arrays))
    (resume,) = known["own"].uses
    with pytest.raises(ValueError, match="position should be in 4 epochs of 3 batches, got Position"):
        resume(tmp_path / "changed.json")


@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: np.zeros(7, np.uint8)])
def test_a_state_of_random_numbers_that_is_none(twin, tmp_path, change):
    """Of no meaning to us, it is refused by the framework, and the training fails in one line."""
    numbers = np.random.default_rng(0)
    data = Sequences("own", tuple(numbers.standard_normal((5, 2)) for _ in range(12)), np.arange(12) % 2)
    model = Network(Stack("LSTM", 2, 3, layers=2, dropout=0.3), 2, "sequence")
    recipe = Recipe(epochs=2, batch_size=5, dtype="float64")
    twin.train(Run(model, recipe, data, initial_weights(model), folder=tmp_path, save_seconds=0))
    found = checkpoint.load(min(tmp_path.glob("*.json")))
    states = {name: change(state) for name, state in found.random.items()}
    about = {"cell": "LSTM"}
    run = Run(model, recipe, data, initial_weights(model), about=about, resume=replace(found, random=states))
    outcome = experiments.train(twin, problems("adding", "tiny")[0], run)
    assert outcome.failed.startswith(f"random {min(states)} should be a state of")


def test_a_recipe_of_another_setting_is_refused_before_its_data_are_made(known, tmp_path, monkeypatch):
    described = deepcopy(known["names"].described)
    described["about"]["setting"] = "full"
    write(tmp_path / "changed.json", described, tensors(known["names"].arrays))
    monkeypatch.setattr(experiments, "problems", None)
    with pytest.raises(ValueError, match=r"learning_rate of the checkpoint should be 0.00\d+ in full names, got 0.0"):
        experiments.resume(tmp_path / "changed.json")


def test_repeated_fields_are_refused(known, tmp_path):
    path = tmp_path / "changed.json"
    write(path, known["names"].described, tensors(known["names"].arrays))
    path.write_text(path.read_text().replace('"seconds":', '"seconds": 1, "seconds":'))
    with pytest.raises(BadCheckpoint, match="'seconds' should be there once, got it twice"):
        checkpoint.load(path)


@pytest.mark.parametrize("deep", [20, 300, 980, 100_000])
def test_nesting_is_bounded(known, tmp_path, deep):
    path = tmp_path / "changed.json"
    described = known["names"].described
    write(path, described | {"about": described["about"] | {"more": 0}}, tensors(known["names"].arrays))
    path.write_text(path.read_text().replace('"more": 0', '"more": ' + "[" * deep + "]" * deep))
    with pytest.raises(BadCheckpoint, match="should be nested at most 16 deep"):
        checkpoint.load(path)


def no_file(path, kind):
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


KINDS = [("a pipe", "got one of mode p"), ("a folder", "got one of mode d"), ("a device", "got one of mode c")]


@pytest.mark.parametrize(("kind", "said"), KINDS)
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_what_is_no_file_is_refused_without_being_opened(known, tmp_path, suffix, kind, said):
    path = tmp_path / "checkpoint-00000005.json"
    write(path, known["names"].described, tensors(known["names"].arrays))
    no_file(path.with_suffix(suffix), kind)
    with at_most(HANG), pytest.raises((BadCheckpoint, FileNotFoundError)) as refusal:
        checkpoint.load(tmp_path)
    assert f"{path.with_suffix(suffix)} should be a regular file, {said}" in str(refusal.value)


@pytest.mark.parametrize("command", [["resume"], ["predict"]])
def test_the_commands_say_it_in_one_line(known, tmp_path, command):
    testing = pytest.importorskip("typer.testing")
    from rnn_common.cli.app import app

    described = deepcopy(known["names"].described)
    described["about"]["languages"] = "Twi"
    write(tmp_path / "checkpoint-00000005.json", described, tensors(known["names"].arrays))
    words = ["ab"] if command == ["predict"] else []
    ran = testing.CliRunner().invoke(app, [*command, str(tmp_path), *words])
    assert ran.exit_code == 2
    assert "about.languages should be a list, got 'Twi'" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


# Reports of the benchmarks


def report():
    row = {"workload": "w", "cell": "GRU", "measure": "training", "contender": "ours", "seconds": [0.1, 0.2]}
    rows = [row | {"ratio": [2.0, 1.9, 2.1]}, row | {"contender": "one round", "ratio": [2.0, math.nan, math.nan]}]
    rows += [row | {"contender": "failed", "ratio": None}, row | {"contender": "built-in", "ratio": [1.0, 1.0, 1.0]}]
    environment = {"versions": {"numpy": "2"}, "processor": "A", "threads": 2}
    return {
        "format": "rnn-parity benchmarks 1",
        "settings": {"seed": 0, "threads": 2},
        "environment": environment,
        "rows": rows,
    }


def test_changed_reports_are_refused_in_one_line_or_compared(tmp_path):
    testing = pytest.importorskip("typer.testing")
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    from rnn_common.cli.bench import app

    chance, path, counts = random.Random(0), tmp_path / "changed.json", Counter()
    (tmp_path / "valid.json").write_text(json.dumps(report()))
    for _ in range(120):
        changed = report()
        what = [change_json(chance, changed) for _ in range(chance.choice([1, 1, 2]))]
        path.write_text(dumped(changed))
        begun = time.process_time()
        ran = testing.CliRunner().invoke(app, ["compare", str(tmp_path / "valid.json"), str(path)])
        counts[ran.exit_code] += 1
        assert ran.exit_code in (0, 2), (what, ran.output, ran.exception)
        assert ran.exit_code == 0 or len(ran.stderr.splitlines()) == 1, (what, ran.stderr)
        assert "\x1b" not in ran.output
        assert time.process_time() - begun < SECONDS
    assert min(counts[0], counts[2]) > 30


@pytest.mark.parametrize(("kind", "said"), KINDS)
def test_a_report_that_is_no_file(tmp_path, kind, said):
    pytest.importorskip("scipy")
    from rnn_benchmarks import comparing

    no_file(tmp_path / "report.json", kind)
    with at_most(HANG), pytest.raises(ValueError, match=said):
        comparing.load(tmp_path / "report.json")


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
