"""R-AUROC, other data sets as out of distribution, and transfer to them (Table 7's protocol)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from powerspherical_ext.metrics import auroc, recall_at_1

from ..knn import neighbours, vote
from .correctness import confidences, p_of_auroc
from .features import Features, held_out, tuned_knn
from .linear import fit_linear, predict_linear


def r_auroc(features: Features) -> dict[str, Any]:
    """Kirchhof et al. (2023): does a confidence tell whether the nearest test image is of the same
    class? On clean test images, of the run's data and of the others. The nearest similarity is
    that of this test image; the classifiers' own confidences are about the run's classes."""
    own = features["test"]
    sets = {features.data.name: (own["clean"]["y"], own["label"], on_clean(features))}
    for name in features.others:
        test = features[f"other {name}"]["test"]
        sets[name] = (test["y"], test["label"], on_other(features, name))
    result = {}
    for name, (y, label, scores) in sets.items():
        correct = recall_at_1(y, label)
        near = neighbours(y, label, y, 2).similarity[:, 1]  # the first is the image itself
        scores = {**scores, "nearest similarity": near}
        result[name] = {
            "n": len(y),
            "recall at 1": correct.double().mean().item(),
            "confidences": rankings(scores, correct, features.sizes.shuffles),
        }
    return result


def out_of_distribution(features: Features) -> dict[str, Any]:
    """Are the run's own test images surer than those of another data set?"""
    own = on_clean(features)
    result = {}
    for name in features.others:
        scores = on_other(features, name)
        both = {key: torch.cat([own[key], score]) for key, score in scores.items()}
        inside = torch.arange(len(both["norm of y"])) < len(own["norm of y"])
        result[name] = {
            "n": len(scores["norm of y"]),
            "confidences": rankings(both, inside, features.sizes.shuffles),
        }
    return result


def on_clean(features: Features) -> dict[str, Tensor]:
    """All confidences of the run's own clean test images."""
    return confidences(features, "knn", "clean") | confidences(features, "linear", "clean")


def on_other(features: Features, name: str) -> dict[str, Tensor]:
    """All confidences of the test images of another data set."""
    test = features[f"other {name}"]["test"]
    return test["scores"] | features.free(test["y"].to(features.device))


def rankings(scores: dict[str, Tensor], correct: Tensor, n_shuffles: int) -> dict[str, Any]:
    if correct.all() or not correct.any():
        return {name: {"auroc": None, "p": None} for name in scores}
    return {
        name: {"auroc": auroc(s, correct), "p": p_of_auroc(s, correct, n_shuffles)}
        for name, s in scores.items()
    }


def transfer(features: Features) -> dict[str, Any]:
    """Linear evaluation and kNN, trained and tested on another data set; the encoder is frozen."""
    result = {}
    for name in features.others:
        part = features[f"other {name}"]
        y, label = part["train"]["y"].to(features.device), part["train"]["label"]
        test_y, test_label = part["test"]["y"].to(features.device), part["test"]["label"]
        n_classes = int(label.max()) + 1
        fitted = fit_linear(y, label.to(y.device), n_classes, *held_out(len(y)))
        k = tuned_knn(y, label, n_classes)["k"]
        answers = {
            "linear": predict_linear(fitted, test_y),
            "knn": vote(neighbours(y, label, test_y, k), n_classes, k),
        }
        result[name] = {
            "n_train": len(y),
            "n": len(test_y),
            "k": k,
            **{
                key: (answer.label.cpu() == test_label).double().mean().item()
                for key, answer in answers.items()
            },
        }
    return result
