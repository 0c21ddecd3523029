"""The VI-SimSiam loss of a pair of views, both directions, from raw projections to gradients."""

from table import parametrize
from work import LOSS_SIZES


def pytest_generate_tests(metafunc):
    parametrize(metafunc, ("loss",), LOSS_SIZES)


def test_loss(measure, case, peer):
    measure(case, peer)
