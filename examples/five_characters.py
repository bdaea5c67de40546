"""Adapt the published checkpoint to five characters that it has never seen, and watch the accuracy along inner steps.

Open it as a notebook in an editor that knows cells (`# %%`), or run it: `.venv/bin/python examples/five_characters.py`.
It takes half a minute on one core and writes five_characters.png.
"""

# %% Load the meta-trained network: Reptile on Omniglot, 5-way. A clone has it in published/.
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import firstorder
from firstorder.settings import MODES, Mode

ROOT = Path(__file__).parents[1]
learner = firstorder.load(ROOT / "models/reptile/omniglot-5way/seed-0.safetensors")
print(f"tells {learner.way} classes apart, in images of {learner.image_shape} (channels, height, width)")

# %% Five characters as strokes: corners (x, y) from 0 to 1, from the top left. Change them, or draw your own.
CHARACTERS = {
    "house": [[(0.2, 0.9), (0.2, 0.5), (0.5, 0.15), (0.8, 0.5), (0.8, 0.9), (0.2, 0.9)]],
    "arrow": [[(0.1, 0.5), (0.9, 0.5)], [(0.6, 0.2), (0.9, 0.5), (0.6, 0.8)]],
    "ladder": [
        [(0.3, 0.1), (0.3, 0.9)],
        [(0.7, 0.1), (0.7, 0.9)],
        [(0.3, 0.35), (0.7, 0.35)],
        [(0.3, 0.65), (0.7, 0.65)],
    ],
    "zigzag": [[(0.1, 0.3), (0.35, 0.7), (0.5, 0.3), (0.65, 0.7), (0.9, 0.3)]],
    "cross": [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
}
generator = np.random.default_rng(0)


def draw(strokes: list[list[tuple[float, float]]]) -> np.ndarray:
    """Draw a character by an unsteady hand: bool [1, 28, 28], ink False and paper True as in Omniglot."""
    tilt = np.eye(2) + generator.normal(0, 0.12, (2, 2))
    image = Image.new("L", (112, 112), 255)
    for stroke in strokes:
        corners = (np.array(stroke) - 0.5 + generator.normal(0, 0.03, (len(stroke), 2))) @ tilt + 0.5
        ImageDraw.Draw(image).line([(float(x), float(y)) for x, y in corners * 96 + 8], fill=0, width=6)
    return np.asarray(image.resize((28, 28), Image.Resampling.BOX))[None] > 150


# %% One drawing of each to adapt to (support), ten others to be judged (query).
QUERIES = 10
support = np.stack([draw(strokes) for strokes in CHARACTERS.values()])
query = np.stack([draw(strokes) for strokes in CHARACTERS.values() for _ in range(QUERIES)])
labels = np.arange(5).repeat(QUERIES)

# %% Adapt, and classify the queries after every inner step in both modes.
accuracies: dict[Mode, list[float]] = {mode: [] for mode in MODES}
for adapted in learner.steps(support, range(5), inner_steps=50):
    for mode, found in accuracies.items():
        found.append(float((adapted.predict(query, mode=mode) == labels).mean()))
for mode, found in accuracies.items():
    print(f"{mode}: {100 * found[0]:.0f} % before the first inner step, {100 * found[-1]:.0f} % after 50")

# %% Plot: the drawings above, the accuracies below.
figure, axes = plt.subplots(2, 1, figsize=(6, 5), height_ratios=(1, 2.5))
axes[0].imshow(np.concatenate([one[0] for one in support], axis=1), cmap="gray", interpolation="nearest")
axes[0].set_title("One drawing of each character")
axes[0].set_axis_off()
for mode, found in accuracies.items():
    axes[1].plot(range(len(found)), [100 * accuracy for accuracy in found], label=mode)
axes[1].axhline(20, color="gray", linestyle=":", label="guessing")
axes[1].set(xlabel="inner steps", ylabel="accuracy (%)", ylim=(0, 103))
axes[1].legend()
figure.tight_layout()
figure.savefig("five_characters.png", dpi=150)
