"""The parts of train_vi_simsiam.py: data, augmentations, network, evaluation and picture."""
