"""Evaluates kappa: against kNN's correctness, under damage, and against the observed cosine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from powerspherical_ext.losses import mean_resultant_length
from powerspherical_ext.metrics import auroc, auroc_chance_sd

from .augment import (
    Random,
    add_noise,
    color_jitter,
    gaussian_blur,
    random_cutout,
    random_resized_crop,
)
from .data import ImageSet
from .knn import neighbours, vote
from .methods import Method
from .model import Network, Outputs, embed

MOST_BANK, MOST_TEST = 10_000, 2_000

Damage = Callable[[Tensor, int, Random], Tensor]
TrainingView = Callable[..., Tensor]  # (images, random=...)


def whole(images: Tensor, size: int) -> Tensor:
    """The undamaged image at the size of a view."""
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


DAMAGES: dict[str, Damage] = {
    "clean": lambda x, size, r: whole(x, size),
    "blur": lambda x, size, r: gaussian_blur(whole(x, size), 1.0),
    "colour jitter": lambda x, size, r: color_jitter(whole(x, size), 0.4, 1.0, r),
    "crop 0.05-1": lambda x, size, r: random_resized_crop(x, size, (0.05, 1.0), False, r),
    "crop 0.05-0.2": lambda x, size, r: random_resized_crop(x, size, (0.05, 0.2), False, r),
    "noise 0.5": lambda x, size, r: add_noise(whole(x, size), 0.5, r),
    "cut-out": lambda x, size, r: random_cutout(whole(x, size), (0.5, 0.5), 1.0, r),
}


@dataclass
class Damaged:
    """The test images under one kind of damage."""

    views: Tensor  # (N, C, size, size)
    outputs: Outputs
    scores: dict[str, np.ndarray]  # (N,), the confidences
    correct: np.ndarray  # (N,), True if kNN finds the label


@dataclass
class Evaluation:
    damaged: dict[str, Damaged]
    calibration: Calibration | None
    results: dict[str, object]  # the printed numbers, ready for json


@dataclass
class Calibration:
    """The mean predicted and the mean observed cosine, for each tenth of the predicted ones."""

    predicted: np.ndarray  # (10,)
    observed: np.ndarray  # (10,)

    @property
    def ece(self) -> float:
        return float(np.abs(self.predicted - self.observed).mean())


def evaluate(
    model: Network,
    method: Method,
    data: ImageSet,
    device: torch.device,
    distribution: str | None,
    training_view: TrainingView,
) -> Evaluation:
    """``distribution`` is that of kappa, and ``training_view`` makes a view as in training."""

    def to_float(images: Tensor) -> Tensor:
        return images.to(device).float() / 255

    bank_images = to_float(data.train_images[:MOST_BANK])
    bank = embed(model, whole(bank_images, data.view_size)).y
    bank_labels = data.train_labels[:MOST_BANK]
    n_classes = int(data.train_labels.max()) + 1

    random = Random(device, seed=1)
    images = to_float(data.test_images[:MOST_TEST])
    labels = data.test_labels[:MOST_TEST]
    damaged = {}
    for name, damage in DAMAGES.items():
        views = damage(images, data.view_size, random)
        outputs = embed(model, views)
        predicted = vote(neighbours(bank, bank_labels, outputs.y), n_classes).label
        correct = (predicted.cpu() == labels).numpy()
        scores = {key: score.cpu().numpy() for key, score in confidences(outputs, method).items()}
        damaged[name] = Damaged(views, outputs, scores, correct)

    has_kappa = damaged["clean"].outputs.kappa is not None
    calibration = None
    if has_kappa:
        calibration = calibrate(model, images, training_view, random, distribution)
    results = {
        "knn": accuracies(damaged),
        "auroc": aurocs(damaged),
        "fifths": {
            name: fifths(score, pooled_correct(damaged))
            for name, score in pooled_scores(damaged).items()
        },
    }
    if calibration is not None:
        results["kappa"] = paired_kappas(damaged)
        results["calibration"] = {
            "predicted": calibration.predicted.tolist(),
            "observed": calibration.observed.tolist(),
            "ece": calibration.ece,
        }
    return Evaluation(damaged, calibration, results)


def confidences(outputs: Outputs, method: Method) -> dict[str, Tensor]:
    """The method's own confidence, if it has one, and the lengths of the features, which all have.

    For a method without a predictor mu is z, and stands here once.
    """
    norms = {} if outputs.mu is outputs.z else {"norm of mu": outputs.mu.norm(dim=-1)}
    norms |= {"norm of z": outputs.z.norm(dim=-1), "norm of y": outputs.y.norm(dim=-1)}
    return {**method.confidence(outputs), **norms}


def accuracies(damaged: dict[str, Damaged]) -> dict[str, float]:
    return {
        **{name: float(part.correct.mean()) for name, part in damaged.items()},
        "pooled": float(pooled_correct(damaged).mean()),
    }


def pooled_correct(damaged: dict[str, Damaged]) -> np.ndarray:
    return np.concatenate([part.correct for part in damaged.values()])


def pooled_scores(damaged: dict[str, Damaged]) -> dict[str, np.ndarray]:
    parts = [part.scores for part in damaged.values()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fifths(score: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """The share of right answers in the fifth of the images with the highest score, and lowest."""
    order, n = np.argsort(score, kind="stable"), max(1, len(score) // 5)
    return {
        "highest": float(correct[order[-n:]].mean()),
        "lowest": float(correct[order[:n]].mean()),
    }


def aurocs(damaged: dict[str, Damaged]) -> dict[str, dict[str, float]]:
    """The AUROC of each confidence: it ranks images that kNN gets right against the others.

    "pooled" ranks every test image under every damage, and clean, together. "chance_sd" is the
    standard deviation that the AUROC of a random score has around 0.5.
    """
    clean = rankings(damaged["clean"].scores, damaged["clean"].correct)
    every = rankings(pooled_scores(damaged), pooled_correct(damaged))
    return {name: {"clean": clean[name], "pooled": every[name]} for name in clean}


def rankings(scores: dict[str, np.ndarray], correct: np.ndarray) -> dict[str, float]:
    if correct.all() or not correct.any():  # no AUROC exists
        return dict.fromkeys([*scores, "chance_sd"], float("nan"))
    table = {name: auroc(score, correct) for name, score in scores.items()}
    return {**table, "chance_sd": auroc_chance_sd(correct)}


def paired_kappas(damaged: dict[str, Damaged]) -> dict[str, dict[str, float]]:
    """Compares kappa of each damaged image with kappa of the same image without damage."""
    clean = damaged["clean"].outputs.kappa
    return {
        name: {
            "mean": part.outputs.kappa.mean().item(),
            "sd": part.outputs.kappa.std().item(),
            "below_clean": (part.outputs.kappa < clean).float().mean().item(),
        }
        for name, part in damaged.items()
    }


def calibrate(
    model: Network,
    images: Tensor,
    training_view: TrainingView,
    random: Random,
    distribution: str,
    repeats: int = 4,
) -> Calibration:
    """Compares E[t], the cosine that kappa expects, with mu . z of two views.

    The comparison needs no label, and so can be made during training.
    """
    pairs = [view_pair(model, images, training_view, random) for _ in range(repeats)]
    predicted = torch.cat([expected_cosine(first, distribution) for first, _ in pairs])
    return by_tenths(predicted, torch.cat([cosine(first, second) for first, second in pairs]))


def view_pair(
    model: Network, images: Tensor, training_view: TrainingView, random: Random
) -> tuple[Outputs, Outputs]:
    """The outputs of two views of each image."""
    first, second = (embed(model, training_view(images, random=random)) for _ in range(2))
    return first, second


def expected_cosine(first: Outputs, distribution: str) -> Tensor:
    return mean_resultant_length(first.kappa, first.mu.shape[-1], distribution=distribution)


def cosine(first: Outputs, second: Outputs) -> Tensor:
    """The observed cosine mu . z of the first view's prediction with the second's projection."""
    return F.cosine_similarity(first.mu, second.z)


def by_tenths(predicted: Tensor, observed: Tensor) -> Calibration:
    t_hat, t = predicted.cpu().numpy(), observed.cpu().numpy()
    tenths = np.array_split(np.argsort(t_hat), 10)
    return Calibration(
        np.array([t_hat[i].mean() for i in tenths]), np.array([t[i].mean() for i in tenths])
    )
