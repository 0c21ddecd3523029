"""Each cell of the table of docs/torch.md is what happens."""

from __future__ import annotations

import re

import pytest
from cases import needs_kernels
from torch_matrix import EMPTY, FEATURES, SUBJECTS, can_run, committed, outcome

SLOW = ("compile", "onnx", "export", "make_fx", "pyro", "jvp")

# Cells that say no, and the error that a user meets.
ERRORS = {
    **{
        ("fx", name): "no: TypeError: .*: loc must be a tensor, got Proxy"
        for name in ("PowerSpherical", "VonMisesFisher", "SphericalCauchy")
    },
    **{
        ("second", name): "no: RuntimeError: rsample has no second derivative"
        for name in ("PowerSpherical", "VonMisesFisher", "SphericalCauchy")
    },
    ("fx", "HypersphericalUniform"): "no: TraceError: symbolically traced variables cannot be used",
    ("inference", "heads"): "no: RuntimeError: Inference tensors cannot be saved for backward",
}


def test_the_table_has_all_cells():
    assert committed().keys() == {(f, s) for f in FEATURES for s in SUBJECTS}
    assert {cell for cell, value in committed().items() if value == "no"} == ERRORS.keys()
    assert {cell for cell, value in committed().items() if not value} == EMPTY


@needs_kernels
@pytest.mark.filterwarnings("ignore")  # of torch's tracers
@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize(
    "feature", [pytest.param(f, marks=pytest.mark.slow if f in SLOW else ()) for f in FEATURES]
)
def test_cells(feature, subject):
    if not can_run(feature):
        pytest.skip(f"needs {' and '.join(FEATURES[feature][2])}")
    actual = outcome(feature, subject)
    expected = committed()[feature, subject]
    assert re.match(ERRORS[feature, subject] if expected == "no" else f"{expected}$", actual)
