"""The papers' results on public images, made again with the functions that users call in 3D.

An image of 28 x 28 pixels is a grid with a flat axis, (28, 28, 1): generators, samplers, metrics,
geodesics and the classifiers' training loop are those of `neuroaug.models`, `neuroaug.geometry` and
`neuroaug.evaluation`. Here are only the images, the protocols, what is measured, and the tables:

- ``experiments/``: one file per question of the papers, from a `TableRun` to its scores.
- ``digits/``: the public images, reduced sets of them, and what classifies them.
- `table_run`, `trained_generators`, `measures`, `reference_gradient`: what experiments share.
- `table_jobs`, `memo`, `run_scores`: from a configuration to kept results and their summary.
- `page`, `overview`, `markdown`, `pictures`: from results to ``docs/published.md`` and its pages.
"""
