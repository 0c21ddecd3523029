"""What a network makes of the images, computed once and saved beside its checkpoint.

features.pt is a dictionary: "checkpoint" (the SHA-256 of the file), "sizes" and "parts". All
numbers of a report but those of fine-tuning follow from the parts:

    train           rows of the training images; y (M, D) and label (M,) of whole images
    test            rows of the test images, label (N,); y (N, D) and scores, the confidences, for
                    each kind of damage
    knn, linear     the classifiers, and label and share (N,) for each kind of damage
    augmentations   for each kind: the confidences of several draws, (draws, N)
    pairs           cosines of two views of an image, and the confidences of the first
    crops           y and confidences of 30 crops of the first test images
    other NAME      train and test images of another data set

Each part draws from a seed of its own, so that it is the same whichever parts are asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..augment import Random, random_grayscale, random_resized_crop, training_views
from ..checkpoint import CheckpointError, parts, write
from ..data import ImageSet
from ..evaluate import DAMAGES, confidences, cosine, expected_cosine, view_pair, whole
from ..knn import Neighbours, neighbours, vote
from ..model import Outputs, embed
from .linear import fit_linear, predict_linear
from .runs import EvaluationError, TrainedRun

CHUNK = 2000  # images in memory as floats
DRAWS, CROPS, CROP_SCALE = 5, 30, (0.08, 1.0)  # section 6.5, Appendix E, and SimSiam's crops
KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)


@dataclass(frozen=True)
class Sizes:
    """The largest numbers of images, pairs and permutations."""

    train: int = 60_000
    test: int = 10_000
    augmented: int = 2_000
    cropped: int = 2_000
    pairs: int = 20_000
    shuffles: int = 1_000


QUICK = Sizes(train=5_000, test=1_000, augmented=300, cropped=200, pairs=2_000, shuffles=200)


class Features:
    """The parts of one run, read from features.pt or computed when they are asked for."""

    def __init__(
        self,
        run: TrainedRun,
        data: ImageSet,
        others: dict[str, ImageSet],
        sizes: Sizes,
        device: torch.device,
    ) -> None:
        self.run, self.data, self.others, self.sizes, self.device = run, data, others, sizes, device
        self.path = run.folder / "features.pt"
        self.made_with = {"checkpoint": run.checkpoint, "sizes": asdict(sizes)}
        self.parts: dict[str, Any] | None = None  # not read yet
        self.changed = False

    def __getitem__(self, name: str) -> Any:
        if self.parts is None:
            self.parts = self._saved()
        if name not in self.parts:
            kind, _, argument = name.partition(" ")
            arguments = (argument,) if argument else ()
            self.parts[name] = PARTS[kind](self, self._random(name), *arguments)
            self.changed = True
        return self.parts[name]

    def save(self) -> None:
        if self.changed:
            write({**self.made_with, "parts": self.parts}, self.path)
            self.changed = False

    def release(self) -> None:
        """Frees the memory."""
        self.save()
        self.parts = None

    def _saved(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {}
        try:
            saved = parts(self.path, (*self.made_with, "parts"))
        except CheckpointError:  # it can be made again
            return {}
        same = all(saved[key] == value for key, value in self.made_with.items())
        return saved["parts"] if same else {}

    @property
    def n_classes(self) -> int:
        return int(self.data.train_labels.max()) + 1

    def test_rows(self, n: int) -> Tensor:
        """The first n of the test images in a random order, alike for all runs."""
        return some_rows(len(self.data.test_images), self.sizes.test)[:n]

    def chunks(self, images: Tensor) -> Iterator[Tensor]:
        """uint8 images as floats on the device, of as many channels as the network takes."""
        for chunk in images.split(CHUNK):
            x = chunk.to(self.device).float() / 255
            channels = self.run.settings["channels"]
            if x.shape[1] != channels:
                x = x.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
            yield x

    def embed(
        self, images: Tensor, damage: Callable[..., Tensor], random: Random, free: bool = False
    ) -> dict[str, Any]:
        """y and the confidences of all images under one kind of damage; also the ``free`` ones."""
        ys, scores = [], []
        for x in self.chunks(images):
            out = embed(self.run.network, damage(x, self.run.settings["view_size"], random))
            ys.append(out.y.cpu())
            scores.append(self.scores(out) | (self.free(out.y) if free else {}))
            if not all(bool(part.isfinite().all()) for part in (ys[-1], *scores[-1].values())):
                raise EvaluationError(
                    f"the network of {self.run.folder} has NaN features: its training has diverged"
                )
        return {"y": torch.cat(ys), "scores": joined(scores)}

    def scores(self, out: Outputs) -> dict[str, Tensor]:
        return {name: score.cpu() for name, score in confidences(out, self.run.method).items()}

    def free(self, y: Tensor) -> dict[str, Tensor]:
        """The confidences that come from the classifiers and from the training images."""
        bank, k = self["train"], self["knn"]["tuned"]["k"]
        near = neighbours(bank["y"].to(y.device), bank["label"], y, k)
        scores = {
            "nearest similarity": near.similarity[:, 0],
            "vote share": vote(near, self.n_classes, k).share,
            "linear probability": predict_linear(self["linear"]["fitted"], y).share,
        }
        return {name: score.cpu() for name, score in scores.items()}

    def _random(self, name: str) -> Random:
        return Random(self.device, zlib.crc32(name.encode()))


def some_rows(n_all: int, n: int) -> Tensor:
    """n rows, or all, in a random order."""
    return torch.randperm(n_all, generator=torch.Generator().manual_seed(0))[:n]


def joined(scores: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in scores]) for name in scores[0]}


def undamaged(x: Tensor, size: int, random: Random) -> Tensor:
    return whole(x, size)


def train(self: Features, random: Random) -> dict[str, Tensor]:
    rows = some_rows(len(self.data.train_images), self.sizes.train)
    y = self.embed(self.data.train_images[rows], undamaged, random)["y"]
    return {"rows": rows, "y": y, "label": self.data.train_labels[rows]}


def test(self: Features, random: Random) -> dict[str, Any]:
    rows = self.test_rows(self.sizes.test)
    images = self.data.test_images[rows]
    parts = {kind: self.embed(images, damage, random) for kind, damage in DAMAGES.items()}
    return {"rows": rows, "label": self.data.test_labels[rows], **parts}


def held_out(n: int) -> tuple[Tensor, Tensor]:
    """The rows of four fifths of the training images, and of the fifth that tunes."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    return order[n // 5 :], order[: n // 5]


def tuned_knn(y: Tensor, label: Tensor, n_classes: int) -> dict[str, Any]:
    """The k of the highest accuracy on a held-out fifth; the smallest one of equals."""
    fit, tune = held_out(len(y))
    near = neighbours(y[fit], label[fit], y[tune], max(KS))
    accuracy = [
        (vote(near, n_classes, k).label.cpu() == label[tune]).float().mean().item()
        for k in KS
        if k <= len(fit)
    ]
    best = max(range(len(accuracy)), key=lambda i: accuracy[i])
    return {"k": KS[best], "ks": list(KS[: len(accuracy)]), "accuracy": accuracy}


def knn(self: Features, random: Random) -> dict[str, Any]:
    y, label = self["train"]["y"].to(self.device), self["train"]["label"]
    tuned = tuned_knn(y, label, self.n_classes)
    result: dict[str, Any] = {"tuned": tuned}
    for kind in DAMAGES:
        near: Neighbours = neighbours(y, label, self["test"][kind]["y"].to(self.device), tuned["k"])
        answer = vote(near, self.n_classes, tuned["k"])
        nearest = near.similarity[:, 0]
        result[kind] = {
            "label": answer.label.cpu(), "share": answer.share.cpu(), "nearest": nearest.cpu()
        }  # fmt: skip
    return result


def linear(self: Features, random: Random) -> dict[str, Any]:
    y, label = self["train"]["y"].to(self.device), self["train"]["label"].to(self.device)
    fitted = fit_linear(y, label, self.n_classes, *held_out(len(y)))
    result: dict[str, Any] = {"fitted": fitted}
    for kind in DAMAGES:
        answer = predict_linear(fitted, self["test"][kind]["y"].to(self.device))
        result[kind] = {"label": answer.label.cpu(), "share": answer.share.cpu()}
    return result


def augmentations(self: Features, random: Random) -> dict[str, Any]:
    rows = self.test_rows(self.sizes.augmented)
    images = self.data.test_images[rows]
    kinds = dict(DAMAGES)
    if self.run.settings["channels"] == 3:
        kinds["grayscale"] = lambda x, size, r: random_grayscale(whole(x, size), 1.0, r)
    result = {}
    for kind, damage in kinds.items():
        draws = [self.embed(images, damage, random, free=True)["scores"] for _ in range(DRAWS)]
        result[kind] = {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}
    return result


def pairs(self: Features, random: Random) -> dict[str, Any]:
    """Views as in training. For a method without a predictor the cosine is that of two z."""
    settings, data = self.run.settings, self.data
    view = partial(
        training_views,
        size=settings["view_size"],
        flip=data.flip,
        damage=settings["augment"] == "damage",
    )
    rows = self.test_rows(self.sizes.test)
    repeats = max(1, self.sizes.pairs // len(rows))
    found: dict[str, list[Tensor]] = {"cosine": [], "cosine of y": [], "expected": []}
    scores = []
    for x in self.chunks(data.test_images[rows].repeat(repeats, 1, 1, 1)):
        first, second = view_pair(self.run.network, x, view, random)
        found["cosine"].append(cosine(first, second))
        found["cosine of y"].append(F.cosine_similarity(first.y, second.y))
        if first.kappa is not None:
            found["expected"].append(expected_cosine(first, settings["distribution"]))
        scores.append(self.scores(first) | self.free(first.y))
    joint = {name: torch.cat(values).cpu() for name, values in found.items() if values}
    return {**joint, "scores": joined(scores)}


def crops(self: Features, random: Random) -> dict[str, Any]:
    rows = self.test_rows(self.sizes.cropped)
    images = self.data.test_images[rows]

    def crop(x: Tensor, size: int, r: Random) -> Tensor:
        return random_resized_crop(x, size, CROP_SCALE, self.data.flip, r)

    draws = [self.embed(images, crop, random, free=True) for _ in range(CROPS)]
    scores = {
        name: torch.stack([draw["scores"][name] for draw in draws], dim=1)
        for name in draws[0]["scores"]
    }
    return {"y": torch.stack([draw["y"] for draw in draws], dim=1), "scores": scores}


def other(self: Features, random: Random, name: str) -> dict[str, Any]:
    data, result = self.others[name], {}
    for part, n, images, labels in (
        ("train", self.sizes.train, data.train_images, data.train_labels),
        ("test", self.sizes.test, data.test_images, data.test_labels),
    ):
        rows = some_rows(len(images), n)
        result[part] = {**self.embed(images[rows], undamaged, random), "label": labels[rows]}
    return result


PARTS: dict[str, Callable[..., Any]] = {
    "train": train,
    "test": test,
    "knn": knn,
    "linear": linear,
    "augmentations": augmentations,
    "pairs": pairs,
    "crops": crops,
    "other": other,
}
