"""
An uncertainty report
=====================

A model that gives a confidence with each answer should be right more often where it is confident.
``powerspherical_ext.metrics`` measures that. This example classifies noisy digits by one von
Mises-Fisher distribution for each digit, and reports on its confidence. For embeddings and their
kappa, ``url_report`` computes the figures of the URL benchmark in one call.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from powerspherical_ext import VonMisesFisher
from powerspherical_ext.metrics import (
    accuracy_by_bin,
    auroc,
    auroc_chance_sd,
    logistic_regression,
    permutation_test,
    risk_coverage,
)

# %%
# The classifier is Bayes' rule. A fit for each digit is one call, with weights 0 and 1.

images, digits = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
generator = torch.Generator().manual_seed(0)
noise = 5 * torch.randn(images.shape, generator=generator, dtype=images.dtype)
x = torch.nn.functional.normalize(images + noise - images.mean(0), dim=-1)
train = torch.arange(len(x)) < 1000
one_hot = torch.nn.functional.one_hot(digits[train]).T.to(x.dtype)
classes = VonMisesFisher.fit(x[train], one_hot)
posterior = classes.log_prob(x[~train].unsqueeze(1)).softmax(-1)
confidence, answer = posterior.max(-1)
correct = answer == digits[~train]

# %%
# The report. The AUROC is the probability that a right answer has the higher confidence of the two.
# A permutation test says how often chance alone would do as well.

area, chance = auroc(confidence, correct), auroc_chance_sd(correct)
curve = risk_coverage(confidence, correct)
bins = accuracy_by_bin(confidence, correct, bins=8)
fit = logistic_regression(confidence, correct)
test = permutation_test(auroc, confidence, correct, n_shuffles=500, generator=generator)
print(f"accuracy {correct.double().mean():.3f} on {len(correct)} test images")
print(f"AUROC {area:.3f}; chance is 0.5, with a standard deviation of {chance:.3f}")
print(f"p-value of the AUROC: {test.p_value:.3f}")
print(f"area under the risk-coverage curve: {curve.aurc:.3f}; at best {curve.optimal_aurc:.3f}")
print(f"log-odds of being right grow by {fit.slope:.2f} with each standard deviation of confidence")

# %%
# The same as a picture. On the right, a confidence that is a probability lies on the diagonal. Bars
# are one standard error. Points below the diagonal are overconfident: nothing here has told the
# classifier that neighbouring pixels depend on each other.

blue, orange = "#0072b2", "#d55e00"
figure, axes = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
axes[0].hist(test.null, bins=30, color="#999999", label="labels permuted")
axes[0].axvline(area, color=orange, lw=2, label="this model")
axes[0].set(xlabel="AUROC of the confidence", ylabel="permutations")
axes[0].legend(loc="upper center")
axes[1].plot(curve.coverage, curve.risk, color=blue, label="answers by confidence")
axes[1].axhline(curve.risk[-1], color="#999999", ls="--", label="answers in random order")
axes[1].set(xlabel="part of the images answered", ylabel="error rate of these")
axes[1].legend()
error = (bins.accuracy * (1 - bins.accuracy) / bins.size).sqrt()
axes[2].plot([0, 1], [0, 1], ls="--", color="#999999", label="ideal")
axes[2].errorbar(
    bins.score,
    bins.accuracy,
    error,
    fmt="o",
    color=blue,
    capsize=2,
    label="an eighth of the images",
)
grid = torch.linspace(confidence.min().item(), 1, 100)
axes[2].plot(grid, fit.predict(grid), color=orange, label="logistic regression")
axes[2].set(xlabel="confidence", ylabel="accuracy", ylim=(0, 1.03))
axes[2].legend(loc="upper left")
plt.show()
