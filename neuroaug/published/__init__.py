"""The papers' results on public images, replayed with the functions that users call in 3D.

An image of 28 x 28 pixels is a grid with a flat axis, (28, 28, 1): generators, samplers, metrics,
geodesics and the classifiers' training loop are those of `neuroaug.models`, `neuroaug.geometry` and
`neuroaug.evaluation`. Here are only the images, the protocols, what is measured, and the tables.
"""
