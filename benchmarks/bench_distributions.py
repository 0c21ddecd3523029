"""Densities and samples of a batch of distributions, one a row, built and used as a model does."""

from table import parametrize
from work import SIZES


def pytest_generate_tests(metafunc):
    parametrize(metafunc, ("log_prob", "rsample"), SIZES)


def test_distribution(measure, case, peer):
    measure(case, peer)
