"""What the experiments share: digits, classifiers, generators, measures."""
