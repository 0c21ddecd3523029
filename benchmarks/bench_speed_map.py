"""A grid of sizes, timed briefly: ours against the best of all others that are right."""

from table import MAP_PEERS, parametrize, speed_map


def pytest_generate_tests(metafunc):
    parametrize(metafunc, speed_map(metafunc.config), MAP_PEERS)


def test_speed_map(measure, case, peer):
    measure(case, peer, in_map=True)
