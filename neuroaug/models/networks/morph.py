"""``morph``: a decoder that moves one template instead of painting every image.

    v = K * (W z)                      velocity on a coarse grid, K a Gaussian of 1.5 nodes
    id + u = exp(v)                    by scaling and squaring
    logits = (T o (id + u)) (1 + g_z) + b_z

T starts at the logit of the mean image; g_z and b_z are smooth, bounded and linear in z every eight
voxels: intensities change slowly, shapes sharply. A deformation moves an edge without blurring it,
where a painting decoder gives the mean of all edges that share a code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroaug.config import GeneratorConfig
from neuroaug.models.networks.conv3d import CLOSEST_TO_BOUND, build_conv3d
from neuroaug.models.networks.heads import Networks, in_full_precision
from neuroaug.models.networks.registry import register_network

SPACING = 2
"""Voxels between two nodes of the velocity."""
SLOW_SPACING = 8
"""Voxels between two nodes of gain and offset."""
SMOOTHNESS = 1.5
"""Standard deviation of K, in nodes."""
SQUARINGS = 5
VELOCITY_UNIT, TEMPLATE_UNIT, INTENSITY_UNIT = 8.0, 20.0, 4.0
"""What parameters are stored divided by, so that steps of 1e-3 move them as far as they need."""
MOST_GAIN, MOST_OFFSET = 0.5, 4.0
LEAST_VOLUME = 0.2
"""Of a deformed voxel, as a share of its own: below it the deformation is held back."""
FOLDING_WEIGHT = 10.0
"""Nats for every voxel whose volume is nought."""


def _nodes(shape: Sequence[int], spacing: int) -> tuple[int, ...]:
    """Nodes along each axis; the first and the last lie on the first and the last voxel."""
    return tuple(1 if n == 1 else max(2, math.ceil((n - 1) / spacing) + 1) for n in shape)


def _resized(field: Tensor, shape: Sequence[int]) -> Tensor:
    return F.interpolate(field, size=tuple(shape), mode="trilinear", align_corners=True)


def _positions(shape: Sequence[int], like: Tensor) -> Tensor:
    """Index of every place along each axis, (1, 3, X, Y, Z)."""
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def _read_at(image: Tensor, displacement: Tensor) -> Tensor:
    """Values of an image (B, C, X, Y, Z) at x + displacement(x), in places of its own grid."""
    shape = image.shape[2:]
    places = _positions(shape, displacement) + displacement
    # grid_sample wants z, y, x in [-1, 1]; an axis of one place has nowhere to go.
    parts = [
        2 * places[:, axis] / (n - 1) - 1 if n > 1 else torch.zeros_like(places[:, axis])
        for axis, n in enumerate(shape)
    ]
    grid = torch.stack(parts[::-1], dim=-1)
    return F.grid_sample(image, grid, align_corners=True, padding_mode="border")


def exponential(velocity: Tensor, squarings: int = SQUARINGS) -> Tensor:
    """Displacement u with id + u = exp(v), both (B, 3, X, Y, Z) in places of the grid."""
    u = velocity / 2**squarings
    for _ in range(squarings):
        u = u + _read_at(u, u)
    return u


def volume_change(displacement: Tensor) -> Tensor:
    """Determinant of the Jacobian of id + u, (B, X, Y, Z), u in places of the grid."""
    rows = []
    for component in range(3):
        row = []
        for axis in range(3):
            field = displacement[:, component]
            if field.shape[axis + 1] > 1:
                (gradient,) = torch.gradient(field, dim=axis + 1)
            else:
                gradient = torch.zeros_like(field)
            row.append(gradient + float(component == axis))
        rows.append(row)
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


class MorphDecoder(nn.Module):
    """Latents to logits: one template, deformed, its intensities changed slowly."""

    def __init__(self, latent_dim: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = shape
        self.nodes = _nodes(shape, SPACING)
        slow = _nodes(shape, SLOW_SPACING)
        self.velocity = nn.Parameter(0.01 * torch.randn(latent_dim, 3, *self.nodes))
        self.template = nn.Parameter(torch.zeros(1, 1, *shape))
        self.gain = nn.Parameter(torch.zeros(latent_dim, 1, *slow))
        self.offset = nn.Parameter(torch.zeros(latent_dim, 1, *slow))
        self.last: Tensor | None = None

    def _smoothed(self, field: Tensor) -> Tensor:
        """Convolve with a Gaussian of `SMOOTHNESS` nodes, along each axis longer than one."""
        reach = math.ceil(3 * SMOOTHNESS)
        taps = torch.arange(-reach, reach + 1, device=field.device, dtype=field.dtype)
        kernel = torch.exp(-0.5 * (taps / SMOOTHNESS) ** 2)
        kernel = (kernel / kernel.sum()).expand(field.shape[1], 1, -1)
        for axis, n in enumerate(self.nodes):
            if n == 1:
                continue
            size, padding = [1, 1, 1], [0, 0, 0]
            size[axis], padding[axis] = 2 * reach + 1, reach
            weight = kernel.reshape(field.shape[1], 1, *size)
            field = F.conv3d(field, weight, padding=padding, groups=field.shape[1])
        return field

    def displacement(self, z: Tensor) -> Tensor:
        """Displacement of every node for latents (B, d), (B, 3, *nodes), in nodes."""
        velocity = VELOCITY_UNIT * torch.einsum("bd,dcxyz->bcxyz", z, self.velocity)
        return exponential(self._smoothed(velocity))

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, 1, X, Y, Z) of latents (B, d)."""
        with in_full_precision(z):
            z = z.float() if z.dtype.itemsize < 4 else z
            moved = self.displacement(z)
            self.last = z.detach() if self.training else None
            scale = [
                (n - 1) / (m - 1) if m > 1 else 0.0
                for n, m in zip(self.grid, self.nodes, strict=True)
            ]
            in_voxels = moved * torch.tensor(scale, device=z.device, dtype=z.dtype).reshape(
                1, 3, 1, 1, 1
            )
            template = (TEMPLATE_UNIT * self.template).expand(len(z), -1, -1, -1, -1)
            shape = _read_at(template, _resized(in_voxels, self.grid))
            gain, offset = (
                _resized(torch.einsum("bd,dcxyz->bcxyz", z, INTENSITY_UNIT * part), self.grid)
                for part in (self.gain, self.offset)
            )
            gain = MOST_GAIN * torch.tanh(gain / MOST_GAIN)
            offset = MOST_OFFSET * torch.tanh(offset / MOST_OFFSET)
            return shape * (1 + gain) + offset

    def penalty(self) -> Tensor | float:
        """Nats per image for voxels that the last deformation all but folded; 0 before one.

        Computed anew: a Hamiltonian flow has already used up the graph of the last images.
        """
        if self.last is None:
            return 0.0
        z, self.last = self.last, None
        with in_full_precision(z):
            lost = F.relu(LEAST_VOLUME - volume_change(self.displacement(z))) / LEAST_VOLUME
        return FOLDING_WEIGHT * math.prod(self.grid) * lost.mean()

    @torch.no_grad()
    def centre_on(self, mean_image: Tensor, deviation: float) -> None:
        """Start from a mean image (X, Y, Z) in [0, 1]."""
        clamped = mean_image.clamp(CLOSEST_TO_BOUND, 1 - CLOSEST_TO_BOUND)
        self.template.copy_(torch.logit(clamped).reshape(self.template.shape) / TEMPLATE_UNIT)


@register_network(
    "morph",
    learning_rate=1e-3,
    clips_gradients=True,
    channels_last=True,
    when_short="lower generator.width or use a coarser resolution",
    twice_differentiable=False,
    paints=False,
)
def morph(config: GeneratorConfig, shape: Sequence[int]) -> Networks:
    """A template deformed by velocity fields that are linear in the latents; encoder of conv3d."""
    networks = build_conv3d(shape, config.n_latents, config.width)
    return networks._replace(decoder=MorphDecoder(config.n_latents, tuple(shape)))
