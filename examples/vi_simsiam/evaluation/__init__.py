"""The parts of evaluate.py: features, one file for each kind of measure, tables and pictures."""
