"""Attributes that distributions have in other packages, and what takes their place in this one.

docs/migration.md holds the whole tables.
"""

__all__ = ["ELSEWHERE"]

ELSEWHERE = {
    # power-spherical
    "base_dist": "what is p.base_dist.marginal_t in power-spherical is p.marginal_t here",
    "device": "take p.loc.device",
    "dtype": "take p.loc.dtype",
    # TensorFlow Probability
    "cross_entropy": "take kl_divergence(p, q) + p.entropy()",
    "kl_divergence": "take torch.distributions.kl_divergence(p, q)",
    "mean_direction": "take p.loc",
    "prob": "take p.log_prob(x).exp()",
    # SciPy
    "kappa": "take p.concentration",
    "logpdf": "take p.log_prob(x)",
    "mu": "take p.loc",
    "pdf": "take p.log_prob(x).exp()",
    "rvs": "take p.sample((n,))",
}
