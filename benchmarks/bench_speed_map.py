"""A grid of sizes, timed briefly: ours against the best of all others that are right."""

from peers import PEERS
from table import parametrize, speed_map

# JAX compiles each cell anew, which would take minutes.
RIVALS = [peer.name for peer in PEERS if peer.rival and peer.runner != "jax"]


def pytest_generate_tests(metafunc):
    parametrize(metafunc, speed_map(metafunc.config), RIVALS)


def test_speed_map(measure, case, peer):
    measure(case, peer, in_map=True)
