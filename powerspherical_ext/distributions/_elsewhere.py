"""Names that distributions of other packages have, and what takes their place in this one.

docs/migration.md holds the whole tables.
"""

from collections.abc import Iterable

__all__ = ["ATTRIBUTES_ELSEWHERE", "wrong_arguments"]

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


def wrong_arguments(owner: str, wrong: Iterable[str], right: Iterable[str]) -> str:
    """The message for names of arguments that ``owner``, whose arguments are ``right``, lacks."""
    hints = {name: ARGUMENTS_ELSEWHERE.get(name) for name in sorted(wrong)}
    shown = ", ".join(f"{name} ({hint})" if hint else name for name, hint in hints.items())
    return f"{owner} has no argument {shown}: its arguments are {', '.join(right)}"
