"""examples/integrations, each with the real library where it is installed, and with a stand-in.

A stand-in has the call shapes of the library, and nothing of its code. The test of the real library
is skipped where it cannot be imported; lightly comes from PyPI, the others from a checkout on
PYTHONPATH. The diffs of docs/integrations.md are tied to the files.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import re
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from powerspherical_ext import PowerSpherical, VISimSiamLoss
from powerspherical_ext.losses import DINOLoss, barlow_twins_loss, nt_xent_loss, simsiam_loss

ROOT = Path(__file__).parents[2]
INTEGRATIONS = ROOT / "examples" / "integrations"

real = [pytest.mark.filterwarnings("ignore")]  # other people's deprecations


def backbone(features=16):
    return nn.Sequential(
        nn.Conv2d(3, features, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def images(n=6, size=12, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def load(name):
    """The file as a fresh module, so that it imports whichever library is there now."""
    spec = importlib.util.spec_from_file_location(name, INTEGRATIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def train(model, step, parameters=None, steps=3):
    """Some optimiser steps: the losses are finite, and every parameter that trains moves."""
    parameters = list(model.parameters()) if parameters is None else parameters
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    losses = []
    for _ in range(steps):
        loss = step()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert torch.isfinite(loss)
    assert len(set(losses)) == steps
    for name, p in model.named_parameters():
        if p.requires_grad and not name.startswith("classifier"):
            assert not torch.equal(p, before[name]), f"{name} has not been trained"


def algorithm_1(p, z, kappa):
    """One direction of the paper's loss, relative to the uniform distribution."""
    density = PowerSpherical(F.normalize(p, dim=-1), kappa)
    uniform = PowerSpherical(F.normalize(p, dim=-1), torch.zeros_like(kappa))
    z = F.normalize(z.detach(), dim=-1)
    return (uniform.log_prob(z) - density.log_prob(z)).mean()


# lightly


def mlp(*sizes):
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))


@pytest.mark.parametrize("library", ["stand-in", pytest.param("real", marks=real)])
def test_lightly(library, monkeypatch):
    if library == "real":
        import_real("lightly", "lightly.models.modules")
    else:
        heads = {"SimSiamProjectionHead": mlp, "SimSiamPredictionHead": mlp}
        stand_in(monkeypatch, lightly={}, lightly__models={}, lightly__models__modules=heads)
    module = load("lightly_simsiam")
    torch.manual_seed(0)
    model, criterion = module.VISimSiam(backbone(), 16, 8), VISimSiamLoss()
    x0, x1 = images(), images(seed=1)
    model.eval()
    (z0, p0, k0), (z1, p1, k1) = model(x0), model(x1)
    loss = module.training_step(model, criterion, x0, x1)
    torch.testing.assert_close(loss, algorithm_1(p1, z0, k1) + algorithm_1(p0, z1, k0))
    with pytest.raises(ValueError, match="are the first two swapped"):
        criterion(z0, p1, k1)  # the order of lightly's examples
    model.train()
    train(model, lambda: module.training_step(model, criterion, x0, x1))
    if library == "real":
        assert len(module.main(["--steps", "2"])) == 2


@pytest.mark.filterwarnings("ignore")
def test_our_losses_are_lightlys():
    (theirs,) = import_real("lightly.loss")
    a, b, c = (
        torch.randn(16, 32, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        for i in range(3)
    )
    a.requires_grad_()
    center = torch.linspace(-1, 1, 32, dtype=torch.float64)
    dino, their_dino = DINOLoss(32).double(), theirs.DINOLoss(32).double()
    dino.center.copy_(center)
    their_dino.center.copy_(center)
    rows = [
        (simsiam_loss(a, b), theirs.NegativeCosineSimilarity()(a, b)),
        (nt_xent_loss(a, b, temperature=0.5), theirs.NTXentLoss(0.5)(a, b)),
        (barlow_twins_loss(a, b), theirs.BarlowTwinsLoss()(a, b)),
        (dino([a, b, c], [b, c]), their_dino([b, c], [a, b, c])),
    ]
    for ours, published in rows:
        gradients = [torch.autograd.grad(loss, a)[0] for loss in (ours, published)]
        # lightly's DINO temperature is a float32 number
        torch.testing.assert_close(ours, published, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(dino.center, their_dino.center.flatten())


# solo-learn


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


def solo_config(num_small_crops):
    """What solo-learn's own tests configure, as plain data."""
    return {
        "name": "test",
        "method": "simsiam",
        "backbone": {"name": "resnet18"},
        "data": {
            "dataset": "cifar10",
            "num_large_crops": 2,
            "num_small_crops": num_small_crops,
            "num_classes": 3,
        },
        "optimizer": {
            "name": "sgd",
            "batch_size": 6,
            "lr": 0.05,
            "weight_decay": 1e-5,
            "classifier_lr": 0.1,
            "kwargs": {},
        },
        "scheduler": {"name": "none"},
        "max_epochs": 1,
        "devices": 1,
        "accelerator": "cpu",
        "num_nodes": 1,
        "method_kwargs": {"proj_output_dim": 8, "proj_hidden_dim": 16, "pred_hidden_dim": 4},
    }


@pytest.mark.parametrize("num_small_crops", [0, 2])
@pytest.mark.parametrize("library", ["stand-in", pytest.param("real", marks=real)])
def test_solo_learn(library, num_small_crops, monkeypatch):
    settings = solo_config(num_small_crops)
    if library == "real":
        omegaconf, _ = import_real("omegaconf", "solo.methods.simsiam")
        cfg = omegaconf.OmegaConf.create(settings)
    else:
        cfg = types.SimpleNamespace(data=types.SimpleNamespace(**settings["data"]))
        attributes = {"SimSiam": SoloSimSiam}
        stand_in(monkeypatch, solo={}, solo__methods={}, solo__methods__simsiam=attributes)
    torch.manual_seed(0)
    model = load("solo_learn_simsiam").VISimSiam(cfg)
    groups = model.learnable_params
    assert [group["name"] for group in groups].count("kappa_head") == 1
    monkeypatch.setattr(model, "log_dict", lambda metrics, **_: logged.update(metrics))
    logged = {}
    large, small = [images(size=32, seed=i) for i in range(2)], [images(size=16, seed=5)] * 2
    crops = large + small[:num_small_crops]
    batch = [torch.arange(6), crops, torch.arange(6) % 3]
    parameters = [p for group in groups for p in group["params"]]
    train(model, lambda: model.training_step(batch, 0), parameters)
    assert 0 < logged["train_z_std"] < 1

    model.eval()  # no statistics of the batch, so that the second pass has the values of the first
    outs = [model(x) for x in large] + [model.multicrop_forward(x) for x in small[:num_small_crops]]
    terms = [
        algorithm_1(outs[i]["p"], outs[j]["z"], outs[i]["kappa"])
        for i in range(len(outs))
        for j in range(2)
        if i != j
    ]
    model.training_step(batch, 0)
    torch.testing.assert_close(logged["train_nll"], torch.stack(terms).mean())


# facebookresearch/simsiam


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


@pytest.mark.parametrize("library", ["stand-in", pytest.param("real", marks=real)])
def test_facebook_simsiam(library, monkeypatch):
    if library == "real":
        import_real("simsiam.builder")
    else:
        stand_in(monkeypatch, simsiam={}, simsiam__builder={"SimSiam": FacebookSimSiam})
    module = load("facebook_simsiam")
    torch.manual_seed(0)
    model, criterion = module.VISimSiam(Encoder, dim=8, pred_dim=4), VISimSiamLoss()
    views = [images(), images(seed=1)]
    model.eval()
    p1, p2, z1, z2, k1, k2 = model(x1=views[0], x2=views[1])
    loss = module.training_step(model, criterion, views)
    torch.testing.assert_close(loss, algorithm_1(p1, z2, k1) + algorithm_1(p2, z1, k2))
    model.train()
    train(model, lambda: module.training_step(model, criterion, views))


# facebookresearch/dino


class MultiCropWrapper(nn.Module):
    """Stand-in for utils.MultiCropWrapper: one backbone pass for each size, one head pass."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        sizes = dict.fromkeys(crop.shape[-1] for crop in x)
        groups = [torch.cat([crop for crop in x if crop.shape[-1] == s]) for s in sizes]
        return self.head(torch.cat([self.backbone(group) for group in groups]))


@pytest.mark.parametrize("library", ["stand-in", pytest.param("real", marks=real)])
def test_facebook_dino(library, monkeypatch):
    if library == "real":
        vit, utils = import_real("vision_transformer", "utils")
        if not hasattr(utils, "MultiCropWrapper"):
            pytest.skip("utils is not that of facebookresearch/dino")
        network, features, sizes = vit.vit_tiny(img_size=[32], patch_size=8), 192, (32, 16)
    else:
        stand_in(monkeypatch, utils={"MultiCropWrapper": MultiCropWrapper})
        network, features, sizes = backbone(), 16, (12, 8)
    module = load("facebook_dino")
    torch.manual_seed(0)
    student, criterion = module.student_network(network, features, dim=8), VISimSiamLoss()
    crops = [images(size=sizes[i > 1], seed=i) for i in range(8)]
    student.eval()
    z, mu, kappa = (part.chunk(8) for part in student(crops))
    terms = [algorithm_1(mu[i], z[j], kappa[i]) for i in range(8) for j in range(2) if i != j]
    assert len(terms) == 14
    loss = module.training_step(student, criterion, crops)
    torch.testing.assert_close(loss, torch.stack(terms).mean())
    student.train()
    train(student, lambda: module.training_step(student, criterion, crops))


# SphereAR


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


def kl_to_uniform(kappa, d):
    """As SphereAR/psd.py computes it."""
    b = torch.tensor((d - 1) / 2, dtype=kappa.dtype)
    a = b + kappa
    log_normalizer = torch.lgamma(a + b) - torch.lgamma(a) - (a + b) * math.log(2)
    log_normalizer = log_normalizer - b * math.log(math.pi)
    mean = math.log(2) + torch.digamma(a) - torch.digamma(a + b)
    log_area = math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2)
    return log_normalizer + kappa * mean + log_area


@pytest.mark.parametrize("library", ["stand-in", pytest.param("real", marks=real)])
def test_spherear(library, monkeypatch):
    if library == "real":
        import_real("SphereAR.vae")
        module = load("spherear_posterior")
        model = module.VAE(latent_dim=16, image_size=32, patch_size=16, z_channels=64)
        tokens, pictures = 4, images(n=2, size=32)
    else:
        stand_in(monkeypatch, SphereAR={}, SphereAR__vae={"VAE": SphereARVAE})
        sys.modules["SphereAR"].vae = sys.modules["SphereAR.vae"]
        module = load("spherear_posterior")
        model, tokens, pictures = module.VAE(), 256, images(n=8, size=16)
    projected = model.quant_proj(model.encoder(pictures))
    kappa = F.softplus(projected[..., -1].double()) + 1
    with torch.autocast("cpu", torch.bfloat16):
        latent, kl = model.encode(pictures)
    assert latent.shape == (len(pictures), tokens, 16)
    assert latent.dtype == kl.dtype == torch.float32
    torch.testing.assert_close(latent.norm(dim=-1), torch.full(latent.shape[:2], 4.0))
    torch.testing.assert_close(kl.double(), kl_to_uniform(kappa, 16).mean(), rtol=0.03, atol=0)
    exact = module.sample_posterior(projected)[1]
    torch.testing.assert_close(exact.double(), kl_to_uniform(kappa, 16).mean(), rtol=1e-5, atol=0)
    (latent.square() * torch.randn(16)).mean().add(kl).backward()
    assert all(p.grad.abs().max() > 0 for p in model.quant_proj.parameters())


def test_spherear_compiles_to_one_graph(monkeypatch):
    stand_in(monkeypatch, SphereAR={}, SphereAR__vae={"VAE": SphereARVAE})
    sys.modules["SphereAR"].vae = sys.modules["SphereAR.vae"]
    compiled = torch.compile(
        load("spherear_posterior").sample_posterior, fullgraph=True, backend="aot_eager"
    )
    x = torch.randn(2, 5, 17, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        latent, kl = compiled(x)
    (latent.sum() + kl).backward()
    assert x.grad.isfinite().all()


# The page of diffs


def test_the_diffs_of_the_docs_are_in_the_files():
    page = (ROOT / "docs" / "integrations.md").read_text()
    names = re.findall(r"examples/integrations/(\w+)\.py", page)
    diffs = re.findall(r"```diff\n(.*?)```", page, re.DOTALL)
    assert sorted(names) == sorted(path.stem for path in INTEGRATIONS.glob("*.py"))
    assert len(diffs) == len(names)
    for name, diff in zip(names, diffs, strict=True):
        code = (INTEGRATIONS / f"{name}.py").read_text()
        added = [line[1:].strip() for line in diff.splitlines() if line.startswith("+")]
        assert added
        for line in added:
            assert line in code, f"{name}: {line}"
