"""The law of anatomy: codes as effects of covariates and of a label, and the person's rest."""
