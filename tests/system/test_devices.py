"""One reading of the names of devices."""

import pytest
import torch

from neuroaug.errors import InputError, ResourceError
from neuroaug.system.devices import Devices, find_devices


@pytest.mark.parametrize("name", ["gpu2", "cpu:1", "cuda:one", "auto:0", ""])
def test_a_name_that_is_no_device_is_refused(name):
    with pytest.raises(InputError, match="not understood; choose auto, cpu, cuda"):
        find_devices(name)


def test_no_devices_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        find_devices("cpu", 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused():
    assert find_devices() == Devices("cpu", (), 1)
    with pytest.raises(ResourceError, match="no GPU that torch can use"):
        find_devices("cuda:1")


def test_gpus_are_counted_from_the_one_that_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert find_devices("cuda:1", 2) == Devices("cuda", (1, 2), 2)
    assert find_devices("gpu").first == torch.device("cuda", 0)
    with pytest.raises(ResourceError, match=r"this machine has 4 GPU\(s\)"):
        find_devices("cuda:3", 2)


def test_processes_on_the_cpu_share_its_memory():
    one, two = (find_devices("cpu", n).free_memory() for n in (1, 2))
    assert 0 < two < one
