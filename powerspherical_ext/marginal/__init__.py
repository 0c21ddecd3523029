"""The distribution of the cosine t = mu . x.

`cosine` holds it for any family; a module named after a family holds the part that it supplies.
"""
