"""Does it help? The study on real people: arms, controls and nulls, run by run, and its pages.

The images lie outside the project and are read by path; what is committed are scores.
"""
