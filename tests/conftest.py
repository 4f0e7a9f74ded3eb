"""What all tests share: a quiet TensorFlow, one thread a worker, deterministic Hypothesis, GPU tests skipped without one."""

import gc
import os

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


def is_counted(item: pytest.Item, seen: set[tuple[str, str]]) -> bool:
    """Whether pytest-cov counts the lines that a test runs."""
    module, table = item.path.stem, item.nodeid.partition("[")[0]
    twin = str(item.callspec.params.get("twin")) if hasattr(item, "callspec") else ""
    if module in NOT_COUNTED or (module in COUNTED_ONCE and (table, twin) in seen):
        return False
    seen.add((table, twin))
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen: set[tuple[str, str]] = set()
    for item in items:
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
