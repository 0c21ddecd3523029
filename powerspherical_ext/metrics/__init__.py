r"""Measures of a confidence: they tell whether right answers have a higher kappa than wrong ones.

Each function takes a score, which is one number for each sample and higher for more confident, and
the correctness of each answer. kappa, the length of a feature and minus an entropy are such scores.

Inputs are tensors, NumPy arrays or sequences of N numbers. The computation runs in float64 on the
device of the score, in plain torch, and nothing carries gradients. The package therefore does not
need scikit-learn, whose `roc_auc_score` and `LogisticRegression` the tests compare with.
"""

from .accuracy import AccuracyByBin, LogisticFit, accuracy_by_bin, logistic_regression
from .permutation import PermutationTest, permutation_test
from .ranking import RiskCoverage, auroc, auroc_chance_sd, risk_coverage
from .retrieval import r_auroc, recall_at_1

__all__ = [
    "AccuracyByBin",
    "LogisticFit",
    "PermutationTest",
    "RiskCoverage",
    "accuracy_by_bin",
    "auroc",
    "auroc_chance_sd",
    "logistic_regression",
    "permutation_test",
    "r_auroc",
    "recall_at_1",
    "risk_coverage",
]
