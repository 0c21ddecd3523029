"""The methods of examples/train_vi_simsiam.py: each trains, resumes, and spreads over processes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
import training
from ddp import needs_gloo
from training import METHODS, SCRIPT, TINY, checkpoint, start, torchrun

MORE = {  # what a method's default does not reach
    "vi-simsiam": ["--predictor", "directpred", "--distribution", "von_mises_fisher"],
    "simsiam": ["--projector", "directpred", "--schedule", "constant"],
    "vi-simclr": ["--distribution", "spherical_cauchy", "--projector", "paper"],
    "dino": ["--network", "resnet18"],
    "elk": ["--distribution", "von_mises_fisher"],
}
THREE = ["--stop-after", "3", "--crops", "2+2"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_and_resumes_to_the_same_bits(example, tmp_path, method):
    command = [*TINY, *THREE, "--method", method, *MORE.get(method, [])]
    example.main([*command, "--out", str(tmp_path / "once")])
    example.main([*command, "--out", str(tmp_path / "twice"), "--stop-after", "2"])
    between = checkpoint(tmp_path / "twice")
    assert between["step"] == 2
    example.main([*command, "--out", str(tmp_path / "twice"), "--resume"])
    once, twice = (checkpoint(tmp_path / name) for name in ("once", "twice"))
    assert once["step"] == twice["step"] == 3
    for part in ("model", "method", "optimizer", "history", "generator"):
        torch.testing.assert_close(twice[part], once[part], rtol=0, atol=0, equal_nan=True)
    still = [name for name, x in once["model"].items() if torch.equal(x, between["model"][name])]
    assert not still  # every parameter and every buffer is trained


@pytest.mark.parametrize(
    "distribution", ["power_spherical", "von_mises_fisher", "spherical_cauchy"]
)
@pytest.mark.parametrize("method", ["vi-simsiam", "vi-simclr"])
def test_every_distribution(example, tmp_path, method, distribution):
    options = ["--method", method, "--distribution", distribution, "--out", str(tmp_path)]
    example.main([*TINY, "--stop-after", "2", *options])
    assert torch.tensor(checkpoint(tmp_path)["history"]["loss"]).isfinite().all()


@pytest.mark.parametrize("augment", ["damage", "simsiam"])
def test_colour_views(example, augment):
    """Of an image of one colour, only the hue and the brightness change."""
    from vi_simsiam.augment import Random, multi_crop

    images = torch.tensor([0.6, 0.4, 0.2]).view(1, 3, 1, 1).expand(64, 3, 32, 32)
    views = multi_crop(images, 28, True, 3, augment == "damage", Random("cpu", 0))
    assert [tuple(group.shape) for group in views] == [(128, 3, 28, 28), (192, 3, 12, 12)]
    spread = torch.cat([group.flatten(2).std(-1) for group in views]).amax(1)
    unchanged = (spread < 1e-6).float().mean()
    assert unchanged == 1 if augment == "simsiam" else 0.2 < unchanged < 0.8
    colours = views[0].mean((2, 3))
    assert colours.std(0).min() > 0.02  # the red is not always the largest part


def test_the_hue_turns_around_the_circle(example):
    from vi_simsiam.augment import turn_hue

    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
    third = torch.full((1, 1, 1, 1), 2 * torch.pi / 3)
    torch.testing.assert_close(turn_hue(red, third).flatten(), torch.tensor([0.2, 0.8, 0.2]))
    torch.testing.assert_close(turn_hue(red, 0 * third), red)


# Losses by the papers' formulas, for two large views and one small one


def views_of_three():
    generator = torch.Generator().manual_seed(0)
    z, mu = (
        [torch.randn(6, 8, generator=generator, dtype=torch.float64) for _ in range(3)]
        for _ in range(2)
    )
    kappa = [torch.rand(6, generator=generator, dtype=torch.float64) + 1 for _ in range(3)]
    return z, mu, kappa


def method_of(example, name, **settings):
    return example.METHODS[name]({"dim": 8, **settings}, torch.nn.Identity())


PAIRS = [(0, 1), (1, 0), (2, 0), (2, 1)]  # prediction, target


def test_loss_of_simsiam(example):
    from vi_simsiam.model import Views

    z, mu, _ = views_of_three()
    cosines = [F.cosine_similarity(mu[i], z[j]).mean() for i, j in PAIRS]
    loss = method_of(example, "simsiam").loss(Views(z, mu, None), None)
    torch.testing.assert_close(loss, -sum(cosines) / 4)


def test_loss_of_vi_simsiam_is_algorithm_1(example):
    from vi_simsiam.model import Views

    from powerspherical_ext import HypersphericalUniform, PowerSpherical

    z, mu, kappa = ([F.normalize(x, dim=-1) if x.ndim == 2 else x for x in xs]
                    for xs in views_of_three())  # fmt: skip
    uniform = HypersphericalUniform(8).log_prob(z[0]).mean()
    minus_log_p = [
        (uniform - PowerSpherical(mu[i], kappa[i]).log_prob(z[j])).mean() for i, j in PAIRS
    ]
    options = {"distribution": "power_spherical", "beta": 0.0, "beta_weighs": "cosine"}
    method = method_of(example, "vi-simsiam", **options)
    two = method.loss(Views(z[:2], mu[:2], kappa[:2]), None)
    torch.testing.assert_close(two, sum(minus_log_p[:2]), rtol=1e-6, atol=1e-6)
    three = method.loss(Views(z, mu, kappa), None)
    torch.testing.assert_close(three, 2 * sum(minus_log_p) / 4, rtol=1e-6, atol=1e-6)


def test_loss_of_dino(example):
    from vi_simsiam.model import Views

    z, _, _ = views_of_three()
    method = method_of(example, "dino", teacher_momentum=0.0)
    p, log_q = [(x / 0.04).softmax(-1) for x in z], [(x / 0.1).log_softmax(-1) for x in z]
    expected = -sum((p[j] * log_q[i]).sum(-1).mean() for i, j in PAIRS) / 4
    torch.testing.assert_close(method.loss(Views(z, z, None), None), expected)
    assert method.criterion.center.abs().max() > 0


def test_the_teacher_of_dino_follows_the_network(example):
    network, teacher = torch.nn.Linear(2, 2), None
    method = example.METHODS["dino"]({"dim": 8, "teacher_momentum": 0.9}, network)
    teacher = method.teacher.weight.clone()
    with torch.no_grad():
        network.weight += 1
    method.after_step(network, 0.0)
    torch.testing.assert_close(method.teacher.weight, teacher + 0.1)
    method.after_step(network, 1.0)  # the momentum has risen to 1
    torch.testing.assert_close(method.teacher.weight, teacher + 0.1)


@pytest.mark.parametrize("method", ["simclr", "barlow-twins"])
def test_symmetric_losses_take_each_pair_once(example, method):
    from vi_simsiam.model import Views

    from powerspherical_ext.losses import barlow_twins_loss, nt_xent_loss

    z, _, _ = views_of_three()
    scale = 1 if method == "simclr" else 8
    loss = nt_xent_loss if method == "simclr" else barlow_twins_loss
    expected = sum(loss(z[i], z[j]) for i, j in ((0, 1), (0, 2), (1, 2))) / 3 / scale
    torch.testing.assert_close(method_of(example, method).loss(Views(z, z, None), None), expected)


@pytest.mark.parametrize("method", ["mc-infonce", "elk", "hib"])
def test_losses_of_stochastic_embeddings_take_each_pair_once(example, method):
    from vi_simsiam.model import Views

    from powerspherical_ext import losses

    loss = {
        "mc-infonce": losses.mc_infonce_loss,
        "elk": losses.expected_likelihood_kernel_loss,
        "hib": losses.hedged_instance_loss,
    }[method]
    z, _, kappa = views_of_three()
    settings = {"distribution": "power_spherical", "seed": 3}
    ours = method_of(example, method, **settings).loss(Views(z, z, kappa), None)
    options = {"distribution": "power_spherical", "n_samples": 8}
    options["generator"] = torch.Generator().manual_seed(3)
    expected = [
        loss(z[i], z[j], kappa[i], kappa[j], **options) for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    torch.testing.assert_close(ours, sum(expected) / 3)


# Precision, compilers, processes


def test_bfloat16(example, tmp_path):
    example.main([*TINY, *THREE, "--amp", "--out", str(tmp_path)])
    state = checkpoint(tmp_path)
    assert torch.tensor(state["history"]["loss"]).isfinite().all()
    assert state["model"]["head.projector.0.weight"].dtype == torch.float32


@pytest.mark.slow
def test_the_network_compiles_to_one_graph(example, tmp_path, monkeypatch):
    compiled = partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(example.torch, "compile", compiled)
    example.main([*TINY, *THREE, "--compile", "--out", str(tmp_path / "compiled")])
    monkeypatch.undo()
    example.main([*TINY, *THREE, "--out", str(tmp_path / "eager")])
    ours, eager = (checkpoint(tmp_path / name)["history"] for name in ("compiled", "eager"))
    torch.testing.assert_close(ours, eager)


@pytest.fixture(scope="module")
def in_one_and_two_processes(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    for how, name in ((start, "one"), (torchrun, "two")):
        run = how(training.__file__, folder / name)
        assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.slow
@needs_gloo
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one_does(in_one_and_two_processes, method):
    one, two = (checkpoint(in_one_and_two_processes / n / method) for n in ("one", "two"))
    assert one["step"] == two["step"] == 20
    for part in ("model", "method"):
        torch.testing.assert_close(two[part], one[part], rtol=1e-6, atol=1e-7)
    for key in ("loss", "cosine", "kappa"):
        torch.testing.assert_close(
            two["history"][key], one["history"][key], rtol=1e-5, atol=1e-6, equal_nan=True
        )


@pytest.mark.slow
@needs_gloo
def test_torchrun_goes_on_from_one_process_and_writes_once(example, tmp_path):
    command = [*TINY, "--out", str(tmp_path)]
    example.main([*command, "--stop-after", "9"])
    run = torchrun(SCRIPT, *command, "--resume")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("kNN accuracy") == run.stdout.count("vi-simsiam on digits") == 1
    assert checkpoint(tmp_path)["step"] == 20
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint.pt", "lock", "results.json", "results.png"]
