"""How many jobs a study needs, and the hours they may take, from steps measured on this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neuroaug.workflow.protocol import Protocol
from neuroaug.workflow.stage import EstimateLine, hours_text


def _lines(protocol: Protocol) -> list[EstimateLine]:
    return [
        line
        for stage in protocol.stages
        for line in stage.estimate(protocol.study, protocol.by_stage[stage.name])
    ]


def _hours(lines: Sequence[EstimateLine]) -> float:
    return sum(line.device_hours for line in lines if not math.isnan(line.device_hours))


def device_hours(protocol: Protocol) -> float:
    """Hours that all stages may take on this kind of device."""
    return _hours(_lines(protocol))


def print_estimate(protocol: Protocol) -> None:
    """Print what each stage has to do, and the hours of all on this kind of device."""
    import torch

    lines = [*_lines(protocol), EstimateLine("jobs of the workflow", len(protocol.jobs))]
    hours = _hours(lines)
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
