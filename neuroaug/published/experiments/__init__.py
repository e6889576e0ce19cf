"""One file per question of the papers: from a run of a table to its scores."""
