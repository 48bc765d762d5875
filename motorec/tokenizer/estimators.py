r"""What stands for the gradient of :math:`z_q` with respect to :math:`z`: the choice of a code itself has none.

* `straight_through` (1308.3432): :math:`\partial z_q / \partial z = I`, as if nothing had been quantized.
* `rotation` (the rotation trick, 2410.06424): :math:`\partial z_q / \partial z = \lambda R`, where
  :math:`\lambda = \lVert z_q \rVert / \lVert z \rVert`, and :math:`R` is the rotation within the plane of :math:`z` and
  :math:`z_q` that turns the one to the other, both held constant. The gradient arrives at :math:`z` under the angle
  that it has with :math:`z_q`, so that rows in different parts of a code's cell are pushed differently. With
  :math:`\hat z`, :math:`\hat q` of unit length and :math:`h = (\hat z + \hat q) / \lVert \hat z + \hat q \rVert`,

.. math:: R = I - 2 h h^T + 2 \hat q \hat z^T.

Both are applied once, to the whole :math:`z \to z_q` and not level by level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Estimator = Literal["straight_through", "rotation"]

OPPOSITE = 1e-4  # below this length, the sum of two unit vectors has lost its direction to rounding


def straight_through(z: Float[Tensor, "n d"], quantized: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """`quantized`, with the identity as its gradient with respect to `z`."""
    return z + (quantized - z).detach()


def rotation(z: Float[Tensor, "n d"], quantized: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    r"""`quantized` exactly, with :math:`\lambda R` as its gradient with respect to `z`.

    Where one of the two is zero there is no rotation, and the gradient is the identity. Opposite vectors have no plane;
    there :math:`h = 0`, and R is the reflection that takes one to the other.
    """
    constant, target = z.detach(), quantized.detach()
    length, target_length = constant.norm(dim=1, keepdim=True), target.norm(dim=1, keepdim=True)
    defined = (length > 0) & (target_length > 0)
    start, end = (row / size.where(defined, 1) for row, size in ((constant, length), (target, target_length)))
    between = start + end
    span = between.norm(dim=1, keepdim=True)
    half = (between / span.clamp_min(OPPOSITE)).where(span > OPPOSITE, 0)

    def along(direction: Tensor) -> Tensor:
        return (z * direction).sum(1, keepdim=True)

    turned = z - 2 * along(half) * half + 2 * along(start) * end
    moved = torch.where(defined, turned * (target_length / length.where(defined, 1)), z)
    return target + (moved - moved.detach())  # the bracket is zero, but for its gradient


ESTIMATORS: Mapping[Estimator, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"straight_through": straight_through, "rotation": rotation}
)
