"""An untrained generator, complete on disk, for tests of what comes after training."""

import pandas as pd

from neuroaug.cohort import lineage


def make_model(folder, shape, grid="4mm", label="AD", seed=0):
    """An untrained RHVAE whose metric is that of six random images, saved with its lineage."""
    import torch

    from neuroaug.config import GeneratorConfig
    from neuroaug.models import RHVAE

    torch.manual_seed(seed)
    model = RHVAE(GeneratorConfig(width=2, latent_dim=3), shape, label=label, grid=grid)
    model.update_metric([torch.rand(6, 1, *shape)])
    model.sampler_settings = {"hmc": {"step_size": 0.005, "n_leapfrog": 5, "n_steps": 4}}
    model.save(folder)
    rows = [(f"sub-{i:02d}", "ses-M000", label, f"{i:064d}", "train", "0" * 64) for i in range(6)]
    lineage.write_lineage(folder, pd.DataFrame(rows, columns=list(lineage.LINEAGE_COLUMNS)))
    return folder
