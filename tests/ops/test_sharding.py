"""DTensors in two processes: values and gradients of one process, and samples that differ."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from cases import CONCENTRATED, unit
from ddp import in_two_processes, needs_gloo
from torch.distributions import kl_divergence

from powerspherical_ext import HypersphericalUniform, PowerSpherical
from powerspherical_ext.losses import (
    DINOLoss,
    VISimSiamLoss,
    barlow_twins_loss,
    j_align,
    j_uniform,
    nt_xent_loss,
    simclr_loss,
    simsiam_loss,
    vi_simclr_loss,
    vi_simsiam_loss,
)

N, D = 5, 4  # shards of three rows and of two
PLACEMENTS = ("SSSS", "RRRR", "SRSS", "RSRR", "RRRS")  # of x, mu, z and kappa


def uniform():
    return HypersphericalUniform(D, dtype=torch.float64)


def calls():
    """Functions of unit vectors x, mu, z and a concentration."""
    for family in CONCENTRATED:
        law, name = family.distribution, family.declared.name
        yield from {
            f"{name} log_prob": lambda x, mu, z, k, law=law: law(mu, k).log_prob(x),
            f"{name} number": lambda x, mu, z, k, law=law: law(mu, 0.5).log_prob(x),
            f"{name} expand": lambda x, mu, z, k, law=law: law(mu, k).expand((2, N)).log_prob(x),
            f"{name} rsample": lambda x, mu, z, k, law=law: law(mu, k).rsample(),
            f"{name} kl": lambda x, mu, z, k, law=law: kl_divergence(law(mu, k), law(x, k / 2)),
            f"{name} kl to uniform": lambda x, mu, z, k, law=law: kl_divergence(
                law(mu, k), uniform()
            ),
            f"{name} kl of uniform": lambda x, mu, z, k, law=law: kl_divergence(
                uniform(), law(mu, k)
            ),
            f"{name} entropy": lambda x, mu, z, k, law=law: law(mu, k).entropy(),
            f"{name} moments": lambda x, mu, z, k, law=law: law(mu, k).mean + law(mu, k).variance,
            f"{name} covariance": lambda x, mu, z, k, law=law: law(mu, k).covariance_matrix,
            f"{name} normalizer": lambda x, mu, z, k, law=law: law(mu, k).log_normalizer(),
            f"{name} vi_simsiam": lambda x, mu, z, k, name=name: VISimSiamLoss(distribution=name)(
                mu, z, k
            ),
            f"{name} vi_simsiam lists": lambda x, mu, z, k, name=name: vi_simsiam_loss(
                [mu, x], [z], [k, k], distribution=name, beta=0.5, reduction="none"
            ),
            f"{name} vi_simclr": lambda x, mu, z, k, name=name: vi_simclr_loss(
                mu, z, k, distribution=name
            ),
        }.items()
    yield from {
        "uniform": lambda x, mu, z, k: uniform().log_prob(x) + k,
        "weighted": lambda x, mu, z, k: vi_simsiam_loss(
            mu, z, k, beta=0.5, beta_weighs="loss", kappa_max=3.0, relative_to_uniform=False
        ),
        "simsiam": lambda x, mu, z, k: simsiam_loss(mu, z),
        "simclr": lambda x, mu, z, k: simclr_loss(mu, z),
        "nt_xent": lambda x, mu, z, k: nt_xent_loss(mu, z),
        "barlow_twins": lambda x, mu, z, k: barlow_twins_loss(mu, z),
        "dino": lambda x, mu, z, k: DINOLoss(D).double()(mu, z),
        "objective": lambda x, mu, z, k: (
            j_align(x, PowerSpherical(mu, k)) + j_uniform(x, PowerSpherical(mu, k))
        ),
    }.items()


def value_and_gradients(function, tensors, seed):
    """With an upstream gradient that is not constant."""
    torch.manual_seed(seed)
    output = function(*tensors)
    (output * output.detach()).sum().backward()
    return output.detach(), *(x.grad for x in tensors)


def mismatches(rank):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

    mesh = init_device_mesh("cpu", (2,))
    kappa = torch.linspace(0.1, 0.9, N, dtype=torch.float64)
    tensors = *(unit(N, D, seed=seed) for seed in range(3)), kappa
    wrong = []
    for placements in PLACEMENTS:
        kinds = [Shard(0) if letter == "S" else Replicate() for letter in placements]
        for name, function in calls():
            leaves = [x.clone().requires_grad_() for x in tensors]
            sharded = [
                distribute_tensor(x, mesh, [kind]).requires_grad_()
                for x, kind in zip(tensors, kinds, strict=True)
            ]
            # The state of the first process counts, whatever that of the second is.
            pairs = zip(
                value_and_gradients(function, sharded, seed=rank),
                value_and_gradients(function, leaves, seed=0),
                strict=True,
            )
            for ours, alone in pairs:
                if (ours is None) != (alone is None) or (
                    ours is not None and not torch.allclose(ours.full_tensor(), alone)
                ):
                    wrong.append(f"{name} of {placements}")
    return wrong


@pytest.mark.slow
@needs_gloo
def test_values_and_gradients_are_those_of_one_process():
    """Of rsample as well, where the batch is sharded along its first dimension."""
    assert in_two_processes(mismatches) == [[], []]


def other_batches(rank):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh

    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    loc = distribute_tensor(unit(3).expand(4, 3).contiguous(), mesh, [Shard(0)])
    p = PowerSpherical(loc, 1.0)
    rows = [p.rsample((6,)).full_tensor().reshape(-1, 3)]  # sharded along the second dimension
    rows.append(p.sample().full_tensor())
    copies = PowerSpherical(distribute_tensor(unit(3), mesh, [Replicate()]), 1.0)
    torch.manual_seed(rank)
    sample = copies.sample((5,))
    return [len(x.unique(dim=0)) for x in rows], sample.to_local().tolist()


@pytest.mark.slow
@needs_gloo
def test_samples_of_other_batches():
    """All rows of a sharded batch differ, those of a replicated batch are the same everywhere."""
    first, second = in_two_processes(other_batches)
    assert first == second
    counts, sample = first
    assert counts == [24, 4]
    assert len(sample) == 5


def placements(rank):
    """Of results whose operands are sharded along the batch, or along d."""
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    mesh = init_device_mesh("cpu", (2,))
    kappa = distribute_tensor(torch.linspace(1, 2, N, dtype=torch.float64), mesh, [Shard(0)])
    results = []
    for dim in (0, 1):
        loc, x = (distribute_tensor(unit(N, D, seed=seed), mesh, [Shard(dim)]) for seed in (0, 1))
        p = PowerSpherical(loc, kappa)
        torch.manual_seed(0)
        for result in (p.log_prob(x), p.rsample(), p.entropy(), kl_divergence(p, p)):
            assert result.placements == (Shard(0),)
            assert len(result.to_local()) == (3, 2)[rank]
            results.append(result.full_tensor().tolist())
    return results


@pytest.mark.slow
@needs_gloo
def test_results_are_sharded_along_the_batch():
    """Also where vectors are sharded along d: they are redistributed, and the results the same."""
    first, second = in_two_processes(placements)
    assert first == second
    assert first[:4] == first[4:]


@pytest.fixture
def mesh():
    from torch.distributed.tensor import init_device_mesh

    if not torch.distributed.is_available():
        pytest.skip("torch without torch.distributed")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def test_dtensors_and_plain_tensors_do_not_mix(mesh):
    from torch.distributed.tensor import Shard, distribute_tensor

    loc, kappa = unit(4, 3), torch.ones(4, dtype=torch.float64)
    far_loc, far_kappa = (distribute_tensor(x, mesh, [Shard(0)]) for x in (loc, kappa))
    plain, far = PowerSpherical(loc, kappa), PowerSpherical(far_loc, far_kappa)
    for mixture in ((loc, far_kappa), (far_loc, kappa)):
        with pytest.raises(TypeError, match="PowerSpherical: loc and concentration must both be"):
            PowerSpherical(*mixture)
    for call in (
        lambda: plain.log_prob(far_loc),
        lambda: kl_divergence(far, plain),
        lambda: vi_simsiam_loss(far_loc, loc, far_kappa),
        lambda: vi_simsiam_loss(far_loc, far_loc, kappa),
    ):
        with pytest.raises(TypeError, match=r"plain tensor of shape .* by .*distribute_tensor"):
            call()
    for call in (
        lambda: far.log_prob(loc),
        lambda: kl_divergence(plain, far),
        lambda: vi_simsiam_loss(loc, far_loc, far_kappa),
    ):
        with pytest.raises(RuntimeError, match=r"mixed torch\.Tensor and DTensor"):
            call()


def test_dtensors_are_validated(mesh):
    from torch.distributed.tensor import Shard, distribute_tensor

    loc = distribute_tensor(unit(4, 3), mesh, [Shard(0)])
    for family in CONCENTRATED:
        with pytest.raises(ValueError, match="parameter concentration"):
            family.distribution(loc, -1.0)
    with pytest.raises(ValueError, match="value must be unit"):
        PowerSpherical(loc, 1.0).log_prob(2 * loc)
    kappa = distribute_tensor(torch.tensor([1.0, 1.0, -1.0, 1.0]), mesh, [Shard(0)])
    with pytest.raises(ValueError, match="kappa"):
        vi_simsiam_loss(loc, loc, kappa, check_kappa=True)
    assert vi_simsiam_loss(loc, loc, kappa).full_tensor().isnan()


def compiled(rank):
    """Whether a compiled function has the value and the gradients of the function."""
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    def function(loc, kappa, x):
        p = PowerSpherical(loc, kappa)
        return (p.log_prob(x) + p.entropy()).sum() + vi_simsiam_loss(loc, x, kappa)

    mesh = init_device_mesh("cpu", (2,))
    tensors = unit(4, 3), torch.linspace(1, 2, 4, dtype=torch.float64), unit(4, 3, seed=1)
    leaves = [distribute_tensor(x, mesh, [Shard(0)]).requires_grad_() for x in tensors]
    results = []
    for call in (function, torch.compile(function, backend="aot_eager")):
        result = call(*leaves)
        gradients = torch.autograd.grad(result, leaves)
        results.append([x.full_tensor().detach() for x in (result, *gradients)])
    return [torch.allclose(x, y) for x, y in zip(*results, strict=True)]


@pytest.mark.slow
@needs_gloo
def test_functions_of_dtensors_can_be_compiled():
    assert in_two_processes(compiled) == [[True] * 4] * 2


@pytest.mark.slow
def test_nothing_imports_dtensors_before_there_is_one():
    code = """
import sys
import torch
from powerspherical_ext import PowerSpherical, VISimSiamLoss
loc = torch.eye(3).requires_grad_()
p = PowerSpherical(loc, 1.0)
(p.log_prob(loc).sum() + p.rsample().sum() + p.entropy().sum()).backward()
VISimSiamLoss()(loc, loc.detach(), torch.ones(3)).backward()
assert "torch.distributed.tensor" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
