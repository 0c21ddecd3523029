"""Another gradient of a sample, which is that of a map with fixed noise."""

from __future__ import annotations

import torch

from powerspherical_ext.reference import half_angle
from powerspherical_ext.reference.normal import row_normals
from powerspherical_ext.reference.sphere import _orthogonal, _rows, sample


def rsample_fixed_noise(mu, kappa, rng_state, family):
    """The same sample as `rsample`, with the derivative of the map from (mu, kappa) to x that holds
    the noise (a normal vector h, and the quantile of t) fixed:

        x = t m + sqrt(1 - t^2) h'/|h'|,  dt/dkappa = (1 - t^2) implicit_gradient,

    h' the part of h orthogonal to m. h' has the direction of the sample's g'; h . m and |h'| come
    from fresh normals, because g . m and |g'| went into t, and holding them would give a biased
    gradient. This one is unbiased, and of a variance in mu that is never below that of the rotation
    field, which is its conditional expectation given x.
    """
    d = mu.shape[-1]
    with torch.no_grad():
        sin2, cos2 = half_angle(sample(mu, kappa, rng_state, family), mu)
        speed = family.implicit_gradient(kappa, d, sin2, cos2)
        radius = 2 * (sin2 * cos2).sqrt()
    step = speed * (kappa - kappa.detach())
    m = mu / mu.square().sum(-1, keepdim=True).sqrt()
    with torch.no_grad():
        normals = row_normals(rng_state, _rows(mu, kappa), 2 * d, mu.dtype)
        g = _orthogonal(normals[..., :d], m)[1]
        p, rest = _orthogonal(normals[..., d:], m)
        h = (rest.square().sum(-1, keepdim=True) / g.square().sum(-1, keepdim=True)).sqrt() * g
        h = h + p.unsqueeze(-1) * m
    tangent = _orthogonal(h, m)[1]
    direction = tangent / tangent.square().sum(-1, keepdim=True).sqrt()
    t = (cos2 - sin2) + radius**2 * step
    sine = radius - (cos2 - sin2) * radius * step
    return t.unsqueeze(-1) * m + sine.unsqueeze(-1) * direction
