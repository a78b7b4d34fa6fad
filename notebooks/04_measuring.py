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
# # Measuring detection
#
# A detector returns a score per image and one per pixel. How good are they? The paper answers with seven numbers per
# category. This chapter explains them on eight maps of a trained network, and tells the story of one pixel that moves
# one of them by many points, or not at all, depending on how it is computed.
#
# :::{admonition} Before you start
# :class: tip
# About 15 minutes. You need nothing but percentages. {doc}`00_image_to_verdict` says where the maps come from.
# :::
#
# ## 1. One threshold, four kinds of pixels
#
# Choose a threshold and call every pixel above it defective. Then a pixel is a *hit*, a *false alarm*, a *miss*, or
# rightly left alone. Three ratios are made of these counts:
#
# - **recall** (true positive rate): hits among the defect pixels,
# - **false positive rate** (FPR): false alarms among the normal pixels,
# - **precision**: hits among the pixels called defective.
#
# F1 combines the last with recall: the harmonic mean of precision and recall.
#
# :::{admonition} Predict before you look
# :class: hint
# 2 % of all pixels belong to defects. A map finds all of them and raises a false alarm at 2 % of the normal pixels.
# What
# are recall, FPR and precision? Which of the three would you show to a customer?
# :::

# %% tags=["remove-cell"]
import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from PIL import Image

from mambaad.metrics import evaluate
from mambaad.study.book_network import book_network, example_image
from mambaad.study.notebook import check_parameters
from mambaad.study.page_figures import BLUE, ORANGE, STYLE, WIDTH, live, plot, table
from mambaad.study.table_html import signed

# %% tags=["parameters", "remove-cell"]
side: int = 64  # the maps are shown and measured at this side, in pixels
seed: int = 0  # seed of the made-up maps of section 5

# %% tags=["hide-input"]
given = check_parameters(globals(), side=(32, 64, 128), seed=int)
plt.rcParams.update(STYLE)
torch.set_num_threads(1)

CASES = (
    ("gear", "colour", 50),
    ("gear", "scratch", 51),
    ("resistor", "colour", 50),
    ("resistor", "missing", 50),
    ("perforated", "bent", 50),
    ("fabric", "spot", 52),
    ("fabric", None, 53),
    ("gear", None, 53),
)
model = book_network()
pictures, masks, words = [], [], []
for category, defect, index in CASES:
    case = example_image(category, defect or "scratch", index)
    pictures.append(case.image if defect else case.good_twin)
    masks.append(case.mask if defect else torch.zeros_like(case.mask))
    words.append(case.words if defect else f"{category}, good")
pictures, masks = torch.stack(pictures), torch.stack(masks)
anomaly = model.predict(model.normalize(pictures)).anomaly_map
small = F.adaptive_avg_pool2d(anomaly[:, None], given.side)[:, 0]
truth = (F.adaptive_avg_pool2d(masks[:, None].float(), given.side)[:, 0] >= 0.5).numpy()
maps = (small / small.max() * 10_000).round().numpy().astype(np.uint16)  # as stored in the page


def as_text(content):
    return base64.b64encode(content).decode()


def thumbnail(picture):
    file = io.BytesIO()
    pixels = F.adaptive_avg_pool2d(picture[None], given.side)[0].permute(1, 2, 0)
    Image.fromarray((255 * pixels).byte().numpy()).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + as_text(file.getvalue())


stored = {
    "side": given.side,
    "outlier": len(CASES) - 1,
    "cases": [
        {"words": name, "image": thumbnail(x), "map": as_text(m.tobytes()), "mask": as_text(np.packbits(t).tobytes())}
        for name, x, m, t in zip(words, pictures, maps, truth, strict=True)
    ],
}
measured = {p: evaluate(maps.astype(float), truth, protocol=p) for p in ("exact", "paper")}

figure, axes = plt.subplots(2, 4, figsize=(WIDTH, 3.1))
for ax, m, t, name in zip(axes.flat, maps, truth, words, strict=True):
    ax.imshow(m, vmin=0, vmax=maps.max())
    if t.any():
        ax.contour(t, levels=[0.5], colors="#d55e00", linewidths=1.4)
    ax.set_axis_off()
    ax.set_title(name, fontsize=11)
live(
    "threshold-bench",
    still=figure,
    alt="Eight anomaly maps, six of defective and two of good images, with the defects outlined.",
    caption="**Threshold bench.** One threshold for eight maps moves the colours, the points on the curves and the "
    "bars. Without scripts you see the maps, with the defects outlined. Their pixel AU-ROC is "
    f"{measured['exact']['pixel_auroc']:.1f} %, AP {measured['exact']['pixel_ap']:.1f} %, F1max "
    f"{measured['exact']['pixel_f1max']:.1f} %, AU-PRO {measured['exact']['pixel_aupro']:.1f} %.",
    data=stored,
)

# %% [markdown]
# Move the threshold up until the false alarms are gone: how much of the defects is left? The answer to the question
# above: recall 100 %, FPR 2 %, precision about 50 %. Since normal pixels are so many, **a small FPR hides a poor
# precision**. Show precision and recall.
#
# ## 2. All thresholds at once
#
# A threshold is a choice of the user; a metric should not depend on it. So the metrics sweep over all thresholds.
#
# - **AU-ROC**: the area under recall over FPR. It is the probability that a random defect pixel scores higher than a
#   random normal one. 50 % is chance. With few defect pixels it is often close to 100 %,
#   even where precision is poor.
# - **AP** (average precision): the mean precision over recall, each step weighted by the recall it adds. It punishes
#   false alarms by their number, and is the strictest of the three.
# - **F1max**: the F1 of the best threshold, chosen with the truth in hand: a bound on what a user can reach.
#
# All three are used for images too, where an image's score is the largest value of its map.
#
# ## 3. Small defects count: AU-PRO
#
# By pixels, one large defect outweighs ten small ones. *Per-region overlap* (PRO) treats all connected defect regions
# alike: it is the mean, over regions, of the share found. **AU-PRO** is the area under PRO over FPR, up to an FPR of
# 30 %, divided by 0.3. At higher false positive rates a map is of little use.
#
# :::{admonition} Predict before you look
# :class: hint
# In the bench, tick *add one outlier pixel*: one normal pixel among thousands scores three times the former
# maximum. Which of AU-ROC, AP, F1max, AU-PRO should change, and by how much?
# :::
#
# ## 4. Two protocols
#
# The same names stand for two computations, and this book keeps both.
#
# - **exact**: every distinct score is a threshold; AU-PRO is integrated to exactly 30 %.
# - **paper**: what the published code computes. Pixel F1max is the best of 21 thresholds on the map rescaled to 0…1,
#   AU-PRO comes from 100 thresholds spread evenly between the smallest and the largest score; the points below 30 % are
#   kept, and their FPR is stretched to 0…1.
#
# A grid does no harm if the scores fill it evenly. They do not: most pixels lie at its low end. And **one pixel decides
# where the high end is.**


# %% tags=["hide-input"]
def with_outlier(maps, times):
    """The maps with one normal pixel, near the corner of the last map, at `times` the largest score."""
    changed = maps.astype(float)
    changed[-1, 3, 3] = times * changed.max()
    return changed


rows = []
for name, values in (("as they are", maps.astype(float)), ("with one outlier, 3 ×", with_outlier(maps, 3))):
    report = {p: evaluate(values, truth, protocol=p) for p in ("exact", "paper")}
    row = [name, report["exact"]["pixel_auroc"], report["exact"]["pixel_ap"]]
    rows.append([*row, *(report[p][f"pixel_{m}"] for m in ("f1max", "aupro") for p in ("exact", "paper"))])
columns = ["eight maps", "AU-ROC", "AP", "F1max exact", "F1max paper", "AU-PRO exact", "AU-PRO paper"]
eight = pd.DataFrame(rows, columns=columns)
table(eight, "**One outlier pixel** on the eight maps of the bench, in percent.", decimals=1)

# %% tags=["remove-input"]
moved = eight.set_index("eight maps").diff().iloc[-1]
grids = moved[["F1max paper", "AU-PRO paper"]]
others = moved.drop(grids.index).abs().max()
display(
    Markdown(
        f"The grids react: F1max of *paper* changes by {signed(grids.iloc[0], 1)} points and its AU-PRO by "
        f"{signed(grids.iloc[1], 1)}; none of the others moves by more than {others:.1f}."
    )
)

# %% [markdown]
# ## 5. A harder case
#
# On these maps the outlier moves AU-PRO by about a point. On noisier ones it can do far more. Here is a made-up
# category: noise, with defects that are only a little brighter, and again one outlier in a good image, of growing
# height.

# %% tags=["hide-input"]
draws = np.random.default_rng(given.seed)
made_truth = np.zeros((6, 64, 64), dtype=bool)
for picture in made_truth[:4]:
    for _ in range(3):
        row, column = draws.integers(4, 52, 2)
        picture[row : row + draws.integers(3, 9), column : column + draws.integers(3, 9)] = True
made = np.exp(0.5 * draws.standard_normal(made_truth.shape) + 0.6 * made_truth)

heights = [1, 1.5, 2, 3, 5, 10, 20, 50, 100]
story = {"exact": [], "paper": []}
for times in heights:
    values = with_outlier(made, times) if times > 1 else made
    for protocol, found in story.items():
        found.append(evaluate(values, made_truth, protocol=protocol)["pixel_aupro"])

figure, ax = plt.subplots(figsize=(WIDTH, 3))
ax.plot(heights, story["exact"], color=BLUE, marker="o", ms=5, label="exact")
ax.plot(heights, story["paper"], color=ORANGE, marker="s", ms=5, ls="--", label="paper")
ax.set(xscale="log", xlabel="height of one outlier pixel, in former maxima", ylabel="AU-PRO (%)")
ax.set_xticks([1, 3, 10, 30, 100], ["none", "3", "10", "30", "100"])
ax.minorticks_off()
figure.legend(loc="outside lower center", ncols=2)
undefined = [h for h, v in zip(heights, story["paper"], strict=True) if np.isnan(v)]
tail = f" From {undefined[0]} on, fewer than two points are left and it is undefined." if undefined else ""
plot(
    figure,
    alt="AU-PRO over the height of the outlier: exact is a flat line, the value of the paper protocol falls.",
    caption=f"**One pixel of {made.size:,}.** Exact AU-PRO moves by {np.ptp(story['exact']):.2f} from "
    f"{story['exact'][0]:.1f} %; by the grid it lies between {np.nanmax(story['paper']):.1f} and "
    f"{np.nanmin(story['paper']):.1f} %.{tail}",
)

# %% [markdown]
# On the maps of trained networks the two protocols mostly agree within two points, but not always: in our runs on real
# images the AU-PRO of DeSTSeg differs by four to eight. So a difference between two papers may be one of
# detectors, or one of grids. In this book, runs on real images show *exact* metrics and the synthetic rows those of the
# published code; every record holds both.
#
# There is one more difference. *exact* calls an image defective if the data set says so; *paper* if its mask still has
# a pixel after the resize to network size. Tiny defects can vanish there; each record counts them (`relabelled`).
#
# ## 6. Seven numbers and their mean
#
# Image AU-ROC, AP, F1max; pixel AU-ROC, AP, F1max, AU-PRO; each per category, then the plain mean over categories.
# {term}`mAD` is the mean of the seven. It is convenient and hides much: a model that gains in AP what it loses in
# AU-PRO has the same mAD.
#
# ## Summary
#
# - Precision and recall describe a threshold; AU-ROC, AP, F1max and AU-PRO describe all of them.
# - AU-ROC flatters when defects are small. AP does not. AU-PRO gives small defects the same say as large ones.
# - *exact* depends on the order of the scores alone; *paper* uses grids over their range, and one outlier pixel moves
#   it.
# - Never compare numbers of different protocols.
#
# ## Exercises
#
# 1. All scores are squared (they are positive). Which of the exact metrics change, and which of the paper's?
# :::{admonition} Answer
# :class: dropdown
# None of the exact ones, since the order stays. F1max and AU-PRO of *paper* may change: the grid meets other pixels.
# :::
#
# 2. A map is constant. What is its AU-ROC?
# :::{admonition} Answer
# :class: dropdown
# 50 %: every pair is a tie and counts half.
# :::
#
# 3. A detector finds one defect of 1000 pixels completely and misses nine of 10 pixels each. Pixel recall? PRO?
# :::{admonition} Answer
# :class: dropdown
# Recall 1000/1090 = 92 %. PRO 10 %: one region of ten.
# :::
#
# Next: the tables, beginning with {doc}`../reading_the_tables`.
