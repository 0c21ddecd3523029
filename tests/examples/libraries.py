"""The libraries of examples/integrations: the real ones, and stand-ins.

A stand-in has the call shapes of the library, and nothing of its code. lightly comes from PyPI, the
others from a checkout on PYTHONPATH.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn


def stand_in(monkeypatch, **modules):
    """Put modules of the given attributes, by dotted name with __ for dots, where imports look."""
    for name, attributes in modules.items():
        module = types.ModuleType(name.replace("__", "."))
        module.__dict__.update(attributes)
        monkeypatch.setitem(sys.modules, module.__name__, module)


def import_real(*names):
    """Import real libraries, or skip."""
    for name in names:
        root = name.split(".")[0]
        if importlib.util.find_spec(root) is None:
            pytest.skip(f"{root} is not installed")
    if importlib.util.find_spec("torchvision"):
        import_torchvision()
    return [importlib.import_module(name) for name in names]


kept = []


def import_torchvision():
    """PyPI's wheel is built for CUDA: beside a torch without CUDA its operators do not load, and
    the import fails for want of them. Declared without kernels, they let the rest be used."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        kept.append(library)  # the declarations end with it
        importlib.import_module("torchvision")


def backbone(features=16):
    return nn.Sequential(
        nn.Conv2d(3, features, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def mlp(*sizes):
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))


class SoloBaseMethod(nn.Module):
    """Stand-in for solo.methods.base.BaseMethod: the lists of outputs, and what is trained."""

    def __init__(self, cfg):
        super().__init__()
        self.num_large_crops = cfg.data.num_large_crops
        self.backbone, self.features_dim = backbone(), 16
        self.classifier = nn.Linear(16, 3)
        self.logged = {}

    @property
    def learnable_params(self):
        return [
            {"name": "backbone", "params": self.backbone.parameters()},
            {"name": "classifier", "params": self.classifier.parameters()},
        ]

    def forward(self, X):
        feats = self.backbone(X)
        return {"feats": feats, "logits": self.classifier(feats.detach())}

    def multicrop_forward(self, X):
        return {"feats": self.backbone(X)}

    def training_step(self, batch, batch_idx):
        _, X, targets = batch
        large = [self(x) for x in X[: self.num_large_crops]]
        outs = {key: [out[key] for out in large] for key in large[0]}
        for x in X[self.num_large_crops :]:
            for key, value in self.multicrop_forward(x).items():
                outs[key] = [*outs.get(key, []), value]
        logits = outs["logits"]
        outs["loss"] = sum(F.cross_entropy(x, targets) for x in logits) / len(logits)
        return outs

    def log_dict(self, metrics, on_epoch, sync_dist):
        self.logged.update(metrics)


class SoloSimSiam(SoloBaseMethod):
    """Stand-in for solo.methods.simsiam.SimSiam."""

    def __init__(self, cfg):
        super().__init__(cfg)
        self.projector, self.predictor = mlp(16, 8), mlp(8, 4, 8)

    @property
    def learnable_params(self):
        return [
            *super().learnable_params,
            {"name": "projector", "params": self.projector.parameters()},
            {"name": "predictor", "params": self.predictor.parameters(), "static_lr": True},
        ]

    def forward(self, X):
        out = super().forward(X)
        z = self.projector(out["feats"])
        return {**out, "z": z, "p": self.predictor(z)}

    def training_step(self, batch, batch_idx):
        raise AssertionError("the cosine loss")


class FacebookSimSiam(nn.Module):
    """Stand-in for simsiam.builder.SimSiam: the projector is the encoder's fc."""

    def __init__(self, base_encoder, dim=2048, pred_dim=512):
        super().__init__()
        self.encoder = base_encoder(num_classes=dim, zero_init_residual=True)
        self.predictor = mlp(dim, pred_dim, dim)


class Encoder(nn.Module):
    """The constructor and the fc of torchvision's ResNets."""

    def __init__(self, num_classes, zero_init_residual):
        super().__init__()
        self.body, self.fc = backbone(), nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(self.body(x))


class MultiCropWrapper(nn.Module):
    """Stand-in for utils.MultiCropWrapper: one backbone pass for each size, one head pass."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        sizes = dict.fromkeys(crop.shape[-1] for crop in x)
        groups = [torch.cat([crop for crop in x if crop.shape[-1] == s]) for s in sizes]
        return self.head(torch.cat([self.backbone(group) for group in groups]))


class SphereARVAE(nn.Module):
    """The parts of SphereAR.vae.VAE that encode() uses, for (8, 3, 16, 16) images of 256 tokens."""

    latent_dim = 16

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Flatten(2), Transposed())
        self.quant_proj = nn.Linear(32, self.latent_dim + 1)


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)
