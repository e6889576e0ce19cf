"""Checks of what a caller hands over: a ValueError gives the value and what was expected."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def require_floating(name: str, value: Tensor) -> None:
    """Refuse what is not a float32 or float64 tensor."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {value.dtype}")


def require_shape(name: str, value: Tensor, shape: tuple[int | None, ...]) -> None:
    """Refuse another shape; None stands for any positive size."""
    fits = value.ndim == len(shape) and all(
        size == wanted if wanted is not None else size > 0
        for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: expected shape ({wanted}), got {tuple(value.shape)}")


def require_alike(first: str, one: Tensor, second: str, other: Tensor) -> None:
    """Refuse two tensors of different types or on different devices."""
    if one.dtype != other.dtype or one.device != other.device:
        raise ValueError(
            f"{first} are {one.dtype} on {one.device}, {second} {other.dtype} on {other.device}: "
            "give both in one type on one device"
        )


def require_finite(name: str, value: Tensor) -> None:
    """Refuse NaN and infinity."""
    if not bool(torch.isfinite(value.detach()).all()):
        raise ValueError(f"{name}: expected finite values, found NaN or infinity")


def positive(name: str, value: float) -> float:
    """Return `value` as a float, refused unless positive and finite."""
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name}: expected a positive number, got {value}")
    return number


def count(name: str, value: int, minimum: int = 1) -> int:
    """Return `value` as an int, refused below `minimum`."""
    if int(value) != value or value < minimum:
        raise ValueError(f"{name}: expected an integer of at least {minimum}, got {value}")
    return int(value)
