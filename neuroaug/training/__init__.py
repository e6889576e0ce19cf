"""From images to a trained generator: the loop, its checkpoints, its processes."""
