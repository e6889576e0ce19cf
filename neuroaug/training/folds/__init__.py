"""How long to train: folds of participants, and their curves."""
