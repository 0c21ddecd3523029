"""The parts of train_vi_simsiam.py and evaluate.py; the other examples share some of them."""
