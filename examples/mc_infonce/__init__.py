"""The parts of mc_infonce_synthetic.py."""
