"""From images to claims: the classifiers, their scores, and what the scores say."""
