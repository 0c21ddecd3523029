"""Settings of the whole suite: the same examples in every run, and as long as they take."""

import pytest
from hypothesis import settings
from torch.distributions import Distribution

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def _validated_arguments() -> None:
    """torch.compile switches the validation of all distributions off for the whole process."""
    Distribution.set_default_validate_args(True)
