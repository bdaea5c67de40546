"""The network architectures as plain values, without torch. networks.py computes with them, flops.py counts.

The paper says its networks are those of Finn et al., but they differ: Finn et al. average or flatten other
maps, have no scale in their batch normalisation and initialise the head differently (docs/algorithms.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from firstorder.settings import ImageSettings


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What varies between the networks. All have four blocks of 3x3 convolution, batch normalisation and ReLU."""

    size: int  # images are size x size
    channels: int
    filters: int
    pool: str  # "stride": stride-2 convolutions; "same", "valid": stride 1, then 2x2 max-pooling with that padding
    scale: bool = True  # batch normalisation has a scale; scale and shift are adapted. If not, the shift is not adapted
    mean: bool = False  # the last map is averaged over its positions before the dense layer, else flattened
    normal_head: bool = False  # the dense kernel is initialised standard normal, else Glorot uniform

    @property
    def image_shape(self) -> list[int]:
        """Channels, height and width of the images."""
        return [self.channels, self.size, self.size]

    def map_sizes(self) -> list[int]:
        """Return the side of each block's input map, and of the last block's output map."""
        sizes = [self.size]
        for _ in range(BLOCKS):
            sizes.append(sizes[-1] // 2 if self.pool == "valid" else -(-sizes[-1] // 2))
        return sizes


BLOCKS = 4
ARCHITECTURES = {
    # The authors of Reptile (their models.py).
    "omniglot": Architecture(size=28, channels=1, filters=64, pool="stride"),
    "mini_imagenet": Architecture(size=84, channels=3, filters=32, pool="same"),
    # Finn et al. (cbfinn/maml, maml.py and utils.py).
    "omniglot_finn": Architecture(
        size=28, channels=1, filters=64, pool="stride", scale=False, mean=True, normal_head=True
    ),
    "mini_imagenet_finn": Architecture(size=84, channels=3, filters=32, pool="valid", scale=False),
}


def architecture_of(network: str | Architecture, image: ImageSettings | None = None) -> Architecture:
    """Return the architecture of a name, or the one given; with the sizes of `image` in place of its own, if given."""
    known = ARCHITECTURES[network] if isinstance(network, str) else network
    return known if image is None else replace(known, **vars(image))
