"""Settings of the whole suite: the same examples in every run, and as long as they take."""

from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
