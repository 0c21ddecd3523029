"""The VI-SimSiam loss of a pair of views, both directions, from raw projections to gradients."""

from table import parametrize, suite


def pytest_generate_tests(metafunc):
    parametrize(metafunc, suite(("loss",), metafunc.config))


def test_loss(measure, case, peer):
    measure(case, peer)
