"""Densities and samples of a batch of distributions, one a row, built and used as a model does."""

from table import VARIANT_PEERS, parametrize, suite, variants
from work import QUANTITIES


def pytest_generate_tests(metafunc):
    if metafunc.function is test_distribution:
        quantities = [quantity for quantity in QUANTITIES if quantity != "loss"]
        parametrize(metafunc, suite(quantities, metafunc.config))
    else:
        parametrize(metafunc, variants(metafunc.config), VARIANT_PEERS)


def test_distribution(measure, case, peer):
    measure(case, peer)


def test_dtype_or_threads(measure, case, peer):
    measure(case, peer)
