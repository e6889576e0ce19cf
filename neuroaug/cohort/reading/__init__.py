"""How the tables of a cohort are read: layouts, spellings of names and numbers."""
