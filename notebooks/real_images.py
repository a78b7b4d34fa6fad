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
# # Real images
#
# The tables of this book are about drawn images, because everybody can draw them. This page is about photographs: a
# small part of MVTec-AD {cite:p}`bergmann2019mvtec`, trained with small means, shown as it came out.
#
# **What it is.** One model for all categories named below, an encoder pretrained on ImageNet, a short training. It
# shows what the code learns from real photographs in that time.
#
# **What it is not.** It is not a result of the paper: other encoder, fewer categories, shorter training. One seed, so
# nothing is known about its spread. It says nothing for or against the printed numbers; those stand beside ours only
# to show the distance.
#
# The images are not here: MVTec-AD is licensed CC BY-NC-SA 4.0, for non-commercial use, and comes from its authors.
# What is committed is the run's record.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import Markdown, display

from mambaad.config import run_config_from_dict
from mambaad.engine import records
from mambaad.study import figures
from mambaad.study.audit import checks
from mambaad.study.notebook import check_parameters, results_folder
from mambaad.study.published_numbers import METRIC_NAMES, SEVEN
from mambaad.study.table_view import plain
from mambaad.study.tables_spec import TABLE_6

# %% tags=["parameters"]
profile: str = "subset"  # the profile whose records are shown: real images named by whoever runs it
results: str = "results"  # folder of records, relative to the repository

# %% tags=["hide-input"]
given = check_parameters(globals(), profile=("subset",), results=str)
plt.rcParams.update({**sns.axes_style("whitegrid"), **figures.STYLE, "figure.constrained_layout.use": True})

found = [
    records.read_record(path)
    for path in sorted((results_folder(given.results) / "runs").glob(f"{given.profile}_*.json"))
]
if not found:
    display(
        Markdown(
            f"**There is no record of the subset profile in `{given.results}/runs` yet**, so nothing is shown below; "
            "the command at the end of this page makes one."
        )
    )

# %% [markdown]
# ## Settings
#
# Everything here is read from the record.


# %% tags=["hide-input"]
def duration(seconds):
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def settings(record):
    """A record's settings in words."""
    config, environment = record["config"], record["environment"]
    model, train, counts = config["model"], config["train"], record["data"]["counts"]
    code = environment["code"]
    commit = (code["commit"] or "unknown")[:12] + (" (with changes)" if code["dirty"] else "")
    per_step = record["train"]["seconds_per_step"]
    scan = run_config_from_dict(config).model.scan_text
    images = {
        f"images of {name}": f"{c['train']} to train, {c['test_good']} good and {c['test_defect']} defective to test"
        for name, c in counts.items()
    }
    weights, _, digest = config["encoder_weights"].partition("@")
    return {
        **images,
        "side of the input": f"{config['data']['side']} pixels",
        "encoder": model["backbone"],
        "encoder weights": weights,
        "their SHA-256": (record["encoder"]["sha256"] or digest)[:12],
        "decoder": f"depths {tuple(model['depths'])}, scan {scan}",
        "size": f"{record['efficiency']['params_m']:.1f} M parameters, {record['efficiency']['flops_g']:.2f} G FLOPs",
        "training": f"{record['train']['steps']} steps of {train['batch_size']} images",
        "optimiser": f"AdamW, learning rate {train['lr']:g}",
        "time per step": f"{per_step:.3f} s",
        "per image": f"{1000 * per_step / train['batch_size']:.1f} ms (training)",
        "all of it": f"{duration(record['wall_seconds'])}, with data and evaluation",
        "device": f"{environment['device']}, {environment['threads']} thread(s)",
        "PyTorch": environment["packages"]["torch"],
        "code": commit,
        "seed": str(record["seed"]),
        "record": f"{record['profile']}_{record['hash']}.json",
    }


if found:
    columns = {f"run {i}" if len(found) > 1 else "this run": settings(record) for i, record in enumerate(found, 1)}
    frame = pd.DataFrame(columns).rename_axis("setting").reset_index()
    display(plain(frame))

# %% [markdown]
# ## Training

# %% tags=["hide-input"]
if found:
    names = [", ".join(r["data"]["counts"]) + f" at {r['config']['data']['side']} px ({r['hash']})" for r in found]
    display(figures.loss_curves({name: r["train"]["loss"] for name, r in zip(names, found, strict=True)}))

# %% [markdown]
# ## Measured
#
# In percent, under both protocols: *exact*, and *paper*, the rules of the published metric code. *Printed* are the
# values of the paper's per-category tables for MambaAD: ResNet34, 256 pixels, 15 categories in one model, 500 epochs.


# %% tags=["hide-input"]
def measured(record):
    """Lines of category and protocol; a column per metric."""
    columns = [*SEVEN, "mad"]
    lines = []
    for name in [*record["metrics"]["exact"]["categories"], "mean"]:
        for protocol in ("exact", "paper"):
            part = record["metrics"][protocol]
            values = part["mean"] if name == "mean" else part["categories"][name]
            lines.append([name, f"ours, {protocol}", *(values[m] for m in columns)])
        printed = published[published["category"] == name].set_index("metric")["value"]
        if name != "mean" and record["data"]["dataset"] == "mvtec_ad" and len(printed):
            lines.append([name, "printed", *(printed[m] for m in SEVEN), printed[list(SEVEN)].mean()])
    return pd.DataFrame(lines, columns=["category", "protocol", *(METRIC_NAMES[m] for m in columns)])


if found:
    published = checks.per_category("neurips")
    published = published[(published["dataset"] == "mvtec") & (published["method"] == "MambaAD")]
    for name, record in zip(names, found, strict=True):
        display(Markdown(f"*{name}*"), plain(measured(record), 1))

# %% [markdown]
# In words, by the exact protocol. AU-ROC is the share of pairs (a good image or pixel, a defective one) that the
# network puts in the right order; guessing gives 50.

# %% tags=["hide-input"]
if found:
    sentences = []
    for record in found:
        for name, values in record["metrics"]["exact"]["categories"].items():
            image = values["image_auroc"]
            verdict = (
                "which is guessing or little more"
                if image < 60
                else "well above guessing, and far from reliable"
                if image < 90
                else "so good and defective images are told apart almost always"
            )
            sentences.append(
                f"- **{name}** ({record['config']['data']['side']} pixels): {image:.1f} of 100 pairs of images in the "
                f"right order, {verdict}; {values['pixel_auroc']:.1f} of 100 pairs of pixels. Averaged over thresholds "
                f"at which up to 30 % of the good pixels are marked, {values['pixel_aupro']:.0f} % of each defective "
                "region are marked (AU-PRO)."
            )
    display(Markdown("\n".join(sentences)))

# %% [markdown]
# A high pixel AU-ROC beside a much lower image AU-ROC is no contradiction. Most pixels are background, which is easy to
# rank below everything else; but the score of an image is its single largest value, and one odd spot on a good image
# is enough to spoil it. Screws lie at any angle, and their defects are a few pixels wide at this size.
#
# ## Do it yourself
#
# Get the data set from its authors, unpack some categories, and name an encoder file. The run itself:

# %% tags=["hide-input"]
EXAMPLE = {
    "data": {"categories": ["bottle", "screw"], "side": 128},
    "encoder_weights": "mobilenetv2_100.safetensors",
    "model": {
        "backbone": "mobilenetv2_100",
        "backbone_kwargs": {"pad_type": "same"},
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "depths": [2, 2, 2, 2],
    },
    "train": {"epochs": 40, "batch_size": 8, "lr": 1e-3, "warmup_steps": 20, "clip_norm": 10.0},
}


def command(config):
    """The command line of a run of the subset profile."""
    model, train = config["model"], config["train"]
    lines = [f"python -m mambaad reproduce --profile subset --tables {TABLE_6.name} --results my_results"]
    lines.append(f"--data-dir MVTEC_FOLDER --categories {' '.join(config['data']['categories'])}")
    if config["encoder_weights"] != "embedded":
        lines.append(f"--encoder-file {config['encoder_weights'].partition('@')[0]} --backbone {model['backbone']}")
        statistics = (" ".join(f"{v:g}" for v in model[name]) for name in ("mean", "std"))
        lines.append("--mean {} --std {}".format(*statistics))
    if "pad_type" in model["backbone_kwargs"]:
        lines[-1] += f" --pad-type {model['backbone_kwargs']['pad_type']}"
    lines.append(f"--side {config['data']['side']} --depths {' '.join(map(str, model['depths']))}")
    options = {"epochs": "epochs", "batch-size": "batch_size", "lr": "lr", "warmup-steps": "warmup_steps"}
    options |= {"clip-norm": "clip_norm"}
    lines.append(" ".join(f"--{option} {train[name]:g}" for option, name in options.items()))
    return " \\\n    ".join(lines)


for config in [record["config"] for record in found] or [EXAMPLE]:
    display(Markdown(f"```sh\n{command(config)}\n```"))

# %% [markdown]
# `--tables table_6_efficiency` takes the one run of the paper's main model; without it, every row of every table is
# trained on these images. The record lands in `my_results/runs`, and this page shows it with `-p results` and the
# full path of that folder ({doc}`../how_to_rerun`). Heat maps of single images: `mambaad predict`, see
# {doc}`../your_own_data`.
