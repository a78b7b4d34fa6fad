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
# # Scanning an image
#
# A scan remembers what came before, and less of it the longer ago it was. That is a statement about steps along a
# sequence. An image has no sequence, so somebody has to choose one, and the choice decides which parts of the image
# influence each other. MambaAD tries five orders, and sends the image along several {term}`routes <route>` at once.
#
# :::{admonition} Before you start
# :class: tip
# About 20 minutes. You need one idea from {doc}`01_selective_scan`: a token that was read $j$ steps ago still has a
# weight like $e^{-j/\tau}$, where τ is the *memory* in steps. Letters: a map has $s \times s$ tokens, $L = s^2$ in all;
# K is the number of routes.
# :::
#
# ## 1. Try it
#
# :::{admonition} Predict before you look
# :class: hint
# The Hilbert curve is advertised as the order that keeps neighbours together. Take all pairs of tokens that lie side
# by
# side. **On average**, are they fewer steps apart on the Hilbert curve or on a plain row-by-row sweep? And which of
# the
# two has the worst single pair?
# :::

# %% tags=["remove-cell"]
import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.collections import LineCollection

from mambaad.config import SCAN_METHODS
from mambaad.model.routes import hybrid_routes, method_routes
from mambaad.model.scan_order import scan_order
from mambaad.ops.routed_scan import hs_decode, hs_encode
from mambaad.ops.selective_scan import selective_scan
from mambaad.study.notebook import check_parameters
from mambaad.study.page_figures import BLUE, GREEN, ORANGE, PINK, STYLE, WIDTH, YELLOW, live, plot, table

# %% tags=["parameters", "remove-cell"]
side: int = 64  # tokens a side of the maps that section 3 measures; a power of two
memory: int = 16  # steps after which the scan of section 5 has forgotten all but 37 %

# %% tags=["hide-input"]
given = check_parameters(globals(), side=(16, 32, 64), memory=int)
plt.rcParams.update(STYLE)
STYLES = {  # colour and line of each order
    method: {"color": colour, "ls": dash}
    for method, colour, dash in zip(
        SCAN_METHODS, (BLUE, GREEN, PINK, YELLOW, ORANGE), ("--", "-.", ":", (0, (1, 1)), "-"), strict=True
    )
}
STYLES["hilbert"]["lw"] = 2.6


def draw_route(ax, order, title, small=8):
    """The path through a small map, faint at the first step and full at the last; a ring at the start."""
    rows, columns = np.divmod(np.asarray(order), small)
    points = np.stack([columns, rows], axis=1)
    strength = np.linspace(0.25, 1, len(points) - 1)
    ax.add_collection(LineCollection(np.stack([points[:-1], points[1:]], 1), colors=BLUE, alpha=strength, lw=2.2))
    ax.scatter(*points[0], s=42, facecolors="none", edgecolors=ORANGE, lw=1.8, zorder=3)
    ax.set(xlim=(-0.7, small - 0.3), ylim=(small - 0.3, -0.7), aspect="equal")
    ax.set_axis_off()
    ax.set_title(title)


figure, ax = plt.subplots(figsize=(3, 3))
draw_route(ax, scan_order("hilbert", 8), "hilbert, 8 × 8")
step = scan_order("hilbert", 8).argsort().view(8, 8)
apart = torch.cat([step.diff(dim=0).flatten(), step.diff(dim=1).flatten()]).abs()
live(
    "scan-paths",
    still=figure,
    alt="The Hilbert curve through 8 by 8 tokens: it visits one quarter after the other and never jumps.",
    caption="**Scan-path explorer.** The path in the order of its steps, a ring at its start. Blue: the places that "
    "are influenced by the chosen token, the stronger the more. Dashed: its neighbours. Bars: how many steps lie "
    "between tokens that are side by side in the image. Without scripts you see the Hilbert curve on 8 × 8 tokens: "
    f"{100 * (apart == 1).float().mean():.0f} % of its side-by-side pairs are one step apart, its farthest pair "
    f"{apart.max()} steps.",
)

# %% [markdown]
# Things to try:
#
# - *sweep*, side 16: a token and the one below it are 16 steps apart, every time. With memory 4 nothing is left
#   across
#   rows. Now tick **sum over all routes**.
# - *hilbert*, side 16: move the token across the vertical line in the middle. Its neighbour on the other side may be
#   one step away or some two hundred, and a wall appears in the blue.
# - one of the hybrids at the end of the list (section 6): step through its routes. Which order does each follow, and on
#   which view of the image?
#
# ## 2. Five orders
#
# An order is a permutation: entry $t$ is the token that is visited at step $t$, where token = row · side + column.

# %%
for method in SCAN_METHODS:
    print(f"{method:8}", *(f"{token:2d}" for token in scan_order(method, 4)))

# %% tags=["hide-input"]
figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 3.7))
for ax, method in zip(axes.flat, SCAN_METHODS, strict=False):
    draw_route(ax, scan_order(method, 8), method)
axes.flat[-1].set_axis_off()
plot(
    figure,
    alt="Paths of sweep, scan, zorder, zigzag and hilbert through 8 by 8 tokens.",
    caption="**Five orders** on 8 × 8 tokens, from the ring on, from faint to full. *sweep* jumps back at the end of "
    "every row; *scan*, the paper's name for an order and not the scan itself, turns round instead; *zorder* reads "
    "blocks and jumps between them; *zigzag* follows the diagonals; *hilbert* reads blocks without a jump.",
)

# %% [markdown]
# *zorder* is Morton's curve {cite:p}`morton1966`, *zigzag* the order of JPEG {cite:p}`wallace1992jpeg`, *hilbert* the
# curve of {cite:t}`hilbert1891`. Blocks that halve and halve again have a price: *zorder* and *hilbert* fill a map
# only if its side is a power of two.

# %%
try:
    scan_order("hilbert", 12)
except ValueError as error:
    print(textwrap.fill(str(error), 60))

# %% [markdown]
# ## 3. What happens to neighbours
#
# Two questions that are easily taken for one:
#
# - Tokens that follow each other **in the sequence**: how far apart are they in the image?
# - Tokens side by side **in the image**: how many steps apart are they?

# %% tags=["hide-input"]
measured, gaps = [], {}
for method in SCAN_METHODS:
    order = scan_order(method, given.side)
    rows, columns = np.divmod(order.numpy(), given.side)
    jump = np.hypot(np.diff(rows), np.diff(columns))
    step = order.argsort().view(given.side, given.side)
    gap = torch.cat([step.diff(dim=0).flatten(), step.diff(dim=1).flatten()]).abs().numpy()
    gaps[method] = gap
    measured.append([method, jump.mean(), jump.max(), gap.mean(), np.median(gap), gap.max(), 100 * (gap <= 8).mean()])

columns = ["order", "mean jump", "largest jump", "mean steps", "median", "most", "within 8 (%)"]
frame = pd.DataFrame(measured, columns=columns).astype({"median": int, "most": int})
table(
    frame,
    f"**Neighbours** on {given.side} × {given.side} tokens. Jump: distance in the image of tokens that follow each "
    "other. Steps: distance in the sequence of tokens side by side.",
    decimals=1,
)

# %% [markdown]
# *hilbert* and *scan* never jump. But read on: **on average the Hilbert curve does not bring neighbours closer
# together.** Its mean number of steps is larger than that of a plain sweep, and its worst pair is thousands of steps
# apart. The sweep's worst pair is one row apart, 64 steps, and no order can do better than that: numbering the
# points of a square grid so that neighbours always differ by less than its side is impossible
# {cite:p}`chvatalova1975`.
#
# What *hilbert* does is to be uneven in a useful way. Most neighbours are very near, and a few, across the borders of
# large blocks, are hopelessly far. For a memory that fades this is the better deal: whether a token is 60 or 3000
# steps away makes no difference if both are forgotten.
#
# ## 4. Eight routes, there and back
#
# A scan reads only what came before, so every route is also run backwards. The first four routes are the order on the
# image, on its transpose, on the image rotated by 90°, and on the transpose of that; the other four are their
# reverses. K = 2 uses the first route and its reverse, K = 4 the first two.

# %% tags=["hide-input"]
figure, axes = plt.subplots(2, 4, figsize=(WIDTH, 2.9))
names = ("image", "transposed", "rotated", "rot., tr.")
titles = (*(f"{i}: {name}" for i, name in enumerate(names)), *(f"{i + 4}: {i} reversed" for i in range(4)))
for ax, route, title in zip(axes.flat, method_routes("hilbert", 8, 8), titles, strict=True):
    draw_route(ax, route, title)
    ax.title.set_fontsize(11)
plot(
    figure,
    alt="Eight panels with the routes of the Hilbert order; two pairs of them are the same path.",
    caption="**The eight routes of *hilbert*, six of them different.** Rotated and transposed, the Hilbert curve is "
    "mirrored, and its mirror image is the curve read backwards: routes 3 and 4 are the same, and so are 7 and 0. Each "
    "still has parameters of its own. The same holds for *scan* (2 and 5, 1 and 6); *sweep*, *zorder* and *zigzag* "
    "have eight different routes.",
)

# %% [markdown]
# The *HS encoder* gathers the tokens of an image once per route; each route is scanned with parameters of its own; the
# *HS decoder* puts every route back into image order and sums. Without a scan in between, K copies of the image come
# back:

# %%
routes = method_routes("hilbert", 8, given.side)
inverse = routes.argsort(dim=1)
image = torch.randn(2, given.side**2, 3, generator=torch.Generator().manual_seed(0))
encoded = hs_encode(image, routes, inverse)
decoded = hs_decode(encoded, routes, inverse)
print("images (2, L, 3)    ", tuple(image.shape))
print("routes (2, K, L, 3) ", tuple(encoded.shape))
once = all(len(set(route.tolist())) == given.side**2 for route in routes)
print("every route visits every token once:", once)
print("decoder(encoder(x)) = 8 x:", torch.allclose(decoded, 8 * image, rtol=1e-5))

# %% [markdown]
# :::{admonition} Predict before you look
# :class: hint
# A pair of neighbours that one route parts may be near on another. With eight routes, on which order are *direct*
# neighbours nearest on their best route?
# :::


# %% tags=["hide-input"]
def best_gaps(method, number):
    """Steps between image neighbours on the route where they are nearest."""
    step = method_routes(method, number, given.side).argsort(dim=1).view(number, given.side, given.side)
    down, right = step.diff(dim=1).abs().amin(0), step.diff(dim=2).abs().amin(0)
    return torch.cat([down.flatten(), right.flatten()]).numpy()


figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.5), sharey=True)
reach = np.unique(np.round(np.logspace(0, np.log10(given.side**2), 60)))
for method in SCAN_METHODS:
    for ax, gap in zip(axes, (gaps[method], best_gaps(method, 8)), strict=True):
        ax.plot(reach, [100 * (gap <= r).mean() for r in reach], **STYLES[method], label=method)
for ax, title in zip(axes, ("one route", "best of eight"), strict=True):
    ax.set_xscale("log")
    ax.set_title(title)
    ax.set_xlabel("steps")
    ax.grid(True)
axes[0].set_ylabel("neighbours (%)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
share = {m: 100 * float((best_gaps(m, 8) == 1).mean()) for m in SCAN_METHODS}
plot(
    figure,
    alt="Share of side-by-side pairs within a number of steps. One route: hilbert and zorder lead from three to some "
    "sixty steps. Best of eight routes: sweep and scan reach all pairs at one step.",
    caption=f"**Side-by-side pairs within a number of steps**, {given.side} × {given.side} tokens. One step apart on "
    f"the best of eight routes: {share['sweep']:.0f} % of the pairs on *sweep*, {share['hilbert']:.0f} % on *hilbert*.",
)

# %% [markdown]
# From three to some sixty steps, *zorder* and *hilbert* are ahead on one route. On eight routes, *sweep* and *scan*
# are: a transposed sweep runs down the columns, so every pair of direct neighbours is one step apart on one route or
# the other. But these are direct neighbours only, and a defect is wider than two tokens.
#
# ## 5. Where information flows
#
# Put a one on a single token and zeros elsewhere, and run encoder, scan and decoder with constant parameters, so that
# $j$ steps later a token has the weight $e^{-j/\tau}$. What comes back is the influence of that token on every
# place. The explorer's blue is just this sum; here it is computed by the library's own scan.


# %% tags=["hide-input"]
def influence(method, number, tau, images):
    """Weight with which a token influences every place: images (B, L) with a one each -> (B, L), 0 at the one."""
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


ORDERS, DIRECTIONS, SHOWN = ("sweep", "zigzag", "hilbert"), (2, 4, 8), 32
source = (13, 17)  # row, column
one_token = torch.zeros(SHOWN, SHOWN)
one_token[source] = 1
figure, axes = plt.subplots(3, 3, figsize=(WIDTH, 5.6))
for row, method in zip(axes, ORDERS, strict=True):
    for ax, k in zip(row, DIRECTIONS, strict=True):
        heard = influence(method, k, given.memory, one_token.view(1, -1)).view(SHOWN, SHOWN)
        heard = (heard / heard.max()).clamp(min=1e-3).numpy()
        picture = ax.imshow(heard, norm="log", vmin=1e-3, vmax=1)
        ax.scatter(source[1], source[0], s=16, marker="o", color="#d55e00")
        ax.set_axis_off()
        ax.set_title(f"{method}, K = {k}", fontsize=11)
figure.colorbar(picture, ax=axes, location="bottom", shrink=0.6, aspect=30, label="influence / largest")
plot(
    figure,
    alt="Influence maps of one token for sweep, zigzag and hilbert with 2, 4 and 8 routes: a line, then a cross for "
    "sweep; diagonals for zigzag; blocks with straight walls for hilbert.",
    caption=f"**What the token at the dot influences**, memory {given.memory} steps, {SHOWN} × {SHOWN} tokens, "
    "logarithmic scale. A sweep spreads along its row, and with the transpose along its column; the zigzag along "
    "diagonals; the Hilbert curve fills blocks and stops at walls.",
)

# %% [markdown]
# This token lies just right of the middle, where the largest blocks of the Hilbert curve meet, and each curve crosses
# that border once or twice only. More routes open some walls, such as the one below the token, but not this one:
# transposed and rotated curves have their blocks at the same places.
#
# One token may be lucky, so take them all. How much of the influence stays within a radius of 3 tokens (28 places,
# fewer at the edge)?


# %% tags=["hide-input"]
def weights(method, number, tau, size=32):
    """(L, L): weight with which each token (row) influences each place (column), summed over the routes."""
    step = method_routes(method, number, size).argsort(dim=1).float()
    later = (step[:, None, :] - step[:, :, None]).clamp_(min=0)  # 0: not later
    return torch.exp(-later / tau).mul_(later > 0).sum(0)


token = source[0] * SHOWN + source[1]
by_scan = influence("hilbert", 8, given.memory, one_token.view(1, -1))
torch.testing.assert_close(weights("hilbert", 8, given.memory)[token], by_scan[0], rtol=1e-4, atol=1e-6)

y, x = map(torch.as_tensor, np.divmod(np.arange(SHOWN**2), SHOWN))
distance = torch.hypot((y[:, None] - y).float(), (x[:, None] - x).float())
near = (distance > 0) & (distance <= 3)

rows = []
for method in SCAN_METHODS:
    heard = [weights(method, k, given.memory) for k in DIRECTIONS]
    local = [100 * float(weight[near].sum() / weight.sum()) for weight in heard]
    reached = [100 * float((weight[near] > np.exp(-1)).float().mean()) for weight in heard]
    rows.append([method, *local, *reached])
columns = [*(f"near, K = {k} (%)" for k in DIRECTIONS), *(f"reached, K = {k} (%)" for k in DIRECTIONS)]
table(
    pd.DataFrame(rows, columns=["order", *columns]),
    f"**Locality and coverage**, memory {given.memory} steps, averaged over all tokens of a 32 × 32 map. Near: share "
    "of a token's influence within 3 tokens. Reached: share of those 28 places that it reaches with a weight of at "
    "least 1/e, summed over the routes.",
    decimals=0,
)

# %% [markdown]
# **The order decides how local the scan is.** More routes do not, on average: a route and its mirror images have the
# same distances. **The number of routes decides how evenly** the neighbourhood is covered: with more of them, more of
# the places around a token are reached. That is the argument for many routes of a local curve. It depends on the
# memory, though:

# %% tags=["hide-input"]
rows = []
for method in SCAN_METHODS:
    heard = [weights(method, 2, tau) for tau in (4, 16, 64)]
    rows.append([method, *(100 * float(weight[near].sum() / weight.sum()) for weight in heard)])
table(
    pd.DataFrame(rows, columns=["order", *(f"memory {tau} (%)" for tau in (4, 16, 64))]),
    "**The longer the memory, the less the order matters.** Share of a token's influence within 3 tokens, two routes.",
    decimals=0,
)

# %% [markdown]
# A network has memories of all these lengths side by side ({doc}`01_selective_scan`, section 6); for the long ones
# every order is close to global. Beside the scan there are the convolutions of the LSS module, which see the
# neighbourhood in any case. So none of this proves that *hilbert* finds defects better. Table 5 of the paper asks just
# that, and its differences between orders with eight routes are smaller than the spread between two trainings:
# {doc}`table_5_scan_methods`.
#
# ## 6. Hybrids
#
# Table 5 also divides the eight routes among several orders: "hilbert 4, scan 2, sweep 2" and the like. The published
# code has no such hybrids, and the paper does not say which routes an order gets. **The rule used here is this
# project's interpretation**: an order with $n$ routes uses the first $n$ of its eight.

# %% tags=["hide-input"]
scan = (("sweep", 2), ("scan", 2), ("hilbert", 4))
routes = hybrid_routes(scan, 8)
figure, axes = plt.subplots(2, 4, figsize=(WIDTH, 2.9))
titles = [method for method, number in scan for _ in range(number)]
for k, (ax, route, title) in enumerate(zip(axes.flat, routes, titles, strict=True)):
    draw_route(ax, route, f"{k}: {title}")
    ax.title.set_fontsize(11)
plot(
    figure,
    alt="Eight routes of a hybrid: two of sweep, two of scan, four of hilbert.",
    caption="**A hybrid of three orders**: two routes of *sweep*, two of *scan*, four of *hilbert*.",
)

# %% [markdown]
# In the network a hybrid is one field of the configuration, `ModelConfig(scan=(("sweep", 2), ("scan", 2), ("hilbert",
# 4)))`.
#
# ## Summary
#
# - A scan order is a permutation of the tokens; what matters is how many steps it puts between places that belong
#   together.
# - *hilbert* and *scan* never jump, yet the mean distance of neighbours is larger on *hilbert* than on *sweep*. It is
#   the *distribution* that differs: most very near, a few far.
# - Eight routes are four views of the image, each read forwards and backwards; for *hilbert* and *scan* only six of
#   them differ. They do not make the scan more local; they cover the neighbourhood more evenly.
# - The advantage of a local order is largest for short memories and vanishes for long ones.
#
# ## Exercises
#
# Each can be answered from this page and the explorer alone.
#
# 1. Write down *scan* for a side of 4, and the step at which it visits token 6.
# :::{admonition} Answer
# :class: dropdown
# 0 1 2 3 7 6 5 4 8 9 10 11 15 14 13 12. Token 6 is entry 5, counting from 0.
# :::
#
# 2. On a sweep of side $s$, how many steps apart are a token and the one below it? And on *scan*: the smallest and the
#    largest number?
# :::{admonition} Answer
# :class: dropdown
# $s$ on the sweep. On *scan* between 1 (at the end where the path turns) and $2s - 1$ (at the other end).
# :::
#
# 3. Show that the mean number of steps between side-by-side tokens is $(s+1)/2$ on the sweep, and on *scan* as well.
# :::{admonition} Answer
# :class: dropdown
# Half of the pairs lie in a row, 1 step apart; half in a column, $s$ steps apart: $(1+s)/2$. On *scan* the pairs of a
# column are $1, 3, \dots, 2s-1$ apart, on average $s$ again.
# :::
#
# 4. Why can a scan along route 0 alone never pass information from the last token to the first?
# :::{admonition} Answer
# :class: dropdown
# The state at step $t$ depends on steps up to $t$ only. The reversed route (number K/2) does it.
# :::
#
# 5. Which routes are used for K = 4? On which of them does a *sweep* visit a token's left neighbour one step after the
#    token itself?
# :::{admonition} Answer
# :class: dropdown
# Image and transpose, and the two reversed: as routes 0, 1, 2, 3 of that network. The place to the left comes one step
# later on the reversed image only (route 2).
# :::
#
# 6. The inverse of a route is its `argsort`. Route (2, 0, 3, 1) visits token 2 first. What is its inverse, and what
#    does
#    it mean?
# :::{admonition} Answer
# :class: dropdown
# (1, 3, 0, 2): token 0 is visited at step 1, token 1 at step 3, token 2 at step 0, token 3 at step 2.
# :::
#
# 7. With memory τ = 8, how strong is the influence of a neighbour 1, 16, or 64 steps away? What follows for a sweep of
#    side 64?
# :::{admonition} Answer
# :class: dropdown
# $e^{-1/8} = 0.88$, $e^{-2} = 0.14$, $e^{-8} = 0.0003$. Rows do not influence each other on the image route; only the
# transposed route carries information downwards.
# :::
#
# 8. A map has 12 × 12 tokens. Which orders can be used? What would you do to use the others?
# :::{admonition} Answer
# :class: dropdown
# *sweep*, *scan* and *zigzag*. Choose an image side for which every stage has a power of two: 64, 128, 256, 512 or
# 1024 pixels.
# :::
#
# 9. Why does the column *near* of the table not change with K, and why does *reached*?
# :::{admonition} Answer
# :class: dropdown
# Mirror images and reversals of a route have the same distances, so averaged over all tokens the share within a radius
# is
# the same. But they send the influence to other places, so that more of the 28 get some.
# :::
#
# 10. Someone says: "Hilbert is best since it keeps neighbours together." Correct the sentence in two ways, with
#     numbers
#     from this page.
# :::{admonition} Answer
# :class: dropdown
# Its mean distance of neighbours is larger than that of *sweep*, and its farthest pair thousands of steps apart; what
# is
# better is the share within a few steps on one route. And on eight routes every direct neighbour is one step apart on
# *sweep*. What remains is the wider neighbourhood: the share of the influence within 3 tokens at short and medium
# memory.
# :::
#
# Next: {doc}`03_mambaad`.
