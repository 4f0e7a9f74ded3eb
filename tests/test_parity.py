"""Every cell in both twins against the oracle, the built-in layer and the other twin: outputs, final state, all gradients.

The bounds are those of the numerical contract (`rnn_common.parity.contract.bounds`): in float64 1e-13 for outputs and states and
1e-12 for gradients, times the largest |pre-activation| where that is above 1; in float32 twice the built-in layer's own
error and a few units in the last place.
"""

import pytest

from cases import SHAPES, check_against_oracle, make, run
from rnn_common import twins
from rnn_common.cells import CELLS
from rnn_common.parity.case import run_oracle
from rnn_common.parity.contract import bounds, deviations

every_case = pytest.mark.parametrize(("form", "shape"), [(form, shape) for form in CELLS for shape in SHAPES])
each_engine = pytest.mark.parametrize("engine", ["reference", "fused"])


@every_case
@each_engine
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_against_the_oracle(twin, form, shape, engine, dtype):
    check_against_oracle(twin, make(form, shape, dtype=dtype), engine)


@every_case
@each_engine
def test_against_the_built_in_layer(twin, form, shape, engine):
    case = make(form, shape)
    if not twin.has_builtin(case.parameters):
        with pytest.raises(ValueError, match="no GRU v3"):
            twin.make(case.parameters, builtin=True)
        return
    found = deviations(run(twin, case, engine=engine), run(twin, case, builtin=True))
    assert found.within(bounds("float64", run_oracle(case).largest_pre_activation)), found


@every_case
@each_engine
def test_against_the_other_twin(form, shape, engine):
    if twins.installed() != ("torch", "tf"):
        pytest.skip("needs both frameworks")
    case = make(form, shape)
    torch, tf = (run(twins.get(name), case, engine=engine) for name in ("torch", "tf"))
    found = deviations(torch, tf)
    assert found.within(bounds("float64", run_oracle(case).largest_pre_activation)), found


@pytest.mark.parametrize("form", CELLS)
@each_engine
def test_without_biases(twin, form, engine):
    case = make(form, "ragged", bias=False)
    check_against_oracle(twin, case, engine)
    assert not any(name.startswith("b_") for name in run(twin, case, engine=engine).gradients)


@pytest.mark.gpu
@every_case
@each_engine
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_on_a_gpu(twin, form, shape, engine, dtype):
    if "cuda" not in twin.devices():
        pytest.skip(f"{twin.package} sees no GPU")
    case = make(form, shape, dtype=dtype)
    expected, largest, _ = run_oracle(case)
    found = deviations(twin.run(twin.make(case.parameters, engine=engine, device="cuda"), case), expected)
    error = None
    if twin.has_builtin(case.parameters):
        error = deviations(twin.run(twin.make(case.parameters, builtin=True, device="cuda"), case), expected)
    assert found.within(bounds(dtype, largest, error)), found
