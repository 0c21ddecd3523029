"""The parts of hyperspherical_vae.py that are no modelling: data, options, timing, report."""
