"""Names that distributions of other packages have, and what takes their place in this one.

docs/migration.md holds the whole tables.
"""

__all__ = ["ARGUMENTS_ELSEWHERE", "ATTRIBUTES_ELSEWHERE"]

ATTRIBUTES_ELSEWHERE = {
    # power-spherical
    "base_dist": "what is p.base_dist.marginal_t in power-spherical is p.marginal_t here",
    "device": "take p.loc.device",
    "dtype": "take p.loc.dtype",
    # TensorFlow Probability
    "covariance": "take p.covariance_matrix",
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

ARGUMENTS_ELSEWHERE = {
    # s-vae-pytorch
    "k": "leave it out, the sampler has no such choice",
    # TensorFlow Probability
    "allow_nan_stats": "leave it out",
    "mean_direction": "take loc",
    "name": "leave it out",
    # SciPy, and articles
    "kappa": "take concentration",
    "mu": "take loc",
    "rho": "take concentration",
    "seed": "give sample and rsample a generator instead",
}
