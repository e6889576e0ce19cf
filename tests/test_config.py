"""``neuroaug.yaml``: every key has a default, what is wrong is named."""

import re
import subprocess
import sys

import pytest
import yaml
from pydantic import ValidationError

from neuroaug.config import (
    Cell,
    GeneratorConfig,
    StudyConfig,
    parse_config,
    read_config,
    write_config,
)
from neuroaug.errors import InputError
from neuroaug.registries import NETWORKS
from neuroaug.study import Study
from neuroaug.system.packaged_files import shipped


def test_an_empty_file_is_a_valid_study(tmp_path):
    (tmp_path / "neuroaug.yaml").write_text("")
    study = Study.open(tmp_path)
    assert study.config == StudyConfig()
    assert study.model("train-50", "AD") == tmp_path / "models" / "train-50" / "AD"
    assert study.model("train", "AD", 3) == tmp_path / "models" / "train" / "AD_seed-3"


def test_the_published_settings_are_the_defaults():
    generator = StudyConfig().generator.resolved()
    assert (generator.latent_dim, generator.n_leapfrog, generator.step_size) == (10, 3, 1e-3)
    assert (generator.temperature, generator.regularization, generator.beta_zero_sqrt) == (
        1.5,
        1e-2,
        0.3,
    )
    assert (generator.batch_size, generator.patience) == (25, 50)


def test_a_written_configuration_reads_back_the_same(tmp_path):
    config = parse_config(
        {"resolution": "4mm", "evaluation": {"runs": 3, "cells": ["real", "synthetic-10"]}}
    )
    write_config(tmp_path / "c.yaml", config)
    assert read_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"generatr": {}}, r"unknown key 'generatr'; did you mean 'generator'\?"),
        (
            {"generator": {"latent_dims": 3}},
            r"unknown key 'generator.latent_dims'; did you mean 'latent_dim'\?",
        ),
        ({"resolution": "3mm"}, r"resolution: .*'1mm', '2mm' or '4mm'"),
        ({"evaluation": {"cells": ["rael"]}}, r"cell 'rael': not understood"),
        (
            {"evaluation": {"cells": ["train_nonet_2mm_real"]}},
            r"cell 'train_nonet_2mm_real': no network 'nonet'; choose",
        ),
        ({"labels": ["AD", "AD"]}, r"labels must be distinct"),
        ({"evaluation": {"runs": 0}}, r"evaluation.runs: .*greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(content, message):
    with pytest.raises(InputError, match=message) as error:
        parse_config(content)
    assert "\n" not in str(error.value)


def test_yaml_that_does_not_parse_is_one_line(tmp_path):
    (tmp_path / "neuroaug.yaml").write_text("a: [1,\nb: 2")
    with pytest.raises(InputError, match="not readable as YAML") as error:
        Study.open(tmp_path)
    assert "\n" not in str(error.value)


def test_a_configuration_cannot_be_changed_after_it_was_read():
    with pytest.raises(ValidationError, match="frozen"):
        StudyConfig().resolution = "1mm"


@pytest.mark.parametrize(
    ("name", "n", "real", "classical", "steps"),
    [
        ("train-50_baseline_2mm_real+synthetic-5000", 5000, True, False, "epochs"),
        ("train_densenet121_1mm_real", 0, True, False, "epochs"),
        ("train_baseline_4mm_synthetic-10_steps-matched", 10, False, False, "matched"),
        ("train_baseline_2mm_real+classical+synthetic-7", 7, True, True, "epochs"),
    ],
)
def test_a_cell_says_what_it_is_by_its_name(name, n, real, classical, steps):
    cell = Cell.parse(name)
    assert cell.name == name
    assert (cell.n_synthetic, cell.uses_real, cell.uses_classical, cell.steps) == (
        n,
        real,
        classical,
        steps,
    )


def test_a_cell_may_be_named_by_its_data_alone():
    config = parse_config(
        {"resolution": "4mm", "split": {"default": "train-50"}, "evaluation": {"cells": ["real"]}}
    )
    assert [cell.name for cell in config.cells()] == ["train-50_baseline_4mm_real"]


def test_the_shipped_configurations_are_valid():
    files = sorted(shipped("configs").glob("*.yaml"))
    assert "demo.yaml" in [f.name for f in files]
    for file in files:
        assert read_config(file).cells(), file.name
        assert yaml.safe_load(file.read_text())


VERSION_1 = {  # as version 1 wrote it beside every study, whatever the family
    "network": "conv3d",
    "model": "rhvae",
    "latent_dim": 10,
    "width": 16,
    "n_leapfrog": 3,
    "step_size": 0.001,
    "temperature": 1.5,
    "regularization": 0.01,
    "beta_zero_sqrt": 0.3,
    "likelihood": "bernoulli",
    "objective": "published",
    "second_order": False,
    "learning_rate": None,
    "batch_size": 25,
    "accumulate": 1,
    "max_epochs": 1000,
    "patience": 50,
    "validate_every": 1,
    "held_out": 0.0,
    "precision": "auto",
    "scaling": "min-max",
    "seeds": [0],
}


@pytest.mark.parametrize("model", ["rhvae", "vae"])
def test_a_configuration_of_version_1_is_read_and_its_keys_stay(model):
    spelled = {**VERSION_1, "model": model}
    generator = parse_config({"generator": spelled}).generator
    assert generator == GeneratorConfig(model=model)
    del spelled["seeds"]
    assert generator.fingerprint() == spelled
    assert generator.resolved().fingerprint() == spelled
    changed = parse_config({"generator": {**VERSION_1, "n_leapfrog": 5}}).generator
    assert changed.resolved().n_leapfrog == 5


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (
            {"model": "vae", "n_leapfrog": 3},
            "generator.n_leapfrog: not a setting of model vae, but",
        ),
        ({"n_leapfrog": 0}, "generator.n_leapfrog: Input should be greater than or equal to 1"),
        ({"n_leapfrgo": 3}, "unknown key 'generator.n_leapfrgo'; did you mean 'n_leapfrog'"),
        ({"latent_dmi": 3}, "unknown key 'generator.latent_dmi'; did you mean 'latent_dim'"),
        ({"model": "gan"}, "generator gan: unknown; choose one of"),
        ({"network": "unet"}, f"network unet: unknown; choose one of {', '.join(NETWORKS.names)}"),
    ],
)
def test_a_setting_that_does_not_fit_is_named_in_one_line(generator, message):
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        parse_config({"generator": generator}, "neuroaug.yaml")
    assert "\n" not in str(refused.value)


def test_a_configuration_without_settings_of_a_family_loads_no_torch():
    code = (
        "import sys; from neuroaug.config import parse_config;"
        "parse_config({'generator': {'model': 'vae', 'latent_dim': 4, 'network': 'mlp'}});"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
