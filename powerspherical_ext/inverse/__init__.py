"""Concentrations from what is known of a distribution: from its divergence, its mean cosine, or an
angle that holds a probability.

`solver` finds the concentration. It knows a family by its scalar functions, and by the tails of t.
"""
