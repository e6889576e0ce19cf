"""The embedded cohort: heads that nobody has, in the layout of a real study."""
