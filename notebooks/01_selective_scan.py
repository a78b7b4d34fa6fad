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
# # The selective scan
#
# A convolution sees a fixed neighbourhood; attention compares every token with every other, at a cost that grows with
# the square of their number. A state space model does neither. It walks along the tokens once and carries a small
# *state* with it, a summary of what it has seen. Mamba {cite:p}`gu2023mamba` lets each token decide how much of the
# state is kept and how much is replaced. This page builds that up:
#
# 1. a differential equation with a fading memory,
# 2. its discretisation, where paper and code differ,
# 3. constant parameters: a convolution,
# 4. parameters that depend on the token: selection,
# 5. the step sizes inside the network,
# 6. the same function, faster,
# 7. what it costs,
# 8. how far a token is heard.

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import display
from scipy.integrate import solve_ivp

from mambaad import MambaAD
from mambaad.data.synthetic.generate import draw
from mambaad.ops.routed_scan import routed_scan
from mambaad.ops.routed_scan.gathered import in_route_order
from mambaad.ops.selective_scan import selective_scan
from mambaad.ops.selective_scan.naive import selective_scan_reference
from mambaad.study import figures
from mambaad.study.notebook import check_parameters
from mambaad.study.profiles import quick_base
from mambaad.study.table_view import plain

# %% tags=["parameters"]
seed: int = 0  # seed of the random sequences and of the untrained network
category: str = "resistor"  # category of the drawn image that section 5 sends through the network

# %% tags=["hide-input"]
given = check_parameters(globals(), seed=int, category=("fabric", "perforated", "gear", "resistor"))
plt.rcParams.update({**sns.axes_style("whitegrid"), **figures.STYLE, "figure.constrained_layout.use": True})
torch.manual_seed(given.seed)
BLUE, ORANGE, GREEN, PINK = figures.PALETTE[:4]

# %% [markdown]
# ## 1. A memory that fades
#
# Take one input signal $u(t)$ and a state $h(t)$ with N numbers. In the form used here each of them has a rate of its
# own, $A_n < 0$:
#
# $$ h_n'(t) = A_n\, h_n(t) + B_n\, u(t) $$
#
# $$ y(t) = \sum_n C_n\, h_n(t). $$
#
# Left alone, $h_n$ decays as $e^{A_n t}$. Mamba starts with $A_n = -n$ for $n = 1 \dots 16$: sixteen memories, the
# first sixteen times as long as the last. B says what is written into them, C what is read.
#
# ## 2. From the equation to steps
#
# Tokens come one by one, so time is cut into steps of size δ. If the input is held constant during a step, the
# equation can be solved exactly. This is the *zero-order hold* that the paper prints in equation 2:
#
# $$ h_t = e^{\delta A} h_{t-1} + \bar B u_t $$
#
# $$ \bar B = \frac{e^{\delta A} - 1}{A}\, B. $$
#
# Mamba's code, and so the published code of MambaAD, has $\bar B = \delta B$ instead. It keeps the exact decay and
# takes the first term of the series for what is written. This library does as the code does; its definition is
# `selective_scan_reference`, a loop of ten lines.
#
# It takes one A, B, C per *route* and channel. Here is a wrapper for a single one, with the step sizes given as they
# are: inside, δ comes out of a softplus, so its inverse goes in.


# %%
def scan_one(u, delta, A, B, C):
    """The library's recurrence for one channel: u, delta (L,), A (N,), B, C (L, N) -> y (L,)."""
    before_softplus = torch.log(torch.expm1(delta))
    none = torch.zeros(1, 1, dtype=u.dtype)
    y = selective_scan_reference(
        u.view(1, 1, 1, -1),
        before_softplus.view(1, 1, 1, -1),
        A.view(1, 1, -1),
        B.T[None, None],
        C.T[None, None],
        D=none,
        delta_bias=none,
    )
    return y.flatten()


# %% [markdown]
# Both rules against an independent solver of the differential equation, for $A = -1$ and a sampled sine wave. The
# exact rule needs no other function: it is the same recurrence with B multiplied by $(e^{\delta A}-1)/(\delta A)$.

# %% tags=["hide-input"]
END = 12.0
signal = lambda t: np.sin(0.9 * t) + 0.4  # noqa: E731
one = torch.ones(1, dtype=torch.float64)

figure, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 4.6), sharex=True)
plt.close(figure)
for ax, step in zip(axes, (0.2, 1.0), strict=True):
    times = torch.arange(0, END, step, dtype=torch.float64)
    u = torch.as_tensor(signal(times.numpy()))
    delta, ones = torch.full_like(u, step), torch.ones(len(u), 1, dtype=torch.float64)
    factor = -math.expm1(-step) / step
    exact_rule = scan_one(u, delta, -one, factor * ones, ones)
    code_rule = scan_one(u, delta, -one, ones, ones)
    state, path_t, path_h = 0.0, [], []  # the solver restarts at every step: the held input jumps there
    for value in u.tolist():
        solved = solve_ivp(lambda _, h, v=value: -h + v, (0, step), [state], rtol=1e-10, atol=1e-12, dense_output=True)
        inside = np.linspace(0, step, 12)
        path_t.append(inside + len(path_t) * step)
        path_h.append(solved.sol(inside)[0])
        state = float(solved.y[0, -1])
    solver = torch.tensor([h[-1] for h in path_h])
    ax.plot(np.concatenate(path_t), np.concatenate(path_h), color="black", lw=1.2, label="differential equation")
    ax.scatter(times + step, exact_rule, color=BLUE, s=16, zorder=3, label="zero-order hold (paper)")
    ax.scatter(times + step, code_rule, color=ORANGE, marker="x", s=20, zorder=3, label="δB (code)")
    ax.set_title(f"δ = {step}", loc="left")
    ax.set_ylabel("state h")
    print(
        f"δ = {step}, largest distance from the solver:\n"
        f"  {(exact_rule - solver).abs().max():.1e} with the zero-order hold\n"
        f"  {(code_rule - solver).abs().max():.2f} with δB"
    )
axes[1].set_xlabel("time t")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
display(figure)

# %% [markdown]
# The two differ by one factor, $x / (1 - e^{-x})$ with $x = \delta |A_n|$, which tells by how much δB writes more
# than the exact rule:

# %% tags=["hide-input"]
x = torch.tensor([0.001, 0.01, 0.1, 1.0], dtype=torch.float64)[:, None] * torch.tensor([1.0, 4.0, 16.0])
excess = 100 * (x / -torch.expm1(-x) - 1)
frame = pd.DataFrame(
    excess.numpy(), columns=["A = −1: δB writes more by (%)", "A = −4: by (%)", "A = −16: by (%)"]
).assign(δ=["0.001", "0.01", "0.1", "1"])
plain(frame[["δ", *frame.columns[:-1]]], 1)

# %% [markdown]
# For the step sizes that a network starts with (0.001 to 0.1, section 5) the factor is near 1 for the long memories
# and reaches 2 for the shortest. B is learnt and depends on the token, so the network can make up for it; but weights
# trained under one rule give other outputs under the other. That is why this project follows the code.
#
# ## 3. Constant parameters: a convolution
#
# If δ, A, B, C are the same for all tokens, the recurrence can be unrolled. A token that came $j$ steps ago reaches
# the output with the weight
#
# $$ k_j = \sum_n C_n\, e^{j \delta A_n}\, \delta B_n , $$
#
# so the whole scan is a convolution with the kernel $k$, and without selection there would be no need for a
# recurrence:

# %%
L, N = 256, 16
rng = torch.Generator().manual_seed(given.seed)
A = -torch.arange(1, N + 1, dtype=torch.float64)
B, C = torch.randn(2, N, generator=rng, dtype=torch.float64)
u = torch.randn(L, generator=rng, dtype=torch.float64)
delta = torch.full((L,), 0.02, dtype=torch.float64)

by_recurrence = scan_one(u, delta, A, B.expand(L, N), C.expand(L, N))

kernel = (C * torch.exp(torch.arange(L)[:, None] * delta[0] * A) * delta[0] * B).sum(-1)
by_convolution = torch.as_tensor(np.convolve(u.numpy(), kernel.numpy())[:L])
print(f"largest output     {by_recurrence.abs().max():.3f}")
print(f"largest difference {(by_recurrence - by_convolution).abs().max():.1e}")

# %% [markdown]
# ## 4. Selection
#
# Mamba computes δ, B and C from the token. The step size is the one to understand, for it acts like a time that each
# token may stretch: $h_t = e^{\delta_t A} h_{t-1} + \delta_t B_t u_t$.
#
# - **large δ**: $e^{\delta A} \to 0$. The state is forgotten and the token written in its place.
# - **small δ**: $e^{\delta A} \to 1$ and next to nothing is written. The token is passed by, the state is kept.
#
# With $A = -1$ and the exact rule this is the gate of a gated recurrent network: from $\delta =
# \operatorname{softplus}(z)$ follows $e^{-\delta} = 1 - \sigma(z)$, hence $h_t = (1-g)\,h_{t-1} + g\,u_t$ with $g =
# \sigma(z_t)$ ({cite:t}`gu2023mamba`, theorem 1).
#
# A task that no convolution of fixed weights can do: *keep the last marked token*, wherever the marks are.

# %%
L = 120
u = torch.randn(L, generator=rng, dtype=torch.float64)
marks = torch.tensor([12, 30, 74, 95])
u[marks] = torch.tensor([2.0, -1.5, 1.0, -2.0], dtype=torch.float64)

step_sizes = {
    "selective": torch.full((L,), 0.001, dtype=torch.float64).index_fill(0, marks, 5.0),
    "constant, small": torch.full((L,), 0.03, dtype=torch.float64),
    "constant, large": torch.full((L,), 1.5, dtype=torch.float64),
}
ones = torch.ones(L, 1, dtype=torch.float64)
states = {
    # B as in the exact rule, so that the state is a weighted mean of tokens
    name: scan_one(u, delta, -one, (-torch.expm1(-delta) / delta)[:, None], ones)
    for name, delta in step_sizes.items()
}

# %% tags=["hide-input"]
figure, axes = plt.subplots(4, 1, figsize=(figures.WIDTH, 6), sharex=True, height_ratios=(1.3, 1, 1, 1))
plt.close(figure)
axes[0].plot(u, color=figures.GREY, lw=0.8)
axes[0].scatter(marks, u[marks], color="black", s=26, zorder=3)
axes[0].set_title("tokens u, four of them marked", loc="left")
for ax, (name, state), colour in zip(axes[1:], states.items(), (ORANGE, BLUE, GREEN), strict=True):
    ax.plot(state, color=colour, lw=1.6)
    ax.scatter(marks, u[marks], color="black", s=14, zorder=3)
    size = "5 at marks, else 0.001" if name == "selective" else f"{step_sizes[name][0]:.2f}"
    ax.set_title(f"state, δ {name} ({size})", loc="left")
    ax.set_ylim(-3, 3)
axes[-1].set_xlabel("step")
display(figure)

# %% [markdown]
# Only with selection does the state hold the marked value until the next mark. A constant small step averages over
# everything, a constant large one forgets within two tokens. (The step sizes are set by hand here; a network has to
# learn them.)
#
# ## 5. Step sizes inside the network
#
# In an HSS block the token $x_t$ of each route is projected: `x_proj` gives B, C and a few numbers from which
# `dt_proj` makes one δ per channel, $\delta = \operatorname{softplus}(\mathrm{dt} + b)$. The bias $b$ is drawn so
# that δ starts between 0.001 and 0.1, on a logarithmic scale. To see the real values, an image goes through the
# untrained network of the quick profile, with a scan that keeps what it is given: the tokens of the image, the
# routes, and the projections. Shown is the last block, its tokens in the order of each route.

# %%
base = quick_base()
model = MambaAD(base.model, weights="embedded").eval()
picture, _ = draw(given.category, 128, seed=given.seed)
image = model.normalize(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)

calls = []


def keep(*tensors):
    calls.append(tensors)
    return routed_scan(*tensors)


model.set_scan_backend(keep)
with torch.no_grad():
    model(image)
*in_image_order, bias, rates, skip = (tensor.detach() for tensor in calls[-1])
arrived = dict(zip(("u", "delta", "B", "C"), in_route_order(*in_image_order), strict=True))
arrived |= {"A": rates, "D": skip, "delta_bias": bias}

axes_of = ("B K D L", "B K D L", "B K N L", "B K N L", "K D N", "K D", "K D")
sizes = [str(tuple(tensor.shape)) for tensor in arrived.values()]
plain(pd.DataFrame({"tensor": list(arrived), "axes": axes_of, "shape": sizes}))

# %% [markdown]
# B images, K routes, D inner channels, N numbers per state, L tokens. After $\ln 2 / (\delta n)$ steps a memory with
# rate $n$ has lost half:

# %%
steps = torch.nn.functional.softplus(arrived["delta"] + arrived["delta_bias"][..., None])
quantiles = (0.05, 0.5, 0.95)
rows = []
for q in quantiles:
    value = float(np.quantile(steps, q))
    rows.append([f"{q:.0%}", f"{value:.4f}", *(f"{math.log(2) / (value * n):.1f}" for n in (1, 4, 16))])
plain(pd.DataFrame(rows, columns=["quantile of δ", "δ", "half-life n = 1 (steps)", "n = 4 (steps)", "n = 16 (steps)"]))

# %%
spread_over_tokens = (steps.std(-1) / steps.mean(-1)).median()
print("δ varies from token to token, median over channels:")
print(f"by {100 * spread_over_tokens:.1f} % of the channel's mean")

# %% [markdown]
# So before any training there are memories of a fraction of a step and of hundreds of steps, side by side, and the
# selection is still weak: how much δ follows the token is left to training.
#
# ## 6. The same function, faster
#
# The loop over tokens is the definition, and slow in PyTorch: every step is a handful of tiny operations, and each of
# them leaves a tensor behind for the backward pass. The backend `chunked` takes the tokens in
# chunks. It computes all decays and all inputs of a chunk at once, so that only two operations per token remain in
# the loop; it keeps just the states between chunks; and its hand-written backward rebuilds the others. It must be the
# same function, outputs and all seven gradients:

# %%
shapes = {"u": (2, 4, 6, 197), "delta": (2, 4, 6, 197), "A": (4, 6, 16), "B": (2, 4, 16, 197), "C": (2, 4, 16, 197)}
shapes |= {"D": (4, 6), "delta_bias": (4, 6)}


def outputs_and_gradients(backend, dtype):
    draws = torch.Generator().manual_seed(given.seed)
    inputs = {name: torch.randn(shape, generator=draws, dtype=torch.float64) for name, shape in shapes.items()}
    inputs["A"] = -torch.exp(inputs["A"])
    inputs["delta_bias"] -= 3
    inputs = {name: x.to(dtype).requires_grad_() for name, x in inputs.items()}
    y = selective_scan(**inputs, backend=backend)
    weights = torch.randn(y.shape, generator=draws, dtype=torch.float64).to(dtype)
    return {
        "y": y.detach(),
        **dict(zip(inputs, torch.autograd.grad((y * weights).sum(), inputs.values()), strict=True)),
    }


frame = pd.DataFrame({"quantity": ["output y", *(f"gradient of {name}" for name in shapes)]})
for dtype, label in ((torch.float64, "float64"), (torch.float32, "float32")):
    reference, chunked = (outputs_and_gradients(backend, dtype) for backend in ("reference", "chunked"))
    largest = [float((reference[n] - chunked[n]).abs().max() / reference[n].abs().max()) for n in reference]
    assert max(largest) < (1e-12 if dtype == torch.float64 else 1e-5)
    frame[f"{label}: largest difference / largest value"] = [f"{value:.1e}" for value in largest]
plain(frame)

# %% [markdown]
# ## 7. What it costs
#
# Per token, channel, route and state number the recurrence takes one exponential and about six multiplications and
# additions, whatever came before: the work grows with L. Attention compares all pairs and grows with L². Counted for
# the widths of the paper's last stage (K = 8 routes, D = 128 inner channels, N = 16), beside one attention layer as
# wide: 4 L² D multiplications and additions for its scores and its weighted sum.
#
# Memory is measured: the bytes that autograd keeps for the backward pass of one scan, at a smaller width.


# %%
def bytes_kept(backend, L, K=8, D=32, N=16):
    """What one scan keeps for its backward pass, each piece of memory once; its inputs included."""
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()  # held, so that no address comes twice
        return x

    u, delta = torch.randn(2, 1, K, D, L).requires_grad_()
    B, C = torch.randn(2, 1, K, N, L).requires_grad_()
    A, skip, bias = -torch.ones(K, D, N).requires_grad_(), torch.ones(K, D), torch.zeros(K, D)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        selective_scan(u, delta, A, B, C, skip, bias, backend=backend)
    return sum(storage.nbytes() for storage in kept.values())


sides = np.array([8, 16, 32, 64])
tokens = sides**2
scan_operations = 8 * 128 * 16 * 7.0 * tokens
attention_operations = 2 * 2 * 128.0 * tokens**2
kept_mb = {b: np.array([bytes_kept(b, int(n)) for n in tokens]) / 1e6 for b in ("reference", "chunked")}

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 3.4))
plt.close(figure)
axes[0].plot(tokens, scan_operations / 1e6, color=ORANGE, marker="o", ms=4, label="scan, 8 routes")
axes[0].plot(tokens, attention_operations / 1e6, color=BLUE, marker="s", ms=4, label="attention")
axes[0].set_title("million operations", loc="left")
axes[1].plot(tokens, kept_mb["reference"], color=GREEN, marker="^", ms=4, label="loop over tokens")
axes[1].plot(tokens, kept_mb["chunked"], color=ORANGE, marker="o", ms=4, label="chunked")
axes[1].set_title("MB kept for backward", loc="left")
for ax in axes:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(tokens, [f"{side}²" for side in sides])
    ax.minorticks_off()
    ax.set_xlabel("tokens L")
    ax.legend(loc="upper left", handlelength=1.2)
display(figure)

# %% tags=["hide-input"]
slope = lambda values: np.polyfit(np.log(tokens), np.log(values), 1)[0]  # noqa: E731
print("growth with L, as an exponent:")
print(f"  {slope(scan_operations):.2f}  operations of the scan")
print(f"  {slope(attention_operations):.2f}  operations of attention")
print(f"  {slope(kept_mb['reference']):.2f}  memory of the loop")
print(f"  {slope(kept_mb['chunked']):.2f}  memory of chunked")
print(f"chunked keeps {kept_mb['reference'][-1] / kept_mb['chunked'][-1]:.0f} times less at 64² tokens")
equal = 8 * 16 * 7 / 4
print(f"as many operations: at L = {equal:.0f}, about {math.sqrt(equal):.0f}²")

# %% [markdown]
# The paper's decoder works on 8² to 64² tokens. Eight routes are no bargain on the small maps; on the large ones,
# where most of the work is, the linear growth pays.
#
# ## 8. How far a token is heard
#
# Back to the real values of section 5. The derivative of the output at step $t$ by the token $j$ steps before tells
# how loudly that token is still heard (with δ, B and C held fixed):
#
# $$ \frac{\partial y_t}{\partial u_{t-j}} = \sum_n C_{t,n}\; e^{A_n s}\; \delta_{t-j}\, B_{t-j,n} $$
#
# $$ s = \delta_{t-j+1} + \dots + \delta_t. $$
#
# Averaged over routes, over end points, and over three groups of channels by their mean step size:

# %%
inputs = {**arrived, "u": arrived["u"].clone().requires_grad_()}
length = inputs["u"].shape[-1]
REACH = 512
ends = range(REACH, length, 64)
heard = torch.zeros(*inputs["u"].shape[1:3], REACH)
for t in ends:
    y = selective_scan(**{n: x[..., : t + 1] if n in ("u", "delta", "B", "C") else x for n, x in inputs.items()})
    (gradient,) = torch.autograd.grad(y[..., -1].sum(), inputs["u"])
    heard += gradient[0, ..., t - REACH + 1 : t + 1].flip(-1).abs() / len(ends)

typical = steps[0].mean(-1)  # (K, D)
edges = typical.quantile(torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))
curves = {}
for name, low, high in zip(("small", "medium", "large"), edges[:-1], edges[1:], strict=True):
    chosen = (typical >= low) & (typical <= high)
    curves[f"{name} δ ({low:.3f} to {high:.3f})"] = heard[chosen].mean(0)

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(figures.WIDTH, 3.4))
plt.close(figure)
for (name, curve), colour, dash in zip(curves.items(), (BLUE, GREEN, ORANGE), ("-", "--", "-."), strict=True):
    far = curve[1:] / curve[1]  # j = 0 also holds the direct path D
    ax.plot(range(1, REACH), far, color=colour, ls=dash, lw=1.8, label=name)
    half = 1 + int((far.cumsum(0) < 0.5 * far.sum()).sum())
    print(f"{name}: half of it within {half} steps")
ax.set_xscale("log")
ax.set_yscale("log")
ax.set_ylim(1e-4, 1.5)
ax.set_xticks([1, 8, 64, 512], ["1", "8", "64", "512"])
ax.set_xlabel("steps back j")
ax.set_ylabel("heard, relative to j = 1")
figure.legend(loc="outside lower center", ncols=1)
display(figure)

# %% [markdown]
# A token is heard best right after it was read, and less the more **steps** lie between. How far a step leads in the
# **image** is not the scan's business but that of the order in which tokens are visited: {doc}`02_hybrid_scan`.
