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
# # State space models from scratch
#
# A convolution sees a fixed neighbourhood. Attention compares every token with every other, at a cost that grows with
# the square of their number. A state space model does neither: it walks along the tokens once and carries a small
# {term}`state` with it, a summary of what it has seen. Mamba {cite:p}`gu2023mamba` lets each token decide how much of
# that state is kept and how much is replaced. This chapter builds it from one line of arithmetic.
#
# :::{admonition} Before you start
# :class: tip
# About 30 minutes. You need: what a convolution is, and $e^{-x}$. Letters, one meaning each: $u$ token, $h$ state,
# $y$ output, δ step size; A decay rate, B writing weight, C reading weight, D direct path; N numbers in a state,
# L tokens, K routes through an image, $w$ width of a block.
# :::
#
# ## 1. A leaky bucket
#
# One number $h$, the state. At every step a share of it leaks away, and the next token is poured in:
#
# $$ h_t = a\, h_{t-1} + u_t, \qquad 0 < a < 1 . $$
#
# That is all. Unroll it and see what it has done: $h_t = u_t + a\,u_{t-1} + a^2 u_{t-2} + \dots$ A token that came $j$
# steps ago counts with the weight $a^j$. So the loop is also a **convolution with the kernel** $1, a, a^2, \dots$:

# %% tags=["remove-cell"]
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.integrate import solve_ivp

from mambaad.ops.routed_scan import routed_scan
from mambaad.ops.routed_scan.gathered import in_route_order
from mambaad.ops.selective_scan import selective_scan
from mambaad.ops.selective_scan.naive import selective_scan_reference
from mambaad.study.book_network import book_network, example_image, untrained_network
from mambaad.study.notebook import check_parameters
from mambaad.study.page_figures import BLUE, GREEN, INK, LINE, ORANGE, STYLE, WIDTH, live, plot, power_of_ten, table

# %% tags=["parameters", "remove-cell"]
seed: int = 0  # seed of the random sequences

# %% tags=["remove-cell"]
given = check_parameters(globals(), seed=int)
plt.rcParams.update(STYLE)
torch.set_num_threads(1)

# %%
a, u = 0.8, [0, 0, 1, 0, 0, 2, -1, 0, 0, 0]

h, by_loop = 0, []
for token in u:
    h = a * h + token
    by_loop.append(h)

kernel = [a**j for j in range(len(u))]
by_kernel = np.convolve(u, kernel)[: len(u)]

print("loop  ", *(f"{v:6.3f}" for v in by_loop))
print("kernel", *(f"{v:6.3f}" for v in by_kernel))

# %% [markdown]
# If you come from convolutions, read it the other way round: the bucket is a causal convolution whose kernel reaches
# back over the whole sequence but has a single parameter.

# %% tags=["remove-input"]
frame = pd.DataFrame(
    [
        ["reaches back", "k tokens", "all, ever fainter"],
        ["parameters per channel", "k", "a rate, and what is written and read"],
        ["may use the future", "yes", "no: a second scan runs backwards"],
        ["multiplications per token", "k", "a few, however far it reaches"],
        ["weights depend on the token", "no", "no; with selection (section 4), yes"],
    ],
    columns=["property", "convolution, kernel k", "scan"],
)
table(frame, "**A bridge** from convolutions to scans.")

# %% [markdown]
# ## 2. From time to steps
#
# Where does $a$ come from? Think of a tank that drains while the input runs into it, in continuous time:
#
# $$ h'(t) = A\, h(t) + B\, u(t), \qquad A < 0 . $$
#
# Left alone, $h$ decays as $e^{At}$. Tokens come one by one, so time is cut into steps of size δ. If the input is held
# constant during a step, the equation can be solved exactly. This is the *zero-order hold* that the paper prints in
# equation 2:
#
# $$ h_t = e^{\delta A} h_{t-1} + \bar B u_t $$
#
# $$ \bar B = \frac{e^{\delta A} - 1}{A}\, B. $$
#
# So $a = e^{\delta A}$: **a small step forgets little, a large one much.** But Mamba's code, and with it the published
# code of MambaAD, writes $\bar B = \delta B$ instead. It keeps the exact decay and takes the first term of the series
# for what is written. This library does as the code does, and every network in this book was computed that way; where
# a page of the book uses the exact rule, it says so.
#
# :::{admonition} Predict before you look
# :class: hint
# For a step of δ = 1 and A = −1, does δB write too much or too little, compared with the equation? By how much?
# :::


# %% tags=["hide-input"]
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


END = 12.0
signal = lambda t: np.sin(0.9 * t) + 0.4  # noqa: E731
one = torch.ones(1, dtype=torch.float64)

figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 4.8), sharex=True)
distance = {}
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
    ax.plot(np.concatenate(path_t), np.concatenate(path_h), color=INK, lw=1.2, label="differential equation")
    ax.scatter(times + step, exact_rule, color=BLUE, s=18, zorder=3, label="zero-order hold")
    ax.scatter(times + step, code_rule, color=ORANGE, marker="x", s=24, zorder=3, label="δB")
    ax.set_title(f"δ = {step}")
    ax.set_ylabel("state h")
    distance[step] = [float((rule - solver).abs().max()) for rule in (exact_rule, code_rule)]
axes[1].set_xlabel("time t")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, columnspacing=1)
plot(
    figure,
    alt="State over time for a sampled sine. The zero-order hold lies on the solution; δB lies beyond it, clearly at "
    "step 1.",
    caption="**Two rules and the equation**, A = −1, solved independently. Largest distance of δB from the solution: "
    f"{distance[0.2][1]:.2f} at δ = 0.2 and {distance[1.0][1]:.2f} at δ = 1; of the zero-order hold "
    f"less than {power_of_ten(10.0 ** math.ceil(math.log10(max(distance[0.2][0], distance[1.0][0]))))}.",
)

# %% [markdown]
# The two differ by one factor, $x / (1 - e^{-x})$ with $x = \delta |A|$: δB writes more by just that.

# %% tags=["hide-input"]
x = torch.tensor([0.001, 0.01, 0.1, 1.0], dtype=torch.float64)[:, None] * torch.tensor([1.0, 4.0, 16.0])
excess = 100 * (x / -torch.expm1(-x) - 1)
frame = pd.DataFrame(excess.numpy(), columns=["A = −1", "A = −4", "A = −16"])
frame.insert(0, "δ", ["0.001", "0.01", "0.1", "1"])
table(frame, "**By how many percent δB writes more** than the zero-order hold.", decimals=1)

# %% [markdown]
# For the step sizes that a network starts with (0.001 to 0.1) the factor is near 1 for slow memories and about 2 for
# the fastest. B is learnt, so a network can make up for it; but weights trained under one rule give other outputs
# under the other. That is why the choice has to be stated.
#
# ## 3. Many buckets at once
#
# One rate is a crude memory. A state holds N numbers, each with a rate of its own; Mamba starts with $A_n = -n$ for $n
# = 1 \dots 16$. B says what is written into them, C what is read:
#
# $$ y_t = \sum_n C_n\, h_{t,n} + D\, u_t . $$
#
# As long as δ, A, B and C are the same for all tokens, this is still a convolution, with the kernel $k_j = \sum_n
# C_n\, e^{j\delta A_n}\, \delta B_n$: a mix of sixteen fading exponentials. Checked on random numbers:

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
# Now the one idea that makes it Mamba, {term}`selection`: δ, B and C are computed **from the token**.
#
# $$ h_t = e^{\delta_t A}\, h_{t-1} + \delta_t B_t\, u_t $$
#
# In the network a token is a vector of $2w$ channels, and each channel is a scan of its own: its own state of N
# numbers, its own rates A and its own step size. Linear maps of the whole token give
#
# $$ \delta_t = \operatorname{softplus}(W_\delta u_t + b), \quad B_t = W_B u_t, \quad C_t = W_C u_t, $$
#
# a positive step size for each channel, and N writing and N reading weights that all channels share. $W_\delta$ is a
# product of two narrow matrices, of rank R. What the step size does:
#
# - **Large δ**: $e^{\delta A} \to 0$. The state is forgotten and the token written in its place.
# - **Small δ**: $e^{\delta A} \to 1$ and next to nothing is written. The token is passed by, the state kept.
#
# :::{admonition} Predict before you look
# :class: hint
# Three of 24 tokens are marked. You may choose one δ for marked tokens and one for all others. How do you make the
# state hold the last marked token until the next mark comes? And can it be done with one δ for all?
# :::

# %% tags=["hide-input"]
L = 24
chosen = torch.full((L,), 0.01, dtype=torch.float64).index_fill(0, torch.tensor([3, 10, 17]), 3.0)


def as_matrix(delta):
    """The matrix M with y = M u for one memory of rate -1 under the zero-order hold: M (L, L)."""
    hold = (-torch.expm1(-delta) / delta)[:, None]
    columns = [scan_one(unit, delta, -one, hold, torch.ones(len(delta), 1).double()) for unit in torch.eye(L).double()]
    return torch.stack(columns, dim=1)


figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9))
for ax, step_sizes, title in (
    (axes[0], torch.full((L,), 0.2, dtype=torch.float64), "one δ for all"),
    (axes[1], chosen, "large δ at 3, 10, 17"),
):
    ax.imshow(as_matrix(step_sizes).numpy(), cmap="cividis")
    ax.set(title=title, xlabel="token s", xticks=[3, 10, 17], yticks=[3, 10, 17])
axes[0].set_ylabel("step t")
live(
    "memory-machine",
    still=figure,
    alt="Two lower triangular matrices: with one step size constant along diagonals, with selection three columns.",
    caption="**Selective-memory machine.** Sliders set δ; the tanks are the numbers in the state; the matrix says "
    "with which weight token s influences step t. With one δ it is constant along its diagonals, a convolution. With "
    "large δ at three marks it has three columns: each mark has influence until the next one, nothing else.",
)

# %% [markdown]
# The solution is a large δ at the marks and a small one elsewhere, and no constant δ does it: a small one averages
# over everything, a large one forgets within a step or two. The same on a longer sequence, where δ is set by hand once
# more; a network has to learn it:

# %% tags=["hide-input"]
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
    # zero-order hold, so that the state is a weighted mean of tokens
    name: scan_one(u, delta, -one, (-torch.expm1(-delta) / delta)[:, None], ones)
    for name, delta in step_sizes.items()
}
figure, axes = plt.subplots(3, 1, figsize=(WIDTH, 5), sharex=True)
for ax, (name, state), colour in zip(axes, states.items(), (ORANGE, BLUE, GREEN), strict=True):
    ax.plot(u, color=LINE, lw=0.8)
    ax.plot(state, color=colour)
    ax.scatter(marks, u[marks], color=INK, s=18, zorder=3)
    size = "5 at marks, else 0.001" if name == "selective" else f"{step_sizes[name][0]:.2f}"
    ax.set_title(f"δ {name} ({size})")
    ax.set_ylim(-3, 3)
axes[-1].set_xlabel("step")
plot(
    figure,
    alt="Three states over 120 steps. Only the selective one stays at each marked value until the next mark.",
    caption="**Keep the last marked token.** Tokens grey, marks as dots, the state in colour; A = −1, zero-order hold.",
)

# %% [markdown]
# With $A = -1$ and the exact rule, selection is the gate of a gated recurrent network: $\delta =
# \operatorname{softplus}(v)$ gives $e^{-\delta} = 1 - \sigma(v)$, hence $h_t = (1-g)\,h_{t-1} + g\,u_t$ with $g =
# \sigma(v_t)$ ({cite:t}`gu2023mamba`, theorem 1).
#
# ## 5. Why it can be parallel
#
# A loop over tokens looks hopeless for a GPU. But one step, $h \mapsto a h + b$, is a pair $(a, b)$, and two steps one
# after the other are such a pair again:
#
# $$ (a_1, b_1) \text{ then } (a_2, b_2) \;=\; (a_1 a_2,\; a_2 b_1 + b_2) . $$
#
# How the pairs are bracketed does not matter. So 8 steps can be combined as 4 pairs, these as 2, these as 1: the depth
# is $\log_2 L$ instead of L. In a few lines:


# %%
def parallel_scan(a, b):
    """All states of h_t = a_t h_(t-1) + b_t in log2(L) rounds.

    Each round joins every step with one further back.
    """
    rounds, reach = 0, 1
    while reach < len(a):
        earlier_a = torch.cat([torch.ones(reach), a[:-reach]])
        earlier_b = torch.cat([torch.zeros(reach), b[:-reach]])
        a, b = earlier_a * a, a * earlier_b + b
        rounds, reach = rounds + 1, 2 * reach
    return b, rounds


a, b = torch.rand(1024, generator=rng), torch.randn(1024, generator=rng)
found, rounds = parallel_scan(a, b)
h, by_loop = torch.zeros(()), []
for a_t, b_t in zip(a, b, strict=True):
    h = a_t * h + b_t
    by_loop.append(h)
difference = (found - torch.stack(by_loop)).abs().max()
print(f"{len(a)} steps in {rounds} rounds, largest difference {difference:.1e}")

# %% [markdown]
# In pure PyTorch so many rounds over all tokens are not the fastest way. The library's portable form, `chunked`, takes
# the tokens in chunks: all decays and inputs of a chunk at once, and only two operations per token left in the loop.
# (On a CPU the library normally runs a compiled C kernel: {doc}`benchmarks`.) It must be the same function, outputs and
# all seven gradients, on any number of tokens:

# %% tags=["hide-input"]
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


exact = outputs_and_gradients("reference", torch.float64)
chunked = outputs_and_gradients("chunked", torch.float32)
worst = max(float((chunked[n].double() - exact[n]).abs().max() / exact[n].abs().max()) for n in exact)
print(f"chunked in float32 against the loop in float64: {worst:.0e} of the largest value, over {len(exact)} tensors")

# %% [markdown]
# ## 6. What a trained network does with it
#
# Everything so far was set by hand. Now the small network that comes with this book, trained on synthetic images of
# good parts, and the same network before its training. In an HSS block each token of each route is projected to B, C
# and, per channel, to a δ. The bias of δ is drawn so that it starts between 0.001 and 0.1.
#
# :::{admonition} Predict before you look
# :class: hint
# Before training, how much does δ change from token to token, 1 %, 10 % or 100 %? And after training: will δ be larger
# or smaller on a defect the network has never seen?
# :::

# %% tags=["hide-input"]
example = example_image()


def step_sizes_of(model, pictures):
    """δ (images, K, 2w, L), in image order, and A (K, 2w, N) of every HSS block, in the order of the network."""
    found = []

    def keep(x, projected, routes, dt_proj, dt_bias, A, D):
        dt = projected[..., : dt_proj.shape[2]]
        dt = torch.einsum("blkr,kdr->bkdl", dt, dt_proj) + dt_bias[..., None]
        found.append((torch.nn.functional.softplus(dt), A))
        return routed_scan(x, projected, routes, dt_proj, dt_bias, A, D)

    model.set_scan_backend(keep)
    with torch.no_grad():
        model(model.normalize(pictures))
    model.set_scan_backend("auto")
    return found


pair = torch.stack([example.image, example.good_twin])
networks = {"untrained": untrained_network(), "trained": book_network()}
steps = {name: step_sizes_of(model, pair) for name, model in networks.items()}


# %% tags=["hide-input"]
def relative(delta):
    """δ relative to each channel's median, averaged over routes and channels on a logarithmic scale: (B, s, s)."""
    log = delta.log()
    side = math.isqrt(delta.shape[-1])
    return (log - log.median(-1, keepdim=True).values).mean((1, 2)).exp().unflatten(-1, (side, side))


figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.3))
axes[0].imshow(example.image.permute(1, 2, 0).numpy())
axes[0].contour(example.mask.numpy(), levels=[0.5], colors="#d55e00", linewidths=1.6)
axes[0].set_title(example.words)
shown = {name: relative(found[-1][0])[0].detach() for name, found in steps.items()}
low, high = min(v.min() for v in shown.values()), max(v.max() for v in shown.values())
for ax, (name, value) in zip(axes[1:], shown.items(), strict=True):
    picture = ax.imshow(value.numpy(), norm="log", vmin=low, vmax=high)
    ax.set_title(name)
for ax in axes:
    ax.set_axis_off()
bar = figure.colorbar(picture, ax=axes, location="bottom", shrink=0.6, aspect=30, label="δ, small to large")
bar.ax.tick_params(which="both", bottom=False, labelbottom=False)
spread = {name: [float((d.std(-1) / d.mean(-1)).median()) for d, _ in found] for name, found in steps.items()}
plot(
    figure,
    alt="The example image and two maps of relative step sizes. Untrained: flat. Trained: the outline of the part "
    "stands out.",
    caption="**δ in the last HSS block**, relative to each channel's median, averaged over routes and channels "
    f"({low:.2f} to {high:.2f}). From token to token δ varies by {100 * spread['untrained'][-1]:.1f} % of its mean in "
    f"the untrained network, by {100 * spread['trained'][-1]:.0f} % in the trained one (median over channels).",
)

# %% [markdown]
# Before training there is next to no selection; **selection is learnt**. The same holds in all eight HSS blocks,
# and the length of the memory changes with it: after $\ln 2 / (\delta |A|)$ steps a memory has lost half.

# %% tags=["hide-input"]
names = [f"stride {stride}, block {i}" for stride in (32, 16, 8, 4) for i in (1, 2)]
rows = []
for i, name in enumerate(names):
    row = [name, *(100 * spread[network][i] for network in ("untrained", "trained"))]
    for network in ("untrained", "trained"):
        delta, A = steps[network][i]
        half = math.log(2) / (delta[1] * A[..., 0].abs()[..., None])  # of the slowest memory, n = 1
        few, many = half.flatten().quantile(torch.tensor([0.05, 0.95])).tolist()
        row.append(f"{few:.0f} to {many:.0f}")
    rows.append(row)
columns = ["HSS block", "δ varies, untrained (%)", "trained (%)", "half-life, untrained", "trained"]
table(
    pd.DataFrame(rows, columns=columns),
    "**Selection before and after training**. Varies: from token to token, in percent of a channel's mean. Half-life: "
    "of the slowest of the 16 memories in steps, 5 % to 95 % of channels and tokens of the good twin.",
    decimals=1,
)

# %% [markdown]
# Does δ know about defects? Take the defective image and its good twin, the same part drawn without the defect, and
# compare δ on the very tokens that the defect changed.

# %% tags=["hide-input"]
rows = []
for category, defect in (("gear", "missing"), ("gear", "spot"), ("resistor", "bent"), ("fabric", "spot")):
    case = example_image(category, defect)
    delta = step_sizes_of(networks["trained"], torch.stack([case.image, case.good_twin]))[-1][0].detach()
    side = math.isqrt(delta.shape[-1])
    inside = torch.nn.functional.adaptive_max_pool2d(case.mask[None].float(), side).flatten() > 0
    change = (delta[0].log() - delta[1].log())[..., inside].mean(-1).exp().flatten()  # one per route and channel
    few, middle, many = change.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    rows.append([case.words, int(inside.sum()), few, middle, many])
defect_change = pd.DataFrame(rows, columns=["image", "tokens", "10 % of channels", "median", "90 %"])
table(
    defect_change,
    "**δ on a defect relative to δ on the same tokens of the good twin**, last HSS block of the trained network.",
)

# %% [markdown]
# Single channels answer with a larger or smaller δ, but the median channel does not: **δ is no detector of defects.**
# It follows what the image looks like. The network has never seen a defect, so it had no reason to learn a reaction to
# one; what finds it is the comparison of features, which the other chapters are about. (One small network, synthetic
# images: this shows what can happen, not what the paper's network does.)
#
# ## 7. What it costs
#
# Per token, channel, route and state number the recurrence takes one exponential and about six multiplications and
# additions, whatever came before: the work grows with L. Attention compares all pairs and grows with L². Counted for
# the widths of the paper's last stage (K = 8 routes, 2w = 128 inner channels, N = 16), beside one attention layer as
# wide: 4 · L² · 128 multiplications and additions for its scores and its weighted sum. Memory is measured: the bytes
# that autograd keeps for the backward pass of one scan, at a smaller width.


# %% tags=["hide-input"]
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

figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
axes[0].plot(tokens, scan_operations / 1e6, color=ORANGE, marker="o", ms=5, label="scan, 8 routes")
axes[0].plot(tokens, attention_operations / 1e6, color=BLUE, marker="s", ms=5, label="attention")
axes[0].set_title("million operations")
axes[1].plot(tokens, kept_mb["reference"], color=GREEN, marker="^", ms=5, label="loop")
axes[1].plot(tokens, kept_mb["chunked"], color=ORANGE, marker="o", ms=5, label="chunked")
axes[1].set_title("MB for backward")
for ax in axes:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(tokens, [f"{side}²" for side in sides])
    ax.minorticks_off()
    ax.set_xlabel("tokens L")
    ax.legend(loc="upper left", handlelength=1.2)
equal = 8 * 16 * 7 / 4
plot(
    figure,
    alt="Two log-log plots over the number of tokens: scan grows linearly, attention quadratically; the chunked scan "
    "keeps less memory than the loop.",
    caption=f"**Cost over the number of tokens.** The scan's work equals attention's at L = {equal:.0f}, about "
    f"{math.sqrt(equal):.0f}² tokens. At 64² tokens the chunked scan keeps "
    f"{kept_mb['reference'][-1] / kept_mb['chunked'][-1]:.0f} times less memory than the loop.",
)

# %% [markdown]
# The paper's decoder works on 8² to 64² tokens. Eight routes are no bargain on the small maps; on the large ones,
# where most of the work is, the linear growth pays.
#
# ## 8. How far influence reaches
#
# The derivative of the output at step $t$ with respect to the token $j$ steps earlier tells how strong its influence
# still is (with δ, B and C held fixed):
#
# $$ \frac{\partial y_t}{\partial u_{t-j}} = \sum_n C_{t,n}\; e^{A_n r}\; \delta_{t-j}\, B_{t-j,n} $$
#
# $$ r = \delta_{t-j+1} + \dots + \delta_t. $$
#
# Averaged over routes and end points, for three groups of channels by their mean step size, in the last block of the
# trained network:

# %% tags=["hide-input"]
calls = []


def record(*tensors):
    calls.append([tensor.detach() for tensor in tensors])
    return routed_scan(*tensors)


networks["trained"].set_scan_backend(record)
with torch.no_grad():
    networks["trained"](networks["trained"].normalize(example.image[None]))
networks["trained"].set_scan_backend("auto")
x, projected, routes, dt_proj, bias, rates, skip = calls[-1]
arrived = dict(zip(("u", "delta", "B", "C"), in_route_order(x, projected, routes, dt_proj), strict=True))
arrived |= {"A": rates, "D": skip, "delta_bias": bias}

inputs = {**arrived, "u": arrived["u"].clone().requires_grad_()}
length = inputs["u"].shape[-1]
REACH = 512
ends = range(REACH, length, 64)
heard = torch.zeros(*inputs["u"].shape[1:3], REACH)
for t in ends:
    y = selective_scan(**{n: x[..., : t + 1] if n in ("u", "delta", "B", "C") else x for n, x in inputs.items()})
    (gradient,) = torch.autograd.grad(y[..., -1].sum(), inputs["u"])
    heard += gradient[0, ..., t - REACH + 1 : t + 1].flip(-1).abs() / len(ends)

typical = steps["trained"][-1][0][0].mean(-1)  # one per route and channel
edges = typical.quantile(torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))
curves = {}
for name, low, high in zip(("small", "medium", "large"), edges[:-1], edges[1:], strict=True):
    members = (typical >= low) & (typical <= high)
    curves[f"{name} δ ({low:.3f} to {high:.3f})"] = heard[members].mean(0)

figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
halves = []
for (name, curve), colour, dash in zip(curves.items(), (BLUE, GREEN, ORANGE), ("-", "--", "-."), strict=True):
    far = curve[1:] / curve[1]  # j = 0 also holds the direct path D
    ax.plot(range(1, REACH), far, color=colour, ls=dash, label=name)
    halves.append(1 + int((far.cumsum(0) < 0.5 * far.sum()).sum()))
ax.set(xscale="log", yscale="log", ylim=(1e-4, 1.5), xlabel="steps back j", ylabel="influence, relative to j = 1")
ax.set_xticks([1, 8, 64, 512], ["1", "8", "64", "512"])
figure.legend(loc="outside lower center", ncols=1)
plot(
    figure,
    alt="Three falling curves: channels with small steps reach far back, channels with large steps a few tokens.",
    caption="**How far back influence reaches**, by groups of channels. Half of the influence lies within "
    f"{halves[0]}, {halves[1]} and {halves[2]} steps.",
)

# %% [markdown]
# A token has most influence right after it has been read, and less the more **steps** lie in between. How far a step
# leads in the **image** is not the scan's business but that of the order in which tokens are visited:
# {doc}`02_hybrid_scan`.
#
# ## Summary
#
# - A state is a set of leaky buckets. With constant parameters a scan is a convolution with a mix of exponentials.
# - δ turns time into steps: large δ forgets and writes, small δ keeps. The decay is $e^{\delta A}$; what is written is
#   δB in the code, not the zero-order hold that the paper prints.
# - Selection makes δ, B and C depend on the token. Then it is no convolution any more: the matrix is no longer constant
#   along its diagonals.
# - Steps compose, so a scan can be computed in $\log_2 L$ rounds or in chunks.
# - In the trained network of this book δ varies many times more from token to token than at the start, but it does not
#   react to defects as such.
#
# ## Exercises
#
# 1. $a = 0.9$. After how many steps has a bucket lost half of a token?
# :::{admonition} Answer
# :class: dropdown
# $\ln 0.5 / \ln 0.9 = 6.6$, so after 7 steps.
# :::
#
# 2. Which kernel of three weights does a bucket with $a = 0.5$ come closest to, and what does it miss?
# :::{admonition} Answer
# :class: dropdown
# 1, 0.5, 0.25. It misses the rest of the series, $0.125 + 0.0625 + \dots = 0.25$, an eighth of the total of 2.
# :::
#
# 3. A = −4 and δ = 0.1. Compute the decay and both versions of what is written for B = 1.
# :::{admonition} Answer
# :class: dropdown
# $e^{-0.4} = 0.670$. Zero-order hold: $(1 - 0.670)/4 = 0.082$. δB: 0.1, which is 21 % more.
# :::
#
# 4. Why does δB always write more than the zero-order hold for B > 0?
# :::{admonition} Answer
# :class: dropdown
# The hold lets what was poured in early in the step leak until its end; δB does not. In formulas $x > 1 - e^{-x}$.
# :::
#
# 5. In the machine, choose one δ for all and N = 1. What is the first column of the matrix, in terms of δ?
# :::{admonition} Answer
# :class: dropdown
# $\bar B\, e^{-j\delta}$ for $j = 0, 1, 2, \dots$: the kernel of the convolution.
# :::
#
# 6. The parameters are constant except for one token with a huge δ. What does the matrix look like?
# :::{admonition} Answer
# :class: dropdown
# Two triangles along the diagonal, split at that token: nothing from before it has influence after it.
# :::
#
# 7. Compose the steps $(a, b) = (0.5, 1)$ and then $(0.2, 3)$. Check it on $h = 10$.
# :::{admonition} Answer
# :class: dropdown
# $(0.1,\; 0.2 \cdot 1 + 3) = (0.1, 3.2)$. One by one: $10 \to 6 \to 4.2$; at once: $0.1 \cdot 10 + 3.2 = 4.2$.
# :::
#
# 8. How many rounds does `parallel_scan` need for 4096 tokens, and how many multiplications compared with the loop?
# :::{admonition} Answer
# :class: dropdown
# 12 rounds. Each touches nearly all tokens with two multiplications, so about 24 per token instead of one: depth is
# bought with work. (Better schemes need only about twice the loop's work.)
# :::
#
# 9. At how many tokens does the scan of section 7 cost as much as attention if K is 2 instead of 8?
# :::{admonition} Answer
# :class: dropdown
# $2 \cdot 16 \cdot 7 / 4 = 56$ tokens, a quarter of 224.
# :::
#
# 10. A colleague concludes from a map of δ that "the network attends to the defect". What would you ask to see?
# :::{admonition} Answer
# :class: dropdown
# The map of the same part without the defect. δ follows edges and textures anyway; only the difference on the same
# tokens
# says something about the defect, and in section 6 its median is close to none.
# :::
