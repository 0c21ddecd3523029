"""The distribution of the cosine t = mu . x.

`cosine`, `entropy` and `sampling` hold it for any family; a module named after a family holds the
part that it supplies.
"""
