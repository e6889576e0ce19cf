"""Ways of training and testing a classifier that a cell may add: mixup, ensembles."""
