"""What distinguishes the four networks, as plain values: models.py computes with them, flops.py counts. No torch.

A newcomer would get wrong: the paper says that its networks are Finn et al.'s, and they are not quite. Theirs average
or flatten other maps, have no scale in their normalisation and start their head differently (docs/algorithms.md).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What distinguishes the four networks: all have four blocks of 3x3 convolution, normalisation, rectifier."""

    size: int  # images are size x size
    channels: int
    filters: int
    pool: str  # "stride": convolutions of stride 2; "same", "valid": 2x2 maxima after stride 1, TensorFlow's padding
    scale: bool  # batch normalisation has a scale, adapted like the shift; without it the shift is not adapted
    mean: bool  # the last map is averaged over its places before the dense layer, else flattened
    normal_head: bool  # the dense kernel starts standard normal, else Glorot uniform

    def map_sizes(self) -> list[int]:
        """Return the side of the map that each block takes, and that of the last one it gives."""
        sizes = [self.size]
        for _ in range(BLOCKS):
            sizes.append(sizes[-1] // 2 if self.pool == "valid" else -(-sizes[-1] // 2))
        return sizes


BLOCKS = 4
ARCHITECTURES = {
    # The authors of Reptile (their models.py).
    "omniglot": Architecture(size=28, channels=1, filters=64, pool="stride", scale=True, mean=False, normal_head=False),
    "mini_imagenet": Architecture(
        size=84, channels=3, filters=32, pool="same", scale=True, mean=False, normal_head=False
    ),
    # Finn et al. (cbfinn/maml, maml.py and utils.py).
    "omniglot_finn": Architecture(
        size=28, channels=1, filters=64, pool="stride", scale=False, mean=True, normal_head=True
    ),
    "mini_imagenet_finn": Architecture(
        size=84, channels=3, filters=32, pool="valid", scale=False, mean=False, normal_head=False
    ),
}
