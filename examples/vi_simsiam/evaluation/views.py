"""What views do to a confidence: Table 3, Table 5, Fig. 11, and calibration without labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from powerspherical_ext.metrics import rank_correlation

from ..evaluate import by_tenths
from ..knn import neighbours, vote
from .features import Features
from .linear import predict_linear


def augmentations(features: Features) -> dict[str, Any]:
    """Table 3: the mean over five draws of each image; then the mean and sd over the images."""
    parts = features["augmentations"]
    table = {}
    for kind, scores in parts.items():
        table[kind] = {}
        for name, draws in scores.items():
            clean = parts["clean"][name]
            table[kind][name] = {
                "mean": draws.mean().item(),
                "sd": draws.mean(dim=0).std().item(),
                "over_clean": (draws.mean() / clean.mean()).item(),
                "below_clean": (draws < clean).double().mean().item(),
            }
    return {"n": next(iter(parts["clean"].values())).shape[1], "draws": draws.shape[0], **table}


def crops(features: Features) -> dict[str, Any]:
    """Table 5: the surest of 30 crops; and features pooled over all 30, weighted by a confidence.

    A weight is the share of a crop in the sum of the 30 confidences; for a negative entropy it is
    the softmax over the crops.
    """
    part = features["crops"]
    y = part["y"].to(features.device)  # (n, 30, D)
    n = len(y)
    clean = features["test"]["clean"]
    views = {
        "whole image": clean["y"][:n].to(features.device),
        "one crop": y[:, 0],
        "mean of 30 crops": y.mean(dim=1),
    }
    chosen = torch.arange(n, device=y.device)
    for name, score in part["scores"].items():
        score = score.to(y.device)
        views[f"crop of highest {name}"] = y[chosen, score.argmax(dim=1)]
        weights = score if bool((score > 0).all()) else score.softmax(dim=1)
        weights = weights / weights.sum(dim=1, keepdim=True)
        views[f"30 crops weighted by {name}"] = (weights.unsqueeze(-1) * y).sum(dim=1)
    label = features["test"]["label"][:n]
    result: dict[str, Any] = {"n": n, "accuracy": {}}
    for name, x in views.items():
        answers = {"knn": knn_label(features, x), "linear": linear_label(features, x)}
        result["accuracy"][name] = {
            classifier: (answer == label).double().mean().item()
            for classifier, answer in answers.items()
        }
    result["confidence"] = {
        name: {
            "whole image": scores[:n].mean().item(),
            "highest crop": part["scores"][name].max(dim=1).values.mean().item(),
        }
        for name, scores in clean["scores"].items()
    }
    return result


def knn_label(features: Features, y: Tensor) -> Tensor:
    train, k = features["train"], features["knn"]["tuned"]["k"]
    near = neighbours(train["y"].to(y.device), train["label"], y, k)
    return vote(near, features.n_classes, k).label.cpu()


def linear_label(features: Features, y: Tensor) -> Tensor:
    return predict_linear(features["linear"]["fitted"], y).label.cpu()


def pairs(features: Features) -> dict[str, Any]:
    """Fig. 11: quartiles of the cosine of two random views of an image."""
    part = features["pairs"]
    return {
        "n": len(part["cosine"]),
        **{key: quartiles(part[key]) for key in ("cosine", "cosine of y")},
    }


def quartiles(x: Tensor) -> dict[str, float]:
    at = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    values = torch.quantile(x.double(), at).tolist()
    return dict(zip(("lower quartile", "median", "upper quartile"), values, strict=True))


def calibration(features: Features) -> dict[str, Any]:
    """The cosine that kappa expects beside the one of two views, by tenths of the former.

    Also the rank correlation of each confidence with that cosine: no baseline expects a cosine,
    but each may order the images by it.
    """
    part = features["pairs"]
    result: dict[str, Any] = {
        "n": len(part["cosine"]),
        "correlation": {
            name: correlation(score, part["cosine"]) for name, score in part["scores"].items()
        },
    }
    if "expected" in part:
        by = by_tenths(part["expected"], part["cosine"])
        result |= {
            "expected": by.predicted.tolist(), "observed": by.observed.tolist(), "ece": by.ece
        }  # fmt: skip
    return result


def correlation(x: Tensor, y: Tensor) -> float | None:
    """None for a constant confidence, such as the vote share of one neighbour."""
    return None if x.min() == x.max() else rank_correlation(x, y)
