"""Settings of the whole suite: the same examples in every run, and as long as they take.

README.md is the map of the folders.
"""

import os

import pytest
import torch
from hypothesis import settings
from torch.distributions import Distribution

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")

# The tensors are small, and the cores are shared, so that more threads would wait for each other.
# A test of threads sets their number.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start


@pytest.fixture(autouse=True)
def _validated_arguments() -> None:
    """torch.compile switches the validation of all distributions off for the whole process."""
    Distribution.set_default_validate_args(True)
