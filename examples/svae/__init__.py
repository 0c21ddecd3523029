"""The parts of hyperspherical_vae.py that are no modelling: data, options, timing, report."""

import vi_simsiam  # noqa: F401, it ends the program if a library is missing
