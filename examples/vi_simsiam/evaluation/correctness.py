"""How often the classifiers are right, and which confidence tells when: Figs. 4, 5, 9, Table 4."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.metrics import roc_curve
from torch import Tensor

from powerspherical_ext.metrics import (
    augrc,
    auroc,
    auroc_chance_sd,
    logistic_regression,
    permutation_test,
)

from ..evaluate import DAMAGES
from .features import Features

CLASSIFIERS = {"knn": "vote share", "linear": "linear probability"}  # and their own confidences
TESTS = ("clean", "damaged")  # damaged: every test image under every kind of damage, and clean
ROC_GRID = np.linspace(0, 1, 51)
FIT_SHUFFLES = 200  # of the slope, whose fit takes longer than an AUROC


def knn(features: Features) -> dict[str, Any]:
    tuned = features["knn"]["tuned"]
    found = {"k": tuned["k"], "ks": tuned["ks"], "accuracy_by_k": tuned["accuracy"]}
    return {**found, **accuracies(features, "knn")}


def linear(features: Features) -> dict[str, Any]:
    fitted = features["linear"]["fitted"]
    return {
        "epochs": len(fitted["accuracy"]),
        "best_epoch": fitted["best_epoch"],
        "held_out_accuracy": max(fitted["accuracy"]),
        **accuracies(features, "linear"),
    }


def accuracies(features: Features, classifier: str) -> dict[str, Any]:
    correct = {kind: right(features, classifier, kind) for kind in DAMAGES}
    table = {kind: c.float().mean().item() for kind, c in correct.items()}
    pooled = torch.cat(list(correct.values())).float().mean().item()
    return {"n": len(correct["clean"]), "accuracy": {**table, "damaged": pooled}}


def right(features: Features, classifier: str, kind: str) -> Tensor:
    return features[classifier][kind]["label"] == features["test"]["label"]


def confidences(features: Features, classifier: str, kind: str) -> dict[str, Tensor]:
    """The network's confidences; the similarity of the nearest neighbour; the classifier's own."""
    return {
        **features["test"][kind]["scores"],
        "nearest similarity": features["knn"][kind]["nearest"],
        CLASSIFIERS[classifier]: features[classifier][kind]["share"],
    }


def pooled(features: Features, classifier: str, test: str) -> tuple[dict[str, Tensor], Tensor]:
    """Confidences and correctness of the clean, or of all damaged and clean, test images."""
    kinds = ["clean"] if test == "clean" else list(DAMAGES)
    correct = torch.cat([right(features, classifier, kind) for kind in kinds])
    each = [confidences(features, classifier, kind) for kind in kinds]
    return {name: torch.cat([part[name] for part in each]) for name in each[0]}, correct


def ranking(features: Features) -> dict[str, Any]:
    """AUROCs with p-values and ROC curves, for both classifiers."""
    result: dict[str, Any] = {"false_positive_rates": ROC_GRID.tolist()}
    for classifier in CLASSIFIERS:
        for test in TESTS:
            scores, correct = pooled(features, classifier, test)
            table = {"n": len(correct), "chance_sd": chance_sd(correct), "confidences": {}}
            for name, score in scores.items():
                table["confidences"][name] = one_ranking(score, correct, features.sizes.shuffles)
            result.setdefault(classifier, {})[test] = table
    return result


def one_ranking(score: Tensor, correct: Tensor, n_shuffles: int) -> dict[str, Any]:
    if correct.all() or not correct.any():  # there is nothing to rank
        return {"auroc": None, "p": None, "true_positive_rates": None}
    false_positives, true_positives, _ = roc_curve(correct.numpy(), score.numpy())
    curve = np.interp(ROC_GRID, false_positives, true_positives)
    return {
        "auroc": auroc(score, correct),
        "p": p_of_auroc(score, correct, n_shuffles),
        "true_positive_rates": curve.round(4).tolist(),
    }


def p_of_auroc(score: Tensor, correct: Tensor, n_shuffles: int) -> float:
    """Appendix J. The sum of the ranks of the right answers orders shuffles as the AUROC does."""
    ranks = torch.from_numpy(rankdata(score.numpy()))
    generator = torch.Generator().manual_seed(0)

    def rank_sum(ranks: Tensor, correct: Tensor) -> Tensor:
        return ranks[correct].sum()

    return permutation_test(
        rank_sum, ranks, correct, n_shuffles=n_shuffles, generator=generator
    ).p_value


def chance_sd(correct: Tensor) -> float | None:
    return auroc_chance_sd(correct) if 0 < correct.sum() < len(correct) else None


def selection(features: Features) -> dict[str, Any]:
    """The AUGRC of every confidence, for both classifiers, beside those of a random confidence and
    of one that has every right answer above every wrong one."""
    result: dict[str, Any] = {}
    for classifier in CLASSIFIERS:
        for test in TESTS:
            scores, correct = pooled(features, classifier, test)
            wrong = 1 - correct.double().mean().item()
            result.setdefault(classifier, {})[test] = {
                "n": len(correct),
                "random": wrong / 2,
                "perfect": wrong**2 / 2,
                "confidences": {name: augrc(score, correct) for name, score in scores.items()},
            }
    return result


def tenths(features: Features) -> dict[str, Any]:
    """On the clean images: accuracy by tenths of a confidence, a logistic regression on it, and its
    mean where the answer is right and where it is wrong (Fig. 9, Table 4)."""
    result = {}
    for classifier in CLASSIFIERS:
        scores, correct = pooled(features, classifier, "clean")
        result[classifier] = {
            name: {
                "accuracy": in_tenths(score, correct),
                "right": mean_and_sd(score[correct]),
                "wrong": mean_and_sd(score[~correct]),
                **regression(score, correct, min(FIT_SHUFFLES, features.sizes.shuffles)),
            }
            for name, score in scores.items()
        }
    return result


def in_tenths(score: Tensor, correct: Tensor) -> list[float]:
    """From the lowest confidence on. Each of several images of equal confidence counts as right in
    the share of them that is, so that their order does not matter."""
    _, group, size = torch.unique(score, return_inverse=True, return_counts=True)
    right = torch.bincount(group, weights=correct.double()) / size
    return [part.mean().item() for part in right[group.sort().values].tensor_split(10)]


def mean_and_sd(x: Tensor) -> dict[str, float]:
    return {"mean": x.mean().item(), "sd": x.std().item()}


def regression(score: Tensor, correct: Tensor, n_shuffles: int) -> dict[str, float | None]:
    """The slope for one standard deviation of the confidence; None if no finite one exists."""

    def slope(score: Tensor, correct: Tensor) -> float:
        return logistic_regression(score, correct).slope

    try:
        test = permutation_test(
            slope,
            score,
            correct,
            n_shuffles=n_shuffles,
            generator=torch.Generator().manual_seed(0),
        )
    except (ValueError, RuntimeError):
        return {"slope": None, "p": None}
    return {"slope": test.statistic, "p": test.p_value}
