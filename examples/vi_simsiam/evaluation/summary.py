"""Means and standard deviations over the runs that differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from powerspherical_ext.metrics import permutation_test

from ..markdown import over_seeds
from .features import Features
from .runs import TrainedRun

STEPS = {"step", "total_steps"}


def groups_of(runs: Sequence[TrainedRun]) -> dict[str, list[TrainedRun]]:
    """The runs by method; where a method's runs differ in other settings, the label says which."""

    def decisive(run: TrainedRun) -> dict[str, Any]:
        settings = {key: value for key, value in run.settings.items() if key != "seed"}
        return {**settings, "step": run.step}

    alike: list[list[TrainedRun]] = []
    for run in runs:
        group = next((g for g in alike if decisive(g[0]) == decisive(run)), None)
        if group is None:
            alike.append([run])
        else:
            group.append(run)
    labels = {}
    for group in alike:
        mine = decisive(group[0])
        rivals = [decisive(g[0]) for g in alike if decisive(g[0])["method"] == mine["method"]]
        differing = [key for key in mine if any(r.get(key) != mine[key] for r in rivals)]
        words = [f"{key.replace('_', ' ')} {mine[key]}" for key in differing if key not in STEPS]
        if not STEPS.isdisjoint(differing):
            step, total = mine["step"], mine.get("total_steps", mine["step"])
            words.append(f"{step} steps" if step == total else f"{step} of {total} steps")
        labels[", ".join([mine["method"], *words])] = group
    return labels


def summary(results: Sequence[Any]) -> Any:
    """Dictionaries of the same keys, merged: a number becomes {"mean", "sd", "values"}, a list of
    numbers {"mean", "sd"}. The sd has n - 1 in it, and is None for one run. Words and rows of
    images are left out."""
    first = results[0]
    if isinstance(first, dict):
        shared = [key for key in first if all(isinstance(r, dict) and key in r for r in results)]
        merged = {key: summary([r[key] for r in results]) for key in shared if key != "rows"}
        return {key: value for key, value in merged.items() if value is not None}
    if isinstance(first, list):
        lengths = {len(r) for r in results}
        if len(lengths) > 1 or any(x is None for r in results for x in r):
            return None
        columns = np.array(results, dtype=float)
        sd = columns.std(axis=0, ddof=1).tolist() if len(results) > 1 else None
        return {"mean": columns.mean(axis=0).tolist(), "sd": sd}
    if isinstance(first, str) or any(r is None for r in results):
        return None
    return over_seeds(results)


def entropy_and_kappa(
    runs: Sequence[Features], groups: dict[str, list[TrainedRun]]
) -> list[dict[str, Any]]:
    """Fig. 6: DINO's entropy against the kappa of each run of the same seed, on clean images."""
    label_of = {run.name: label for label, group in groups.items() for run in group}
    scores = {}
    for features in runs:
        scores[features.run.name] = features["test"]["clean"]["scores"]
        features.release()
    seed = {f.run.name: f.run.settings["seed"] for f in runs}
    found = []
    method = {f.run.name: f.run.settings["method"] for f in runs}
    for dino in (name for name in scores if "negative entropy" in scores[name]):
        for other in (name for name in scores if "kappa" in scores[name]):
            if seed[dino] == seed[other]:
                entropy = -scores[dino]["negative entropy"]
                shuffles = runs[0].sizes.shuffles
                test = correlation(entropy, scores[other]["kappa"], shuffles)
                found.append({
                    "dino": dino, "kappa": other, "seed": seed[dino],
                    "groups": [label_of[dino], label_of[other]], "n": len(entropy), **test,
                })  # fmt: skip
    return sorted(found, key=lambda pair: method[pair["kappa"]] != "vi-simsiam")


def correlation(x: Tensor, y: Tensor, n_shuffles: int) -> dict[str, float]:
    """Pearson's correlation of two scores, with a two-sided permutation test."""

    def standardised(x: Tensor) -> Tensor:
        return (x.double() - x.double().mean()) / x.double().std(correction=0)

    def mean_product(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).mean()

    test = permutation_test(
        mean_product,
        standardised(x),
        standardised(y),
        n_shuffles=n_shuffles,
        alternative="two-sided",
        generator=torch.Generator().manual_seed(0),
    )
    return {"correlation": test.statistic, "p": test.p_value}
