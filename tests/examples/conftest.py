from __future__ import annotations

import sys

import pytest
from training import EXAMPLES, SCRIPT, TINY, start


@pytest.fixture(scope="session")
def example():
    """The module of train_vi_simsiam.py, imported as the script itself imports its parts."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    sys.path.insert(0, str(EXAMPLES))
    import train_vi_simsiam

    yield train_vi_simsiam
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="session")
def finished(example, tmp_path_factory):
    """A run of twenty steps, as a user starts it: its folder, and what it has printed."""
    out = tmp_path_factory.mktemp("finished")
    run = start(SCRIPT, *TINY, "--out", out)
    assert run.returncode == 0, run.stderr
    return out, run.stdout
