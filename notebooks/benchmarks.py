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
# # Speed
#
# How fast the library is, compared with what one would use instead. All sides of a comparison run in one process, and
# their calls alternate; what counts is the ratio, since absolute times belong to one machine. `mambaad benchmark`
# writes the records behind this page (`results/benchmarks/`), on your machine too; only the comparison with an earlier
# version, at the end, is made by `scripts/training_step_before.py`, with one process for each side.

# %% tags=["remove-cell"]
import json
import math

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

from mambaad.study import method_costs, page_figures
from mambaad.study.notebook import check_parameters, results_folder
from mambaad.study.table_view import plain

# %% tags=["parameters", "hide-cell"] mystnb={"code_prompt_show": "Parameters of this notebook"}
source: str = "results"  # folder of records; not the study's own, since timings are made apart from it

# %% tags=["remove-input"]
given = check_parameters(globals(), source=str)
folder = results_folder(given.source) / "benchmarks"


def read(suite):
    """Rows and facts of a suite by device; nothing where there is no record."""
    return {
        path.stem.removeprefix(f"{suite}_"): (pd.read_csv(path), json.loads(path.with_suffix(".json").read_text()))
        for path in sorted(folder.glob(f"{suite}_*.csv"))
    }


TIMES = {"median_ms": "median", "min_ms": "least", "max_ms": "most"}


def machine(facts):
    """One line about where and with what a record was made."""
    e = facts["environment"]
    commit = (e["code"]["commit"] or "unknown")[:12] + (" (with changes)" if e["code"]["dirty"] else "")
    threads = f"{e['threads']} CPU thread{'s' if e['threads'] != 1 else ''}"
    threads += " bound to cores" if e["threads_bound"] == "true" else ""
    return (
        f"*{e['device']}, {threads}; PyTorch "
        f"{e['packages']['torch']}, scan: {e['scan_backend']}; {facts['repeats']} timed calls of each side, medians; "
        f"code {commit}.*"
    )


SUITES = ("scan", "stages", "model", "scaling", "metrics", "exports", "training", "step_before")
suites = {name: read(name) for name in SUITES}
if not any(suites.values()):
    display(Markdown(f"**There is no benchmark record in `{given.source}/benchmarks` yet.** `mambaad benchmark`."))
elif all("cpu" in found and len(found) == 1 for found in suites.values() if found):
    display(Markdown("**All records here are of a CPU.** No GPU was measured yet: nothing below says how fast one is."))

# %% [markdown]
# ## The scan
#
# The scan of the decoder's last stage for one image of 256 pixels: 8 Hilbert routes, 128 channels, 4096 tokens, 16
# states. *Per-step loop* is the plain loop over time on tensors that already lie in route order; all others start from
# the image and bring their results back into it. *reference* is that loop between a gather and a scatter (faster than
# the loop alone because of its memory layout), *chunked* is pure PyTorch in chunks of time with a hand-written
# backward, *native* is the C kernel that reads and writes through the routes.

# %% tags=["hide-input"]
for rows, facts in suites["scan"].values():
    kinds = rows.groupby("pass", sort=False)
    with page_figures.style():
        figure, panels = plt.subplots(len(kinds), 1, figsize=(page_figures.WIDTH, 2.3 * len(kinds)), squeeze=False)
    for panel, (kind, part) in zip(panels[:, 0], kinds, strict=True):
        ordered = part.sort_values("median_ms")
        panel.barh(ordered["form"], ordered["median_ms"], color=page_figures.BLUE)
        panel.set(xscale="log", xlabel="milliseconds (log scale)", title=kind)
        labels = [f"{v:.0f}" if v >= 100 else f"{v:.1f}" for v in ordered["median_ms"]]
        panel.bar_label(panel.containers[0], labels, padding=3)
        panel.set_xlim(right=ordered["median_ms"].max() * 4)
    slowest, quickest = (getattr(rows.groupby("form")["median_ms"].sum(), end)() for end in ("idxmax", "idxmin"))
    display(
        page_figures.plot(
            figure,
            caption="Median time of one scan by form, shorter is quicker.",
            alt=f"Bar chart of {rows['form'].nunique()} forms of the scan: quickest {quickest}, slowest {slowest}.",
        )
    )
    columns = ["form", "pass", "times_faster_than_loop", "times_faster_than_chunked", "median_ms", "min_ms", "max_ms"]
    names = {"times_faster_than_loop": "× loop", "times_faster_than_chunked": "× chunked"} | TIMES
    display(
        plain(rows[columns].rename(columns=names), 1, caption="The scan: times in milliseconds, medians."),
        Markdown(f"× is how many times faster. {machine(facts)}"),
    )

# %% [markdown]
# ### How far from the limit
#
# A scan cannot be faster than its multiply-adds at the rate of a large matrix product, nor than the bytes of its
# arguments and results at the rate of a large copy. The larger of the two is the floor. Eight multiply-adds for each
# state and step of the forward are counted: five for the exponential, three for the recurrence and its output; fifteen
# more for the backward. For each channel and step come R (4 to 32) for the step size and 20 for softplus; in the
# backward 3R and 30. The achieved fraction is the floor divided by the measured time. What stands between: the other
# half of an exponential (rounding, table look-up, exponent), the sums over channels in the backward, and the way
# through the routes.

# %% tags=["hide-input"]
for rows, facts in suites["stages"].values():
    names = {
        "achieved_fraction": "achieved",
        "arithmetic_floor_ms": "floor, arithmetic",
        "memory_floor_ms": "floor, memory",
        "median_ms": "measured",
    }
    counted = {"multiply-adds, M": rows["multiply_adds"] / 1e6, "bytes, MB": rows["bytes"] / 1e6}
    sizes = {"L": "tokens", "D": "inner channels"}
    columns = [*sizes.values(), "pass", *names.values(), *counted]
    shown = rows.assign(**counted).rename(columns=names | sizes)[columns]
    rates = (
        "Times in milliseconds. Measured limits: "
        f"{facts['multiply_adds_per_s'] / 1e9:.0f} billion multiply-adds per second, "
        f"{facts['bytes_per_s'] / 1e9:.0f} GB/s."
    )
    display(plain(shown, caption="The native scan against its limits."), Markdown(f"{rates} {machine(facts)}"))

# %% tags=["hide-input"]
sentences = []
for device, (rows, _) in suites["scan"].items():
    if device != "cpu" or "cpu" not in suites["stages"]:
        continue
    stages = suites["stages"]["cpu"][0]
    for kind in ("forward", "forward+backward"):
        part = rows[rows["pass"] == kind].set_index("form")
        floor = stages[(stages["pass"] == kind) & (stages["L"] == 4096)]["arithmetic_floor_ms"].item()
        if "native" not in part.index:
            continue
        native = part.loc["native", "median_ms"]
        ratios = ", ".join(
            f"{part.loc[name, 'median_ms'] / native:.0f} times as fast as {name}"
            for name in ("per-step loop", "chunked")
        )
        sentences.append(f"- {kind}: {ratios}; {native / floor:.1f} times the time of the arithmetic alone")
display(Markdown("\n".join(["The native scan on two cores:", "", *sentences] if sentences else [])))

# %% [markdown]
# ## The whole network
#
# The paper's main model (ResNet34, depths 3 4 6 3) at 256 pixels, float32: one image forward, and forward, loss and
# backward of two images. The same network, the same weights; only the scan differs.

# %% tags=["hide-input"]
for rows, facts in suites["model"].values():
    columns = ["pass", "batch", "scan", "times_faster_than_loop", "scan_share", "median_ms", "min_ms", "max_ms"]
    shown = rows[columns].rename(columns={"times_faster_than_loop": "× loop", "scan_share": "scan's share"} | TIMES)
    shown["scan's share"] = [f"{100 * v:.0f} %" if v == v else "" for v in rows["scan_share"]]
    display(plain(shown, 1, caption="The whole network: times in milliseconds."), Markdown(machine(facts)))
    lines = []
    for kind, part in rows.groupby("pass", sort=False):
        loop, fused = part.iloc[0], part.iloc[-1]
        rest = fused["median_ms"] * (1 - fused["scan_share"])
        ratio, limit = loop["median_ms"] / fused["median_ms"], loop["median_ms"] / rest
        lines.append(
            f"- {kind}: {ratio:.1f} times as fast as the loop. A scan that took no time at all would give {limit:.1f}."
        )
    display(Markdown("\n".join(lines)))

# %% [markdown]
# *The scan's share* is the part of the time that torch's profiler finds in the native scan; the rest is convolutions
# and matrix products.
#
# ## How it grows
#
# The paper claims linear growth with the number of tokens. An exponent of 1 in the number of pixels is linear;
# attention over all tokens would come to 2. *Peak MB* is what the tensors of one pass take at most, without weights
# and input.

# %% tags=["hide-input"]
for rows, facts in suites["scaling"].values():
    axes = list(rows["axis"].unique())
    with page_figures.style():
        figure, panels = plt.subplots(len(axes), 1, figsize=(page_figures.WIDTH, 2.2 * len(axes)), squeeze=False)
    for panel, axis in zip(panels[:, 0], axes, strict=True):
        part = rows[rows["axis"] == axis]
        panel.plot(part["value"], part["median_ms"], marker="o", markersize=4, color=page_figures.BLUE)
        panel.set(xlabel={"side": "side, pixels", "K": "routes K"}.get(axis, axis), ylabel="milliseconds")
        if axis == "side":
            panel.set(xscale="log", yscale="log")
        else:
            panel.set_ylim(0, 1.12 * part["median_ms"].max())
        panel.set_xticks(part["value"], [str(v) for v in part["value"]])
        panel.minorticks_off()
    fitted = facts["exponents_in_pixels"]
    words = f"Exponent in the number of pixels: time {fitted['median_ms']:.2f}"
    if "peak_mb" in fitted and not math.isnan(fitted["peak_mb"]):
        words += f", memory {fitted['peak_mb']:.2f}"
    display(
        page_figures.plot(
            figure,
            caption="Time of one forward pass as one setting grows.",
            alt=f"Line plots over {', '.join(axes)}. {words}.",
        ),
        plain(rows, 1, caption="The same as numbers."),
        Markdown(f"{words}. {machine(facts)}"),
    )

# %% [markdown]
# ## Every method
#
# MambaAD beside the methods of table 6, with their published encoders; DiAD reduced.

# %% tags=["hide-input"]
method_costs.costs(folder)

# %% [markdown]
# ## The metrics
#
# The seven metrics of one category: 117 maps of 256 pixels, against scikit-learn for six of them and a loop over 100
# thresholds for AU-PRO. Ours sorts once, in two threads whatever the setting, and gives both protocols; streaming keeps
# histograms and no map, and knows its own error bound.

# %% tags=["hide-input"]
for rows, facts in suites["metrics"].values():
    shown = rows[["scores", "implementation", "median_ms", "min_ms", "max_ms", "ratio", "largest_difference"]].copy()
    shown["largest_difference"] = shown["largest_difference"].map(lambda v: f"{v:.1e}")
    shown = shown.rename(columns={**TIMES, "largest_difference": "largest difference"})
    display(
        plain(shown, 1, caption="The seven metrics of one category: times in milliseconds."), Markdown(machine(facts))
    )

# %% [markdown]
# ## Exported graphs
#
# The network of the preset `laptop` in every format of `mambaad export`, one image of 128 pixels, from bytes to map and
# score, beside PyTorch with the native scan. `onnx` holds the scan as ONNX's operator Scan, one operation after the
# other; `onnx_native` calls the C kernel as an operator of onnxruntime, which merges more of the operations around it
# than PyTorch does without compiling; `onnx_unrolled` writes the scan out; `torch` is torch.export's program.

# %% tags=["hide-input"]
for rows, facts in suites["exports"].values():
    shown = rows.assign(max_relative_difference=rows["max_relative_difference"].map(lambda v: f"{v:.0e}"))
    names = {
        "format": "format",
        "median_ms": "graph",
        "pytorch_median_ms": "PyTorch",
        "times_pytorch": "graph / PyTorch",
        "megabytes": "MB",
        "max_relative_difference": "largest relative difference",
    }
    display(
        plain(shown[list(names)].rename(columns=names), 1, caption="Exported graphs: times in milliseconds, medians."),
        Markdown(f"onnxruntime {facts['export_packages']['onnxruntime']}. {machine(facts)}"),
    )

# %% [markdown]
# ## A training step
#
# One step of the runs on real images: 8 images of 128 pixels, decoder depths 2, 2, 2, 2, one thread; forward, loss,
# backward and AdamW. The encoder is frozen, so its features need to be computed only once for each image. The
# scan takes about half of a step; the rest is mostly matrix products and convolutions, which are PyTorch's.

# %% tags=["hide-input"]
for rows, facts in suites["training"].values():
    shown = rows.assign(scan=100 * rows["scan_share"].astype(float))
    names = {"encoder": "encoder", "features": "its features", "scan": "share of the scan, %"} | TIMES
    display(
        plain(shown[list(names)].rename(columns=names), 0, caption="A training step: times in milliseconds, medians."),
        Markdown(
            "With kept features, all but the scan takes "
            + " and ".join(
                f"{line.median_ms * (1 - line.scan_share):.0f} ms with {line.encoder}"
                for line in rows[rows["features"] == "kept"].itertuples()
            )
            + f". {machine(facts)}"
        ),
    )

# %% tags=["hide-input"]
for rows, facts in suites["step_before"].values():
    kept = rows[rows["features"] == "kept"].set_index("encoder")["of_before"]
    display(
        Markdown(
            f"Compared in turn with version {facts['before'][:7]}, from before the work on the speed of this step, a "
            f"step with kept features takes {kept['EfficientNet-Lite0']:.1f} of the time with EfficientNet-Lite0 and "
            f"{kept['ResNet18']:.1f} with ResNet18. The aim, 0.18 of 0.26 s and 0.5 of 0.70 s on another machine, is "
            f"0.7 for both. {machine(facts)}"
        )
    )
