r"""Measures of a confidence: they tell whether right answers have a higher kappa than wrong ones.

Most functions take a score, which is one number for each sample and higher for more confident, and
the correctness of each answer. kappa, the length of a feature and minus an entropy are such scores.
`url_report` takes embeddings and labels, and gives all figures of the URL benchmark. `bootstrap`
gives an interval to any of the measures.

Inputs are tensors, NumPy arrays or sequences of N numbers. The computation runs in float64 on the
device of the score, in plain torch, and nothing carries gradients. The package therefore does not
need scikit-learn, whose `roc_auc_score` and `LogisticRegression` the tests compare with.
"""

from .accuracy import AccuracyByBin, LogisticFit, accuracy_by_bin, logistic_regression
from .agreement import cropped_has_bigger_uncertainty, entropy_correlation, rank_correlation
from .bootstrap import ConfidenceInterval, bootstrap
from .permutation import PermutationTest, permutation_test
from .ranking import auroc, auroc_chance_sd, fpr_at_tpr, ood_auroc
from .retrieval import r_auroc, recall_at_1
from .selective import RiskCoverage, augrc, coverage_at_risk, risk_at_coverage, risk_coverage
from .url import URLReport, url_report

__all__ = [
    "AccuracyByBin",
    "ConfidenceInterval",
    "LogisticFit",
    "PermutationTest",
    "RiskCoverage",
    "URLReport",
    "accuracy_by_bin",
    "augrc",
    "auroc",
    "auroc_chance_sd",
    "bootstrap",
    "coverage_at_risk",
    "cropped_has_bigger_uncertainty",
    "entropy_correlation",
    "fpr_at_tpr",
    "logistic_regression",
    "ood_auroc",
    "permutation_test",
    "r_auroc",
    "rank_correlation",
    "recall_at_1",
    "risk_at_coverage",
    "risk_coverage",
    "url_report",
]
