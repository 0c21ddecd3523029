"""Densities and samples of a batch of distributions, one a row, built and used as a model does."""

from table import VARIANT_PEERS, parametrize, suite, sums, variants


def pytest_generate_tests(metafunc):
    if metafunc.function is test_distribution:
        quantities = ("log_prob", "log_prob of one law", "rsample")
        parametrize(metafunc, suite(quantities, metafunc.config))
    elif metafunc.function is test_sums_over_rows:
        parametrize(metafunc, sums(metafunc.config))
    else:
        parametrize(metafunc, variants(metafunc.config), VARIANT_PEERS)


def test_distribution(measure, case, peer):
    measure(case, peer)


def test_sums_over_rows(measure, case, peer):
    measure(case, peer)


def test_dtype_or_threads(measure, case, peer):
    measure(case, peer)
