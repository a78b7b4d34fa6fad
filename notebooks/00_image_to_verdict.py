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
# # From an image to a verdict
#
# How does a network that has never seen a defect find one? This chapter follows a single image through all of MambaAD:
# what the encoder says about it, what the decoder makes of that, where the two disagree, and how a disagreement
# becomes a verdict. The next chapter returns to this image.
#
# :::{admonition} Before you start
# :class: tip
# About 15 minutes. You need to know that a convolutional network turns an image into maps of *features*, coarser and
# coarser. *Stride 8* means: one feature vector for every 8 × 8 pixels.
# :::
#
# The network is a small one that comes with the book, trained for some twenty minutes on a CPU, on 240 synthetic
# images of good parts of four kinds. It shows how the method works; its numbers are not the paper's.

# %% tags=["remove-cell"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown

from mambaad.data.synthetic.generate import SYNTHETIC_DEFECTS, draw
from mambaad.model.anomaly_map import gaussian_filter
from mambaad.study.book_network import book_network, example_image
from mambaad.study.map_gallery import cases_of, failures_first, gallery, thresholds_of, training_strip
from mambaad.study.notebook import check_parameters
from mambaad.study.page_figures import BLUE, ORANGE, STYLE, WIDTH, plot, table
from mambaad.study.training_maps import training_maps

# %% tags=["parameters", "remove-cell"]
category: str = "gear"  # what is drawn
defect: str = "missing"  # a kind of defect of that category
index: int = 51  # which drawing; from 50 on, none is in the network's training or test set

# %% tags=["remove-cell"]
given = check_parameters(globals(), category=tuple(SYNTHETIC_DEFECTS), defect=str, index=int)
plt.rcParams.update(STYLE)
torch.set_num_threads(1)


def show(ax, picture, title, mask=None, **options):
    ax.imshow(np.asarray(picture), **options)
    if mask is not None:
        ax.contour(np.asarray(mask), levels=[0.5], colors="#d55e00", linewidths=1.6)
    ax.set_axis_off()
    ax.set_title(title, fontsize=11)


# %% [markdown]
# ## 1. The image
#
# A toothed wheel, and a tooth is missing. Since the image is drawn, its *good twin* exists as well: the same wheel in
# the same light, with all its teeth. The network does not get to see the twin; we shall need it to judge what the
# network does.

# %% tags=["hide-input"]
example = example_image(given.category, given.defect, given.index)
image, twin = example.image.permute(1, 2, 0), example.good_twin.permute(1, 2, 0)
side = image.shape[0]
figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.1))
show(axes[0], image, "image")
show(axes[1], image, "defect outlined", example.mask)
show(axes[2], twin, "good twin")
plot(
    figure,
    alt=f"A synthetic {given.category} with a defect, {given.defect}; the same with the defect outlined; the same part "
    "without it.",
    caption=f"**The image** ({side} × {side} pixels, {example.words}). The defect covers "
    f"{100 * example.mask.float().mean():.1f} % of it.",
)

# %% [markdown]
# ## 2. Two descriptions of one image
#
# The {term}`encoder`, frozen, describes the image by feature vectors at strides 4, 8 and 16. Its three maps are
# squeezed together into one at stride 32, and from this the {term}`decoder` has to rebuild all three. It was trained to
# do that on good parts, by making its features equal the encoder's, and on nothing else.
#
# :::{admonition} Predict before you look
# :class: hint
# The decoder now gets the squeezed description of a wheel with a gap. What will it rebuild there: the gap, a tooth, or
# noise?
# :::

# %% tags=["hide-input"]
model = book_network()
with torch.no_grad():
    encoder, decoder = model(model.normalize(torch.stack([example.image, example.good_twin])))

figure, axes = plt.subplots(3, 3, figsize=(WIDTH, 5.5))
for row, stride, e, d in zip(axes, (4, 8, 16), encoder, decoder, strict=True):
    flat = e.movedim(1, -1).flatten(0, 2)
    middle, (_, _, directions) = flat.mean(0), torch.pca_lowrank(flat, q=3, niter=8)
    low, high = ((flat - middle) @ directions).quantile(torch.tensor([0.02, 0.98]), dim=0)

    def coloured(features, middle=middle, directions=directions, low=low, high=high):
        """The three main directions of the encoder's features as red, green and blue."""
        return (((features.movedim(0, -1) - middle) @ directions - low) / (high - low)).clamp(0, 1)

    n = e.shape[-1]
    for ax, features, title in zip(
        row, (e[0], d[0], e[1]), ("encoder", "decoder rebuilds", "encoder, good twin"), strict=True
    ):
        show(ax, coloured(features), f"{title}" if stride == 4 else "")
    row[0].text(-0.5 - 0.03 * n, n / 2, f"stride {stride}", rotation=90, va="center", ha="right", fontsize=11)
plot(
    figure,
    alt="Feature maps in false colours at three strides. At the defect the encoder's colours change; the decoder's "
    "look like those of the good twin.",
    caption="**Features in false colours**: the three main directions of the encoder's features as red, green and "
    "blue. Left: the encoder on the defective image. Middle: what the decoder rebuilds from it. Right: the encoder on "
    "the good twin, which the decoder never saw.",
)

# %% [markdown]
# It draws a tooth. The decoder has only ever rebuilt good wheels, so it rebuilds a good wheel. In numbers, averaged
# over the tokens that the defect touches, with $1 - \cos$ of the angle between two feature vectors as distance: 0 is
# the same direction, 1 a right angle.


# %% tags=["hide-input"]
def on_defect(a, b):
    """Mean of 1 - cos over the tokens that the defect touches: features (C, s, s)."""
    inside = F.adaptive_max_pool2d(example.mask[None].float(), a.shape[-1])[0] > 0
    return float((1 - F.cosine_similarity(a[None], b[None], dim=1))[0][inside].mean())


rows = [
    [f"stride {stride}", on_defect(e[0], d[0]), on_defect(e[1], d[0]), on_defect(e[1], d[1])]
    for stride, e, d in zip((4, 8, 16), encoder, decoder, strict=True)
]
repaired = pd.DataFrame(
    rows, columns=["where", "decoder – encoder", "decoder – encoder of the twin", "twin: decoder – encoder"]
)
table(
    repaired,
    "**What was rebuilt resembles the good twin more than the image.** Mean distance on the defect. Last column: the "
    "twin sent through the network itself, the error that remains on a good part.",
)

# %% [markdown]
# :::{admonition} Why does it not simply copy?
# :class: note
# Nothing forbids it in principle: training asks that good parts are rebuilt, not that defects are not. What makes
# copying unlikely is that the decoder never had to learn how defects look, and that all it knows of the fine scales
# has to pass through the coarsest one. Whether a given network copies is an empirical question; the table above is
# one answer, for one network and one image.
# :::
#
# ## 3. Where they disagree
#
# At each stride, $1 - \cos$ between encoder and decoder at every token:

# %% tags=["hide-input"]
distances = [1 - F.cosine_similarity(e[0], d[0], dim=0) for e, d in zip(encoder, decoder, strict=True)]
high = max(float(d.max()) for d in distances)
figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.5))
for ax, stride, d in zip(axes, (4, 8, 16), distances, strict=True):
    show(ax, d, f"stride {stride}: {d.min():.2f} to {d.max():.2f}", vmin=0, vmax=high)
figure.colorbar(axes[0].images[0], ax=axes, location="bottom", shrink=0.6, aspect=30, label="1 − cos")
plot(
    figure,
    alt="Distance maps at strides 4, 8 and 16, bright at the defect; the finest has the most clutter elsewhere.",
    caption="**Distance per stride**, one scale of colours. The fine map is sharp and cluttered, the coarse one clean "
    "and blurred. That is why all three are used.",
)

# %% [markdown]
# ## 4. The anomaly map and the score
#
# Each map is enlarged to the size of the image, bilinearly; the three are summed and divided by 9 (as the published
# code does; a constant changes no metric); the sum is smoothed by a Gaussian of σ = 4 pixels. The largest value is the
# {term}`score` of the image.

# %% tags=["hide-input"]
enlarged = [
    F.interpolate(d[None, None], size=(side, side), mode="bilinear", align_corners=True)[0, 0] for d in distances
]
total = torch.stack(enlarged).sum(0) / 9
smooth = gaussian_filter(total[None])[0]
prediction = model.predict(model.normalize(torch.stack([example.image, example.good_twin])))
torch.testing.assert_close(smooth, prediction.anomaly_map[0], rtol=1e-4, atol=1e-5)

highest = divmod(int(smooth.argmax()), side)
figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.2))
show(axes[0], total, "sum of three")
show(axes[1], smooth, f"smoothed: {smooth.max():.3f}", example.mask, vmin=0, vmax=float(smooth.max()))
axes[1].scatter(highest[1], highest[0], marker="+", s=60, color="#ffffff")
good_map = prediction.anomaly_map[1]
show(axes[2], good_map, f"good twin: {prediction.score[1]:.3f}", vmin=0, vmax=float(smooth.max()))
plot(
    figure,
    alt="The summed map, the smoothed anomaly map with its maximum marked, and the map of the good twin on the same "
    "scale, which is dark.",
    caption=f"**The anomaly map.** Its maximum, the white cross, is the score: {smooth.max():.3f}. The good twin on "
    f"the same scale of colours has {prediction.score[1]:.3f}.",
)

# %% [markdown]
# ## 5. The verdict
#
# A score alone says nothing. It needs a {term}`threshold`, and a threshold can be found without any defect: take good
# images that were not trained on, and choose the value that only a few of them exceed. Here: 48 good images of all
# four categories, of which 5 % may be called defective by mistake.


# %% tags=["hide-input"]
def look_at(several):
    """What the network makes of drawings, each given by category, defect and number."""
    drawn = [draw(name, side, split="test", index=i, defect=kind) for name, kind, i in several]
    images = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture, _ in drawn])
    masks = torch.stack([torch.from_numpy(mask) for _, mask in drawn])
    return cases_of(model, [f"{name}, {kind}" for name, kind, _ in several], images, masks)


ALLOWED = 0.05
held_out = [case for name in SYNTHETIC_DEFECTS for case in look_at([(name, "good", 100 + i) for i in range(12)])]
thresholds = thresholds_of(held_out, ALLOWED)  # of each map; the last one is the score's
threshold = thresholds[-1]
shown = {
    (name, good): look_at([(name, "good" if good else kinds[i % len(kinds)], 200 + i) for i in range(12)])
    for name, kinds in SYNTHETIC_DEFECTS.items()
    for good in (True, False)
}
tested = {key: torch.tensor([case.peaks[-1] for case in cases]) for key, cases in shown.items()}
figure, ax = plt.subplots(figsize=(WIDTH, 2.9))
for y, name in enumerate(SYNTHETIC_DEFECTS):
    for good, colour, marker in ((True, BLUE, "o"), (False, ORANGE, "x")):
        label = ("good" if good else "defective") if y == 0 else None
        height = y + (0.15 if good else -0.15)
        ax.scatter(tested[name, good], [height] * 12, color=colour, marker=marker, s=24, label=label)
ax.axvline(threshold, color="#7f7f7f", ls="--", lw=1.2)
ax.set_yticks(range(len(tested) // 2), list(SYNTHETIC_DEFECTS))
ax.set_xlabel("score")
figure.legend(loc="outside lower center", ncols=2)
wrong = sum(int((s > threshold).sum()) for (_, good), s in tested.items() if good)
missed = sum(int((s <= threshold).sum()) for (_, good), s in tested.items() if not good)
verdict = "defective" if smooth.max() > threshold else "good"
plot(
    figure,
    alt="Scores of new good and defective images of four categories, with the threshold as a dashed line.",
    caption=f"**Scores of 96 further images**; threshold {threshold:.3f}, dashed. Above it: {wrong} of 48 good "
    f"images, {48 - missed} of 48 defective ones. Our image has {smooth.max():.3f}: **{verdict}**.",
)

# %% [markdown]
# ## 6. A gallery, failures first
#
# A method is best understood where it fails. Here are the errors among these 96 images, the worst ones first, then the
# clearest find of each category. For each: the image, the distance at the three strides that are compared (the
# decoder's first stage, at stride 32, has no partner in the encoder), and the anomaly map. Each map is coloured by
# its own threshold, set on the same 48 good images by the same rule: nothing is painted below half of it, and full
# red is reached half as much above it.

# %% tags=["hide-input"]
every = [case for cases in shown.values() for case in cases]
gallery(
    failures_first(every, threshold),
    thresholds,
    "**Gallery.** Choose an image and a map; left of the divider is the image with its defect outlined, right of it "
    "the map. Without scripts you see every image with its four maps: strides 4, 8 and 16, then their smoothed sum.",
)

# %% tags=["hide-input"]
misses = [case for case in every if case.verdict(threshold) == "missed"]
local = sum(any(p > t for p, t in zip(case.peaks[:-1], thresholds[:-1], strict=True)) for case in misses)
alarms = sorted({case.name.partition(",")[0] for case in every if case.verdict(threshold) == "false alarm"})
Markdown(
    f"Look at what goes wrong. Of the {len(misses)} misses, {local} rise{'s' if local == 1 else ''} above the "
    "threshold of a stride: seen there, and lost when the others, which saw nothing, are added and the sum smoothed. "
    f"The rest stay{'s' if len(misses) - local == 1 else ''} below all of them. All false alarms are on "
    f"{' and '.join(alarms)}."
)

# %% [markdown]
# One threshold for four kinds of parts is not ideal: as the plot above shows, their scores lie at different heights.
# A threshold per category fits better, but then one has to know which part one is looking at. `mambaad calibrate`
# finds such a threshold for a network of your own. How good a set of scores is *without* choosing a threshold is the
# subject of {doc}`04_measuring`.
#
# ## 7. The same image during training
#
# :::{admonition} Predict before you look
# :class: hint
# Before training the decoder's features have nothing to do with the encoder's. What does the map look like then? And
# by how much does training lower the score of the good image, and that of the defective one?
# :::
#
# The same network was trained once more, with the same settings and seed, and asked after some of its steps what it
# makes of the wheel and of its good twin.

# %% tags=["hide-input"]
record, seen = training_maps()
training_strip(
    seen,
    example.image,
    example.good_twin,
    threshold,
    f"**A training in ten pictures.** Maps after {', '.join(str(one.step) for one in seen)} steps, in the colours of "
    f"the final threshold, {threshold:.3f}. Made by {record['script']}, run {record['run']}, seed {record['seed']}, "
    f"code {record['environment']['code']['commit'][:12]}; the last map is within "
    f"{100 * record['from_shipped']['largest_difference_of_the_map']:.2f} % of that of the network used above.",
)

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(WIDTH, 2.6))
places = range(len(seen))
for name, words, colour, marker in (("image", "defective", ORANGE, "x"), ("twin", "good twin", BLUE, "o")):
    ax.plot(places, [one.scores[name] for one in seen], color=colour, marker=marker, label=words)
ax.axhline(threshold, color="#7f7f7f", ls="--", lw=1.2, label="final threshold")
ax.set_xticks(places, [str(one.step) for one in seen])
ax.set_ylim(0)
ax.set_xlabel("training step")
ax.set_ylabel("score")
figure.legend(loc="outside lower center", ncols=3)
first, last = seen[0].scores, seen[-1].scores
plot(
    figure,
    alt="Score of the defective image and of its good twin over the steps of the training: the twin's falls far, that "
    "of the defect little.",
    caption=f"**What has been learnt no longer stands out.** Untrained, the defective image has {first['image']:.3f} "
    f"and its good twin {first['twin']:.3f}; after {seen[-1].step} steps {last['image']:.3f} and {last['twin']:.3f}.",
)

# %% [markdown]
# Before training the decoder's features match the encoder's nowhere, so the whole image looks anomalous. Training
# lowers the distance wherever the image looks like a good part. The defect's score hardly falls; everything around it
# does. To make these numbers again: `python scripts/training_maps.py`, some twenty minutes on one core; they are stored
# in `results/book/training_maps.json`.
#
# ## Summary
#
# image → features at three strides → squeezed to stride 32 → rebuilt by the decoder → $1 - \cos$ per stride →
# enlarged, summed, smoothed → maximum → threshold from good images.
#
# - The decoder rebuilds what it has learnt, good parts. On the defect its features resemble those of a good part more
#   than those of the image.
# - No defect, no label and no threshold tuned on defects went into it.
#
# ## Exercises
#
# 1. A decoder that copies its input perfectly: what are its loss in training, its map on a defect, and the score of
#    every image?
# :::{admonition} Answer
# :class: dropdown
# The loss is 0, the best there is; the map is 0 everywhere, defect or not; all scores are 0. A low loss is not what
# makes a detector.
# :::
#
# 2. The threshold lets about 5 % of good images through as false alarms. You want at most 1 %. How many held-out good
#    images do you need at least?
# :::{admonition} Answer
# :class: dropdown
# 99. Take the largest of their scores as the threshold. Among 99 held-out images and one new one, each is equally
# likely to have the largest score, so the new one exceeds the threshold with probability 1/100.
# :::
#
# 3. Why does dividing the sum of the three maps by 9 change no metric?
# :::{admonition} Answer
# :class: dropdown
# Metrics over all thresholds depend on the order of the scores, and a positive factor keeps it. The threshold is
# divided along with the scores.
# :::
#
# What is inside the decoder? Scans: {doc}`01_selective_scan` builds them from nothing, {doc}`02_hybrid_scan` leads
# them through an image, and {doc}`03_mambaad` puts the boxes together.
