"""Pictures of the classes that are judged, for the page of `firstorder try`."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from firstorder.data.packs import Pack
    from firstorder.settings import Project

CLASSES, IMAGES = 10, 4  # shown at most
ENLARGED = 2


def pictures(pack: Pack, project: Project, seed: int) -> list[tuple[str, str]]:
    """Return some meta-test classes as they are packed: the name, and its first images in one PNG, in base64."""
    from firstorder.data.packs import meta_test_names

    (dataset,) = project.datasets.values()
    rows = {name: row for row, name in enumerate(pack.class_names)}
    found = []
    for name in sorted(meta_test_names(pack, dataset, seed))[:CLASSES]:
        count = pack.counts[rows[name]] if pack.counts else pack.images.shape[1]
        found.append((name, _png(pack.images[rows[name], : min(count, IMAGES)])))
    return found


def _png(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    """Return images uint8 [images, channels, height, width] side by side as a PNG in base64."""
    import numpy as np
    from PIL import Image

    row = np.concatenate([np.pad(image, ((0, 0), (0, 0), (0, 2)), constant_values=255) for image in images], axis=2)
    pixels = np.kron(row.transpose(1, 2, 0), np.ones((ENLARGED, ENLARGED, 1), np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
