"""Every cell in both twins against the oracle, the built-in layer and the other twin: outputs, final state, all gradients.

The bounds are those of the numerical contract (`rnn_common.parity.contract.bounds`): in float64 1e-13 for outputs and states and
1e-12 for gradients, times the largest |pre-activation| where that is above 1; in float32 twice the built-in layer's own
error and a few units in the last place.
"""

import pytest

from rnn_common import twins
from rnn_common.cells import CELLS
from rnn_common.parity.case import run_oracle
from rnn_common.parity.contract import bounds, deviations
from tests.cases import SHAPES, check_against_oracle, make, run

every_case = pytest.mark.parametrize(("cell", "shape"), [(cell, shape) for cell in CELLS for shape in SHAPES])


@every_case
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_against_the_oracle(twin, cell, shape, engine, dtype):
    check_against_oracle(twin, make(cell, shape, dtype=dtype), engine)


@every_case
def test_against_the_built_in_layer(twin, cell, shape, engine):
    case = make(cell, shape)
    if not twin.has_builtin(case.parameters):
        with pytest.raises(ValueError, match="no GRU v3"):
            twin.make(case.parameters, builtin=True)
        return
    found = deviations(run(twin, case, engine=engine), run(twin, case, builtin=True))
    assert found.within(bounds("float64", run_oracle(case).largest_pre_activation)), found


@every_case
def test_against_the_other_twin(cell, shape, engine):
    if twins.installed() != ("torch", "tf"):
        pytest.skip("needs both frameworks")
    case = make(cell, shape)
    torch, tf = (run(twins.get(name), case, engine=engine) for name in ("torch", "tf"))
    found = deviations(torch, tf)
    assert found.within(bounds("float64", run_oracle(case).largest_pre_activation)), found


def test_without_biases(twin, cell, engine):
    case = make(cell, "ragged", bias=False)
    check_against_oracle(twin, case, engine)
    assert not any(name.startswith("b_") for name in run(twin, case, engine=engine).gradients)


@pytest.mark.gpu
@every_case
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_on_a_gpu(twin, cell, shape, engine, dtype):
    if "cuda" not in twin.devices():
        pytest.skip(f"{twin.package} sees no GPU")
    case = make(cell, shape, dtype=dtype)
    expected, largest, _ = run_oracle(case)
    found = deviations(twin.run(twin.make(case.parameters, engine=engine, device="cuda"), case), expected)
    error = None
    if twin.has_builtin(case.parameters):
        error = deviations(twin.run(twin.make(case.parameters, builtin=True, device="cuda"), case), expected)
    assert found.within(bounds(dtype, largest, error)), found
