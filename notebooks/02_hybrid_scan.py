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
# # Scan orders and the hybrid scan
#
# {doc}`01_selective_scan` ended with: a token is heard best right after it was read. That is about steps along a
# sequence. An image has no sequence, so somebody has to choose one, and the choice decides which pixels hear each
# other. MambaAD tries five orders and sends the image along several *routes* at once. This page looks at
#
# 1. the five orders,
# 2. what they do to neighbours, measured,
# 3. the eight routes and the way there and back,
# 4. where information flows,
# 5. hybrids of several orders.

# %% tags=["hide-input"]
import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import display
from matplotlib.collections import LineCollection

from mambaad.config import SCAN_METHODS
from mambaad.model.routes import hybrid_routes, method_routes
from mambaad.model.scan_order import scan_order
from mambaad.ops.routed_scan import hs_decode, hs_encode
from mambaad.ops.selective_scan import selective_scan
from mambaad.study import figures
from mambaad.study.notebook import check_parameters
from mambaad.study.table_view import plain

# %% tags=["parameters"]
side: int = 64  # tokens a side of the maps that section 2 measures; a power of two
memory: int = 16  # steps after which the scan of section 4 has forgotten all but 37 %

# %% tags=["hide-input"]
given = check_parameters(globals(), side=(16, 32, 64), memory=int)
plt.rcParams.update({**sns.axes_style("whitegrid"), **figures.STYLE, "figure.constrained_layout.use": True})
STYLES = {  # colour and line of each order
    method: {"color": colour, "ls": dash}
    for method, colour, dash in zip(
        SCAN_METHODS,
        (*figures.PALETTE[:3], figures.PALETTE[6], figures.PALETTE[4]),
        ("--", "-.", ":", (0, (1, 1)), "-"),
        strict=True,
    )
}
STYLES["hilbert"]["lw"] = 2.4


def draw_route(ax, order, title, small=8):
    """The path through a small map; dark at the first step, light at the last; a ring at the start."""
    rows, columns = np.divmod(np.asarray(order), small)
    points = np.stack([columns, rows], axis=1)
    lines = LineCollection(
        np.stack([points[:-1], points[1:]], axis=1), cmap="cividis", array=np.arange(len(points) - 1), lw=2.2
    )
    ax.add_collection(lines)
    ax.scatter(*points[0], s=42, facecolors="none", edgecolors=figures.OURS, lw=1.8, zorder=3)
    ax.set(xlim=(-0.7, small - 0.3), ylim=(small - 0.3, -0.7), xticks=[], yticks=[], aspect="equal")
    ax.set_title(title)
    sns.despine(ax=ax, left=True, bottom=True)
    return lines


# %% [markdown]
# ## 1. Five orders
#
# An order is a permutation: entry $t$ is the token visited at step $t$, where token = row · side + column.

# %%
for method in SCAN_METHODS:
    print(f"{method:8}", *(f"{token:2d}" for token in scan_order(method, 4)))

# %% [markdown]
# Drawn on 8×8 tokens, from the ring on and from dark to light:

# %% tags=["hide-input"]
figure, axes = plt.subplots(2, 3, figsize=(figures.WIDTH, 4))
plt.close(figure)
for ax, method in zip(axes.flat, SCAN_METHODS, strict=False):
    lines = draw_route(ax, scan_order(method, 8), method)
axes.flat[-1].axis("off")
bar = figure.colorbar(lines, cax=axes.flat[-1].inset_axes((0.25, 0.08, 0.12, 0.84)), ticks=[0, 62])
bar.ax.set_yticklabels(["first step", "last step"])
bar.ax.invert_yaxis()
bar.outline.set_visible(False)
display(figure)

# %% [markdown]
# *sweep* jumps at the end of every row. *scan* turns round instead. *zorder* (Morton's curve {cite:p}`morton1966`)
# reads blocks of 2×2, blocks of those, and so on, with jumps between blocks. *zigzag* follows the diagonals as JPEG
# {cite:p}`wallace1992jpeg` does. *hilbert* {cite:p}`hilbert1891` reads blocks too, and turns them so that it never
# jumps. Blocks that halve and halve again have a price: *zorder* and *hilbert* fill a map only if its side is a power
# of two.

# %%
try:
    scan_order("hilbert", 12)
except ValueError as error:
    print(textwrap.fill(str(error), 60))

# %% [markdown]
# ## 2. What happens to neighbours
#
# Two questions, which are easily taken for one:
#
# - Tokens that follow each other: how far apart are they **in the image**?
# - Tokens side by side in the image: how many **steps** apart are they?

# %%
measured, gaps = [], {}
for method in SCAN_METHODS:
    order = scan_order(method, given.side)
    rows, columns = np.divmod(order.numpy(), given.side)
    jump = np.hypot(np.diff(rows), np.diff(columns))
    step = order.argsort().view(given.side, given.side)
    gap = torch.cat([step.diff(dim=0).flatten(), step.diff(dim=1).flatten()]).abs().numpy()
    gaps[method] = gap
    measured.append([method, jump.mean(), jump.max(), gap.mean(), np.median(gap), gap.max(), 100 * (gap <= 8).mean()])

columns = [
    "order",
    "next token: mean distance",
    "largest",
    "neighbour: mean steps",
    "median",
    "largest ",
    "within 8 (%)",
]
frame = pd.DataFrame(measured, columns=columns)
plain(frame.astype({"median": int, "largest ": int}), 1)

# %% [markdown]
# *hilbert* and *scan* never jump. But look at the middle of the table: **on average** the Hilbert curve does not
# bring neighbours closer together. Its mean number of steps is even larger than that of a plain sweep, and its worst
# pair is far apart. No order can avoid this; a line that fills a square must part neighbours somewhere. What
# *hilbert* does is to be uneven in a useful way: most neighbours are very near, and a few, across the borders of
# large blocks, are hopelessly far. For a memory that fades, that is the better deal, for it makes no difference
# whether a token is 60 or 3000 steps away if both are forgotten.
#
# With eight routes (section 3) a pair that one route parts may be near on another. The share of neighbours within a
# number of steps, on one route and on the best of eight:


# %% tags=["hide-input"]
def best_gaps(method, number):
    """Steps between image neighbours on the route where they are nearest."""
    step = method_routes(method, number, given.side).argsort(dim=1).view(number, given.side, given.side)
    down, right = step.diff(dim=1).abs().amin(0), step.diff(dim=2).abs().amin(0)
    return torch.cat([down.flatten(), right.flatten()]).numpy()


figure, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.5), sharey=True)
plt.close(figure)
reach = np.unique(np.round(np.logspace(0, np.log10(given.side**2), 60)))
for method in SCAN_METHODS:
    for ax, gap in zip(axes, (gaps[method], best_gaps(method, 8)), strict=True):
        ax.plot(reach, [100 * (gap <= r).mean() for r in reach], **STYLES[method], label=method)
for ax, title in zip(axes, ("one route", "best of eight routes"), strict=True):
    ax.set_xscale("log")
    ax.set_title(title)
    ax.set_xlabel("steps")
axes[0].set_ylabel("image neighbours (%)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
display(figure)

# %% [markdown]
# Up to a few dozen steps, *zorder* and *hilbert* are ahead on one route. On eight routes, *sweep* and *scan* are: a
# transposed sweep runs down the columns, so every pair of direct neighbours is one step apart on one route or the
# other. *hilbert* keeps one pair in five apart at first, and a few for good. But these are direct neighbours only,
# and a defect is wider than two tokens: section 4 looks further.
#
# ## 3. Eight routes, there and back
#
# The first four routes are the order on the image, on its transpose, on the image rotated by 90°, and on the
# transpose of that. The other four are the same ones in reverse, since a scan hears only what came before. K = 2 uses
# the first route and its reverse, K = 4 the first two. The eight routes of *hilbert*:

# %% tags=["hide-input"]
figure, axes = plt.subplots(2, 4, figsize=(figures.WIDTH, 3.3))
plt.close(figure)
names = ("image", "transposed", "rotated", "rot., transp.")
titles = (*(f"{i}: {name}" for i, name in enumerate(names)), *(f"{i + 4}: {i} reversed" for i in range(4)))
for ax, route, title in zip(axes.flat, method_routes("hilbert", 8, 8), titles, strict=True):
    draw_route(ax, route, title)
    ax.title.set_fontsize(9)
display(figure)

# %% [markdown]
# The *HS encoder* gathers the tokens of an image once per route; each route is scanned with parameters of its own;
# the *HS decoder* puts every route back into image order and sums. Without a scan in between, K copies of the image
# come back:

# %%
routes = method_routes("hilbert", 8, given.side)
inverse = routes.argsort(dim=1)
image = torch.randn(2, given.side**2, 3, generator=torch.Generator().manual_seed(0))
encoded = hs_encode(image, routes, inverse)
decoded = hs_decode(encoded, routes, inverse)
print("image  (B, L, D)   ", tuple(image.shape))
print("routes (B, K, L, D)", tuple(encoded.shape))
print("every route visits every token once:", all(len(set(route.tolist())) == given.side**2 for route in routes))
print("decoder(encoder(x)) = 8 x:", torch.allclose(decoded, 8 * image, rtol=1e-5))

# %% [markdown]
# ## 4. Where information flows
#
# Put a one on a single token, zeros elsewhere, and run encoder, scan and decoder with constant parameters, so that
# a token heard $j$ steps later has weight $e^{-j/\tau}$, with τ = `memory` steps. What comes back is the influence of
# that token on every place of the image.


# %%
def influence(method, number, tau, images):
    """Weight with which a token is heard at every place: images (B, L) with a one each -> (B, L), 0 at the one."""
    routes = method_routes(method, number, math.isqrt(images.shape[1]))
    inverse = routes.argsort(dim=1)
    tokens = hs_encode(images[..., None], routes, inverse).transpose(2, 3)  # (B, K, 1, L)
    one = torch.ones(number, 1)
    step = torch.tensor(1 / tau)
    y = selective_scan(
        u=tokens,
        delta=torch.zeros_like(tokens),
        A=-one[..., None],
        B=tau * torch.ones_like(tokens),  # so that δB = 1
        C=torch.ones_like(tokens),
        D=0 * one,
        delta_bias=one * torch.log(torch.expm1(step)),
    )
    return hs_decode(y.transpose(2, 3), routes, inverse)[..., 0] * (1 - images)


# %% tags=["hide-input"]
ORDERS, DIRECTIONS, SHOWN = ("sweep", "zigzag", "hilbert"), (2, 4, 8), 32
source = (13, 17)  # row, column
one_token = torch.zeros(SHOWN, SHOWN)
one_token[source] = 1
figure, axes = plt.subplots(3, 3, figsize=(figures.WIDTH, 5.9))
plt.close(figure)
for row, method in zip(axes, ORDERS, strict=True):
    for ax, k in zip(row, DIRECTIONS, strict=True):
        share = influence(method, k, given.memory, one_token.view(1, -1)).view(SHOWN, SHOWN)
        share = (share / share.max()).clamp(min=1e-3).numpy()
        picture = ax.imshow(share, norm="log", vmin=1e-3, vmax=1, cmap="cividis")
        ax.scatter(source[1], source[0], s=16, marker="o", color=figures.OURS)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{method}, K = {k}")
        sns.despine(ax=ax, left=True, bottom=True)
figure.colorbar(picture, ax=axes, location="bottom", shrink=0.6, aspect=30, label="influence, relative to the largest")
display(figure)

# %% [markdown]
# A sweep spreads along its row and, with the transpose, along its column: a cross. The zigzag spreads along
# diagonals. The Hilbert curve fills blocks around the token, and stops at walls: this token lies just right of the
# middle, where the two largest blocks meet, and each curve crosses that border once or twice only, half way down or
# at its ends. More routes open some walls, such as the one below the token, but not this one: transposed and rotated
# curves have their blocks at the same places.
#
# One token may be lucky or not, so take them all, on a map of 32×32. Since the parameters are constant here, the
# weights follow from the number of steps alone:


# %%
def weights(method, number, tau, size=32):
    """(L, L): weight with which each token (row) is heard at each place (column), summed over the routes."""
    step = method_routes(method, number, size).argsort(dim=1).float()
    later = (step[:, None, :] - step[:, :, None]).clamp_(min=0)  # 0: not later
    return torch.exp(-later / tau).mul_(later > 0).sum(0)


token = source[0] * SHOWN + source[1]
by_scan = influence("hilbert", 8, given.memory, one_token.view(1, -1))
torch.testing.assert_close(weights("hilbert", 8, given.memory)[token], by_scan[0], rtol=1e-4, atol=1e-6)

# %% [markdown]
# How much of it stays within a radius of 3 tokens (28 places, fewer at the edge)?

# %%
y, x = map(torch.as_tensor, np.divmod(np.arange(SHOWN**2), SHOWN))
distance = torch.hypot((y[:, None] - y).float(), (x[:, None] - x).float())
near = (distance > 0) & (distance < 3.2)

rows = []
for method in SCAN_METHODS:
    heard = [weights(method, k, given.memory) for k in DIRECTIONS]
    share = [100 * float(weight[near].sum() / weight.sum()) for weight in heard]
    reached = [100 * float((weight[near] > np.exp(-1)).float().mean()) for weight in heard]
    rows.append([method, *share, *reached])
columns = [*(f"within 3, K = {k} (%)" for k in DIRECTIONS), *(f"reached, K = {k} (%)" for k in DIRECTIONS)]
plain(pd.DataFrame(rows, columns=["order", *columns]), 0)

# %% [markdown]
# *Reached*: the share of those 28 places that hear the token with a weight of at least $e^{-1}$, summed over the
# routes.
#
# Two things to take away. **The order decides how local the scan is**; more routes do not, on average: a route and
# its mirror images have the same distances. **The number of routes decides how evenly** the neighbourhood is covered:
# with more of them, more of the places around a token hear it. This is the case for many routes of a local curve. It
# depends on the memory, though:

# %%
rows = []
for method in SCAN_METHODS:
    heard = [weights(method, 2, tau) for tau in (4, 16, 64)]
    rows.append([method, *(100 * float(weight[near].sum() / weight.sum()) for weight in heard)])
plain(pd.DataFrame(rows, columns=["order", *(f"within 3, memory {tau} steps (%)" for tau in (4, 16, 64))]), 0)

# %% [markdown]
# A network has memories of all these lengths side by side ({doc}`01_selective_scan`, section 5); for the long ones
# every order is close to global. Beside the scan there are the convolutions of the LSS module, which see the
# neighbourhood in any case. So none of this proves that *hilbert* finds defects better. Table 5 of the paper asks
# just that, and its differences between orders with eight routes are smaller than the spread between two trainings:
# {doc}`table_5_scan_methods`.
#
# ## 5. Hybrids
#
# Table 5 also divides the eight routes among several orders: "hilbert 4, scan 2, sweep 2" and the like. The published
# code has no such hybrids, and the paper does not say which routes an order gets. **The rule used here is this
# project's interpretation**: an order with $n$ routes uses the first $n$ of its eight.

# %%
scan = (("sweep", 2), ("scan", 2), ("hilbert", 4))
routes = hybrid_routes(scan, 8)
print("routes (K, L):", tuple(routes.shape))

# %% tags=["hide-input"]
figure, axes = plt.subplots(2, 4, figsize=(figures.WIDTH, 3.3))
plt.close(figure)
titles = [method for method, number in scan for _ in range(number)]
for k, (ax, route, title) in enumerate(zip(axes.flat, routes, titles, strict=True)):
    draw_route(ax, route, f"{k}: {title}")
    ax.title.set_fontsize(9)
display(figure)

# %% [markdown]
# In the network a hybrid is one field of the configuration, `ModelConfig(scan=(("sweep", 2), ("scan", 2), ("hilbert",
# 4)))`. {doc}`03_mambaad` puts the blocks together.
