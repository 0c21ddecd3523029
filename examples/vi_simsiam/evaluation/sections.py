"""The sections of a report by name, and the file in a run folder that keeps what is computed.

evaluation.json holds the checkpoint's SHA-256, and for each section its results and the sizes that
they were computed with. A section is computed anew when either has changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from . import correctness, few_labels, retrieval, views
from .features import Features

EXTREMES = 20  # images, as in Figs. 12 and 13
ON_REQUEST = ("few-labels", "scratch")  # which train networks, and so take long
ACROSS = ("entropy",)  # of several runs together: see summary.py


def extremes(features: Features) -> dict[str, Any]:
    """Figs. 1, 10, 12, 13: the surest and the least sure clean test images, and kNN's accuracy on
    the highest and on the lowest hundredth of each confidence."""
    scores, correct = correctness.pooled(features, "knn", "clean")
    n = max(1, len(correct) // 100)
    own = next(iter(scores))
    order = scores[own].argsort(descending=True)
    result: dict[str, Any] = {
        "of": own,
        "n": n,
        "rows": {"highest": order[:EXTREMES].tolist(), "lowest": order.flip(0)[:EXTREMES].tolist()},
    }
    for name, score in scores.items():
        order = score.argsort(descending=True)
        result[name] = {
            "highest": share(correct[order[:n]]), "lowest": share(correct[order[-n:]])
        }  # fmt: skip
    return result


def finite(results: Any) -> Any:
    """NaN and infinity as None, for JSON has neither."""
    if isinstance(results, dict):
        return {key: finite(value) for key, value in results.items()}
    if isinstance(results, list):
        return [finite(value) for value in results]
    return None if isinstance(results, float) and not math.isfinite(results) else results


def share(correct: Tensor) -> float:
    return correct.double().mean().item()


SECTIONS: dict[str, Callable[[Features], dict[str, Any]]] = {
    "knn": correctness.knn,
    "linear": correctness.linear,
    "auroc": correctness.ranking,
    "augrc": correctness.selection,
    "tenths": correctness.tenths,
    "extremes": extremes,
    "augmentations": views.augmentations,
    "crops": views.crops,
    "pairs": views.pairs,
    "calibration": views.calibration,
    "r-auroc": retrieval.r_auroc,
    "ood": retrieval.out_of_distribution,
    "transfer": retrieval.transfer,
    "few-labels": few_labels.pretrained,
    "scratch": few_labels.scratch,
}
NAMES = (*SECTIONS, *ACROSS)
DEFAULT = tuple(name for name in NAMES if name not in ON_REQUEST)
WITH_OTHERS = ("r-auroc", "ood", "transfer")  # these depend on the other data sets at hand
REVISIONS = {"r-auroc": 2, "ood": 2}  # raised when a section's results change


class Sections:
    """The results of one run."""

    def __init__(self, features: Features, fine_tune_epochs: int) -> None:
        self.features, self.epochs = features, fine_tune_epochs
        self.path = features.run.folder / "evaluation.json"
        self.saved: dict[str, Any] = {}
        try:
            state = json.loads(self.path.read_text())
            if state["checkpoint"] == features.run.checkpoint:
                self.saved = state["sections"]
        except (OSError, ValueError, LookupError, TypeError):  # it can be made again
            pass

    def made_with(self, name: str) -> dict[str, Any]:
        made_with = asdict(self.features.sizes)
        if name in ON_REQUEST:
            made_with["epochs"] = self.epochs
        if name in WITH_OTHERS:
            made_with["others"] = list(self.features.others)
        if name in REVISIONS:
            made_with["revision"] = REVISIONS[name]
        return made_with

    def has(self, name: str) -> bool:
        return name in self.saved and self.saved[name]["made_with"] == self.made_with(name)

    def compute(self, name: str) -> None:
        if name in ON_REQUEST:
            results = SECTIONS[name](self.features, self.epochs)
        else:
            results = SECTIONS[name](self.features)
        self.features.save()
        self.saved[name] = {"made_with": self.made_with(name), "results": finite(results)}
        state = {"checkpoint": self.features.run.checkpoint, "sections": self.saved}
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps(state, allow_nan=False) + "\n")
        beside.replace(self.path)

    def results(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: self.saved[name]["results"] for name in names if self.has(name)}
