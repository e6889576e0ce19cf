"""How many jobs a study needs, and the hours they may take, from steps measured on this machine."""

from __future__ import annotations

import math

from neuroaug.workflow.protocol import Protocol
from neuroaug.workflow.stage import EstimateLine, hours_text


def print_estimate(protocol: Protocol) -> None:
    """Print what each stage has to do, and the hours of all on this kind of device."""
    import torch

    lines = [
        line
        for stage in protocol.stages
        for line in stage.estimate(protocol.study, protocol.by_stage[stage.name])
    ]
    lines.append(EstimateLine("jobs of the workflow", len(protocol.jobs)))
    hours = sum(line.device_hours for line in lines if not math.isnan(line.device_hours))
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else "the CPU: no GPU here, where it is far less"
    lines.append(
        EstimateLine(
            f"{'GPU' if gpu else 'CPU'} hours",
            hours_text(hours).removesuffix(" h"),
            f"from steps measured now on {device}",
        )
    )
    for line in lines:
        print(f"{line.what:<26} {line.number:>9}   {line.note}".rstrip())
