"""Who is in the study: tables, labels, matched splits, and the lineage of synthetic images."""
