"""Tests of hypotheses: are these directions uniform, and does this distribution describe them?

Each test takes batches, and returns a :class:`HypothesisTest` with a p-value for each. Under the
hypothesis a p-value is below 0.05 in one of twenty tests.
"""

from .cosine import goodness_of_fit_test
from .result import HypothesisTest
from .uniformity import bingham_test, rayleigh_test

__all__ = ["HypothesisTest", "bingham_test", "goodness_of_fit_test", "rayleigh_test"]
