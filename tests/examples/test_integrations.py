"""examples/integrations, each with the real library where it is installed, and with a stand-in.

libraries.py has the stand-ins. The test of a real library is skipped where it cannot be imported.
The diffs of docs/integrations.md are tied to the files.
"""

from __future__ import annotations

import importlib.util
import math
import re
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from libraries import (
    Encoder,
    FacebookSimSiam,
    MultiCropWrapper,
    SoloSimSiam,
    SphereARVAE,
    backbone,
    import_real,
    mlp,
    stand_in,
)

from powerspherical_ext import PowerSpherical, VISimSiamLoss
from powerspherical_ext.losses import DINOLoss, barlow_twins_loss, nt_xent_loss, simsiam_loss

ROOT = Path(__file__).parents[2]
INTEGRATIONS = ROOT / "examples" / "integrations"

real = [pytest.mark.filterwarnings("ignore")]  # other people's deprecations


def images(n=6, size=12, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def load(name):
    """The file as a fresh module, so that it imports whichever library is there now."""
    spec = importlib.util.spec_from_file_location(name, INTEGRATIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
