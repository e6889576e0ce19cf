"""The protocol of a study: its stages, their jobs in order, and what each of them takes.

This layer only names commands; ``pipelines/Snakefile`` starts them. Nothing heavy is imported here
before an estimate is measured, because every job of a cluster reads the protocol again.
"""
