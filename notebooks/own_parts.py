# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From 50 photographs to a detector in ten minutes
#
# You make a part, and you have photographs of good ones. This page goes from there to a program that says of a new
# photograph whether the part is good, and if not, where. It draws its parts instead of using photographs:
# perforated plates, with defects that nobody shows to the detector. With your own photographs, put the name of
# your folder where `folder` stands.

# %% tags=["hide-input"]
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from PIL import Image

import mambaad
from mambaad.data.synthetic.generate import SYNTHETIC_DEFECTS, draw
from mambaad.inference.gallery import colour_scale, overlay
from mambaad.study.notebook import check_parameters
from mambaad.study.page_figures import BLUE, GREY, ORANGE, STYLE, WIDTH, pictures, plot, table

# %% tags=["parameters"]
part: str = "perforated"  # what is drawn: fabric, perforated, gear or resistor
steps: int = 100  # optimiser steps; few, so that this page is built in about a minute

# %% tags=["hide-input"]
given = check_parameters(globals(), part=tuple(SYNTHETIC_DEFECTS), steps=int)
plt.rcParams.update(STYLE)

# %% [markdown]
# ## 1. Photographs
#
# Fifty good parts, in one folder. They should show what good parts may look like: every orientation, light and batch
# that the camera will meet. What never appears here is anomalous later.

# %%
folder = Path(tempfile.mkdtemp()) / "my_parts"
folder.mkdir()
for number in range(50):
    image, _ = draw(given.part, 256, index=number)
    Image.fromarray(image).save(folder / f"good_{number:02}.png")

# %% tags=["hide-input"]
pictures(
    [(path.name, [Image.open(path)]) for path in sorted(folder.iterdir())[:6]],
    alt="{name}, a good " + given.part + " part",
    caption="**Good parts**: the first six of fifty.",
)

# %% [markdown]
# ## 2. Fit
#
# One line. Without a GPU the settings are those of the preset `laptop`: an encoder that has seen ImageNet, a small
# MambaAD that learns to rebuild its features of your parts, and a memory bank of them. Leave `steps` out for your own:
# the preset's number takes some minutes on two cores.

# %%
started = time.perf_counter()
detector = mambaad.fit(folder, steps=given.steps, progress=False)
minutes = (time.perf_counter() - started) / 60

# %% tags=["hide-input"]
display(
    Markdown(
        f"*{minutes:.1f} minutes on the machine that built this page, with {given.steps} steps.* A tenth of the "
        f"photographs was held out and set the threshold. The detector notes: *{detector.threshold_.note}*."
    )
)

# %% [markdown]
# ## 3. New parts
#
# Twelve good parts that the detector has not seen, and twelve with a defect. `predict` follows scikit-learn: 1 for good
# images, −1 for anomalous ones. `score_samples` is larger for better images; `anomaly_map` says where.

# %%
kinds = ["good"] * 12 + [kind for kind in SYNTHETIC_DEFECTS[given.part] for _ in range(3)]
new = [draw(given.part, 256, split="test", index=k, defect=kind) for k, kind in enumerate(kinds)]
images = np.stack([image for image, _ in new])

verdicts = detector.predict(images)
scores = -detector.score_samples(images)
maps = detector.anomaly_map(images)

# %% tags=["hide-input"]
low, high = colour_scale(list(scores), detector.threshold_.value)
pairs = []
for k in (0, *[12 + 3 * number for number in range(4)]):
    photograph = Image.fromarray(images[k])
    pairs.append(
        (
            f"{kinds[k]}: {'OK' if verdicts[k] == 1 else 'not OK'}",
            [photograph, overlay(photograph, maps[k], low, high)],
        )
    )
pictures(
    pairs,
    alt=["{name}: the part", "{name}: the part under its anomaly map"],
    caption="**New parts and their verdicts**, the anomaly map over the second picture of each, all in one scale of "
    "colours.",
)

# %% tags=["hide-input"]
by_kind = list(dict.fromkeys(kinds))
called = {kind: sum(v == -1 for v, own in zip(verdicts, kinds, strict=True) if own == kind) for kind in by_kind}
table(
    pd.DataFrame(
        {
            "kind": by_kind,
            "images": [kinds.count(kind) for kind in by_kind],
            "called anomalous": [called[kind] for kind in by_kind],
        }
    ),
    "**Verdicts by kind**, with the threshold from the five good photographs held out.",
)

# %% [markdown]
# ## 4. The threshold
#
# The threshold decides how many good parts are sent back for nothing, and one from a few images is coarse. On average
# over many draws of five held-out images, at most one good part in six scores above all five; a single draw can be far
# off.

# %% tags=["remove-input"]
display(Markdown(f"Here {called['good']} of {kinds.count('good')} new good parts were rejected."))

# %% [markdown]
# With 99 more good photographs, `calibrate` sets the threshold for the rate you want. It needs no defective part.

# %%
more_good = [draw(given.part, 256, split="test", index=100 + k)[0] for k in range(99)]
detector.set_params(fpr=0.05).calibrate(more_good)
again = detector.predict(images)

# %% tags=["hide-input"]
good = np.array([kind == "good" for kind in kinds])
figure, axis = plt.subplots(figsize=(WIDTH, 2.6))
bins = np.linspace(scores.min(), scores.max(), 25)
axis.hist(scores[good], bins, label="good", color=BLUE, alpha=0.8)
axis.hist(scores[~good], bins, label="with a defect", color=ORANGE, alpha=0.8)
axis.axvline(detector.threshold_.value, color=GREY, linestyle="--", label="threshold")
axis.set(xlabel="anomaly score", ylabel="images")
axis.legend()
plot(
    figure,
    alt="Histogram of the anomaly scores of good and of defective parts; a dashed line marks the threshold.",
    caption=f"**Scores of the {len(kinds)} new images** and the new {detector.threshold_.note}. Above it: "
    f"{(again[good] == -1).sum()} of {good.sum()} good and {(again[~good] == -1).sum()} of {(~good).sum()} defective "
    "images.",
)

# %% [markdown]
# Twelve images of each are a first look, not a measurement. Before you rely on a detector, keep some parts aside, never
# use them to choose settings, and look at what is missed: with the good ones in `my_parts/train/good`, others in
# `my_parts/test/good` and the defective ones in `my_parts/test/<defect>`, `mambaad train --data my_parts --out
# outputs/my_parts` and `mambaad report outputs/my_parts` show it.

# %% [markdown]
# ## 5. Keep it
#
# The file is a checkpoint: `mambaad predict`, `calibrate` and `export` take it, and `Detector.load` reads it again.

# %%
saved = detector.save(folder.parent / "my_parts.pth")
loaded = mambaad.Detector.load(saved)
bool((loaded.predict(images) == again).all())

# %% [markdown]
# How to hand it to a machine without PyTorch, and what to do with photographs that are much larger than their defects,
# is in {doc}`../deploy`. How to arrange folders with defective parts and their masks is in {doc}`../your_own_data`.
