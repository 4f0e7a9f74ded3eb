"""What all tests share: a quiet TensorFlow, one thread a worker, deterministic Hypothesis, GPU tests skipped without one."""

import functools
import gc
import os
import random
from collections import Counter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Workers share the cores: one thread each. Set before NumPy and the frameworks start their pools.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")

import pytest
from hypothesis import HealthCheck, settings

from rnn_common import twins
from rnn_common.cells import CELLS

settings.register_profile(
    "suite", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


# TensorFlow's graphs are many objects that live on, through which the collector would go again and again: what has outlived some
# tests is left out from then on.
SOME = 50
FINISHED = pytest.StashKey[int]()
gc.disable()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    finished = item.config.stash.get(FINISHED, 0) + 1
    item.config.stash[FINISHED] = finished
    if finished % SOME == 0:
        gc.collect()
        gc.freeze()


# Large tables of tests, whose lines others run too: to count them there would take half as long again.
NOT_COUNTED = {
    "test_extremes",
    "test_field_tf",
    "test_field_torch",
    "test_engines_tf",
    "test_graphs",
    "test_keras_dropin",
    "test_keras_own_suite",
    "test_parity",
    "test_parity_search",
    "test_planted_faults",
    "test_torch_own_suite",
}


# And tables of which each test runs the same lines: the first for either twin counts.
COUNTED_ONCE = {"test_benchmarks", "test_copy_weights", "test_framework", "test_tasks", "test_training"}


# Tables of cells, engines, options and graphs in every combination: of each that has some cases `make test` runs one in four,
# drawn by the table's name, and `make test-all` every one.
WIDE = {
    "test_activations",
    "test_copy_weights",
    "test_engines_tf",
    "test_engines_torch",
    "test_equal_pairs",
    "test_extremes",
    "test_field_tf",
    "test_field_torch",
    "test_keras_dropin",
    "test_operation",
    "test_planted",
    "test_planted_faults",
    "test_torch_dropin",
    "test_torch_own_suite",
    "test_vendor_tf",
}
ONE_IN, OF_SOME = 4, 8

# And smaller ones of long cases.
SLOW = {
    "test_a_hessian_in_a_graph",
    "test_a_project_with_a_common_of_its_own_keeps_it",
    "test_a_task_from_end_to_end",
    "test_every_command_beside_every_fault",
    "test_every_contender_is_right",
    "test_every_kind_of_model_in_lockstep",
    "test_killed_and_resumed",
    "test_many_updates_in_lockstep",
    "test_no_order_of_imports_crashes",
    "test_search_against_the_oracle",
    "test_threads_from_cold",
}

# Tests of minutes, most of them in processes of their own: in `make test-all` alone.
LONG = {
    "test_bench",
    "test_distributed_data_parallel",
    "test_layers_at_once_in_tensorflow",
    "test_mirrored_strategy",
    "test_the_command",
    "test_the_same_bits_with_any_number_of_tensorflows_threads",
    "test_threads_of_tensorflow",
}


def table_of(item: pytest.Item) -> str:
    """The test of which an item is a case."""
    return item.nodeid.partition("[")[0]


def is_apart(item: pytest.Item, place: int, size: int) -> bool:
    """Whether `make test` leaves a case, at that place in a table of that size, to `make test-all`."""
    name = table_of(item).rpartition("::")[2]
    if name in LONG:
        return True
    is_wide = name in SLOW or (item.path.stem in WIDE and size >= OF_SOME)
    return is_wide and place not in drawn(table_of(item), size)


@functools.cache
def drawn(table: str, size: int) -> frozenset[int]:
    return frozenset(random.Random(table).sample(range(size), -(-size // ONE_IN)))


def is_counted(item: pytest.Item, seen: set[tuple[str, str]]) -> bool:
    """Whether pytest-cov counts the lines that a test runs."""
    module, table = item.path.stem, table_of(item)
    twin = str(item.callspec.params.get("twin")) if hasattr(item, "callspec") else ""
    if module in NOT_COUNTED or (module in COUNTED_ONCE and (table, twin) in seen):
        return False
    seen.add((table, twin))
    return True


@pytest.hookimpl(tryfirst=True)  # before those are left out that a mark leaves out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen: set[tuple[str, str]] = set()
    sizes, places = Counter(map(table_of, items)), Counter[str]()
    for item in items:
        table = table_of(item)
        if is_apart(item, places[table], sizes[table]):
            item.add_marker(pytest.mark.wide)
        places[table] += 1
        if not is_counted(item, seen):
            item.add_marker(pytest.mark.no_cover)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    gpu = any("cuda" in twins.get(name).devices() for name in twins.installed())
    for item in marked:
        if not gpu:
            item.add_marker(pytest.mark.skip(reason="no GPU"))


@pytest.fixture(params=["torch", "tf"])
def twin(request: pytest.FixtureRequest) -> twins.Framework:
    """Each twin in turn; skipped where its framework is not installed."""
    if request.param not in twins.installed():
        pytest.skip(f"{request.param} is not installed")
    return twins.get(request.param)


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> str:
    """The name of each cell of the table in turn."""
    return request.param


ENGINES = {name: twins.get(name).engines() for name in twins.installed()}


@pytest.fixture(params=dict.fromkeys(engine for engines in ENGINES.values() for engine in engines))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine in turn; skipped where the twin that is tested, or the module's `TWIN`, has it not."""
    twin = request.getfixturevalue("twin").name if "twin" in request.fixturenames else None
    names = [twin or request.module.TWIN] if twin or hasattr(request.module, "TWIN") else list(ENGINES)
    if not all(request.param in ENGINES[name] for name in names):
        pytest.skip(f"not an engine of rnn_{' and rnn_'.join(names)}")
    if request.param == "vendor" and "tf" in names and "cuda" not in twins.get("tf").devices():
        pytest.skip("cuDNN needs a GPU: rnn_tf would run its engine `reference`")
    return request.param
