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
# # Evidence on real images
#
# Does the order of the scan matter? Do more routes help? Are both branches of the LSS module needed? The paper answers
# with one value per row. Here each row is trained with five seeds that all rows share, on photographs of five real
# products (bottle, screw, metal plate, glassfiber and circuit board, {doc}`../data`), and every difference comes with
# an interval. *n* is the number of seeds recorded.
#
# **What it can show.** The sign and size of differences between variants of MambaAD, at a scale that two CPU cores
# carry.
#
# **What it cannot show.** The paper's accuracies: images, encoder, size and length of training are others. Reported
# numbers therefore never stand in the same table here.
#
# Settings, statistics and the rule for verdicts were written down before the first run ({doc}`protocol
# <../protocols/real_v1>`). Every 95 % interval combines a bootstrap over seeds with one over test images, of which
# there are 200 resampled sets. Metrics are *exact* unless a line says *paper*. Values are computed from the records in
# `results/real_v1`; the main row's runs made again and the noise floor have folders of their own.

# %% tags=["remove-cell"]
import json

from IPython.display import HTML, Markdown, display

from mambaad.study import noise_floor, table_page
from mambaad.study.evidence import (
    coverage,
    curve_report,
    explorer,
    machines,
    photographs,
    protocol,
    report,
    sensitivity,
)
from mambaad.study.evidence.forest import forest, lines
from mambaad.study.notebook import check_parameters, results_folder
from mambaad.study.table_view import plain
from mambaad.study.tables_spec import TABLE_1

# %% tags=["parameters", "hide-cell"] mystnb={"code_prompt_show": "Parameters of this notebook"}
evidence: str = "results/real_v1"  # folder of the protocol's records, relative to the repository
noise: str = "results/noise_floor"  # folder of the records of scripts/noise_floor.py
again: str = "results/real_v1_again"  # folder of the main row's runs, made again
images: str = ""  # root of the real images; without it no photograph is shown
network: str = ""  # checkpoint of the main row, trained by the protocol

# %% tags=["remove-cell"]
given = check_parameters(globals(), evidence=str, noise=str, again=str, images=str, network=str)
folder = results_folder(given.evidence)
RECORDS = f"{table_page.FILES}/{protocol.NAME}/runs"

# %% [markdown]
# ## Progress
#
# The list is in the order planned, most informative first; runs of amendments were made in between. Each record names
# the commit of its code. A verdict needs at least three seeds.

# %% tags=["remove-input"]
display(
    plain(report.status(folder), 0, caption="Runs recorded and planned; a run that two groups share counts in both.")
)

# %% [markdown]
# ## Claims and verdicts
#
# The paper's comparisons as claims, and ours with a memory bank. *Difference* is the {term}`paired difference` in
# points of {term}`mAD`, averaged over seeds, first row minus second; *detectable* is the smallest true difference that
# would be found four times out of five. A difference that is not seen is not a proof of equality: the verdict names the
# size it stays below.

# %% tags=["remove-input"]
caption = "Every claim, the difference measured (first row minus second, points of mAD), and the verdict."
display(plain(report.claims(folder), caption=caption, stacked=True))
display(Markdown("\n".join(f"- {sentence}" for sentence in report.findings(folder))))
if simulated := coverage.stored(folder):
    display(Markdown(f"{coverage.sentence(simulated)} {report.adjusted(folder)}"))

# %% [markdown]
# ## Explore the comparisons
#
# Choose a group of rows and a metric. Each line is one row against the row that the paper proposes, or the nearest to
# it that was run.

# %% tags=["remove-input"]
if any(lines(name, reference, folder) for name, reference in protocol.REFERENCES.items()):
    display(explorer.explorer(folder, RECORDS))
else:
    display(Markdown("No two rows have a seed in common yet."))

# %% [markdown]
# ## Table by table
#
# The same plots, every row in all seven metrics and a link to each record stand beside the reported values on the pages
# of {doc}`table 2 <table_2_incremental>`, {doc}`3 <table_3_lss_branches>`, {doc}`4 <table_4_backbone_depth>`,
# {doc}`5 <table_5_scan_methods>` and {doc}`7 <table_7_lss_designs>`. Table 1 with the paper's smallest encoder:

# %% tags=["remove-input"]
if len(report.row_means(TABLE_1.name, folder)):
    display(table_page.measured_rows(TABLE_1.name, folder))
else:
    display(Markdown("No run of it is recorded yet."))

# %% [markdown]
# ## MambaAD and the other methods (tables 1 and 6)
#
# The same encoder, images, steps and seeds for all of a comparison: EfficientNet-Lite0 in the first ({doc}`amendment
# <../protocols/real_v1_methods>`), then ResNet18, and for three of them MobileNetV2 and V1 ({doc}`amendment
# <../protocols/real_v1_methods_resnet18>`). Equal steps are not equal chances: this says which method is best after a
# short training on a CPU. The memory bank is not trained at all.
#
# **SimpleNet did not train** with EfficientNet-Lite0 and hardly began to with ResNet18, and UniAD is near chance for
# whole images; {doc}`table_1_main_results` says why.

# %% tags=["remove-input"]
for group, encoder in protocol.COMPARISONS.items():
    if found := lines(group, protocol.REFERENCES[group], folder):
        display(Markdown(f"With {encoder}:"), forest(found, protocol.REFERENCES[group], RECORDS))
    else:
        display(Markdown(f"With {encoder} no other method shares a recorded seed with MambaAD yet."))

# %% [markdown]
# ## Category by category
#
# The main row, Hilbert in eight routes: mean over seeds, and the range of the seeds. Image AU-ROC is the share of
# pairs (a good image, a defective one) in the right order; guessing gives 50. The masks of pcb are the annotated
# bounding boxes, so its pixel values reward boxes; glassfiber is a series of nearly equal frames, whose image score
# says little.

# %% tags=["remove-input"]
main = protocol.base_row()
table = report.categories(main, folder)
if len(table):
    display(plain(table, caption="The main row by category, %: mean over seeds (lowest to highest seed)."))
else:
    display(Markdown("The main row is not recorded yet."))

# %% [markdown]
# ## Longer training, other sizes, and the best step
#
# The runs above have 600 steps and report their last one. Here are runs that were measured every 250 steps
# ({doc}`amendment <../protocols/real_v1_curves>`): four times as long, also for MambaAD and RD4AD with ResNet18; other
# sizes, and the depths of the paper's own network. *n* is the number of seeds; one is only a rough indication. *Best
# minus last* is what choosing the best step on the test images would add; no result of this book is chosen in that way.

# %% tags=["remove-input"]
drawing = curve_report.figure(folder)
if drawing is None:
    display(Markdown("No such run is recorded yet."))
else:
    display(drawing)
    display(
        plain(
            curve_report.table(folder), caption="mAD of the last step, and of the best one on the test images, in %."
        ),
        Markdown(curve_report.longer(folder)),
        Markdown(curve_report.distance(folder)),
    )

# %% [markdown]
# ## Photographs, failures first
#
# Which images stand here is decided by a rule and not by eye: in four categories (glassfiber states no licence) the
# defects with the lowest, the median and the highest score, and the good parts with the highest and the median. White
# outline: the annotated defect. The scale of colours is one for each category, from the median score of its good parts.

# %% tags=["remove-input"]
if given.images and given.network:
    for figure in photographs.figures(results_folder(given.images), results_folder(given.network)).values():
        display(HTML(figure))
else:
    display(
        Markdown(
            "This copy of the book was built without the images, which are not part of the project. "
            "`make book IMAGES=folder` shows them; `mambaad data where real_v1` says where they come from."
        )
    )

# %% [markdown]
# ## Sensitivity to post-processing
#
# The same trained networks of the main row, with other post-processing: nothing is trained again. Shifts are in points
# against the published one (Gaussian of 4 pixels, maximum of the map, three scales, float32); the column *seeds* gives
# the range of mAD over seeds. The last line changes the metrics' rules instead: protocol *paper* against *exact*. Two
# studies with different post-processing cannot be compared more finely than this. Only the main row was read in these
# ways: what a difference between two rows does under another post-processing was not measured.

# %% tags=["remove-input"]
stored = folder / sensitivity.FILE
if stored.is_file():
    shifts = report.sensitivities(json.loads(stored.read_text(encoding="utf-8")))
    display(plain(shifts, caption="Shifts against the published post-processing, in points, mean over seeds."))
else:
    display(Markdown("Not measured yet: `mambaad evidence --sensitivity`."))

# %% [markdown]
# ## Noise floor
#
# How far does mAD move when nothing that matters is changed? The main run of the quick profile (synthetic images, 64
# pixels, 120 steps), with one thing varied at a time; exact metrics, percent. Rounding is enough: with another number
# of threads sums are added up in another order, and a short training amplifies the last digit.
#
# It happened to this book. One run, 560b9efa3ae0, stood in the committed tables (protocol *paper*) with 78.2 (commit
# 11c4ea7), 77.3 (703ec72) and 77.6 (57d0661), though its settings and seed never changed: the code around it computed
# the same sums in another order. With two threads in place of one it once gave 78.6 in place of 77.3; that pair was not
# kept. Since then every committed run names its threads and is made with one, and no row of the quick profile is called
# better than another.

# %% tags=["remove-input"]
floor = noise_floor.table(results_folder(given.noise))
if len(floor):
    display(plain(floor, 1, caption="mAD of the quick profile's main run, one thing varied at a time, points."))
else:
    display(Markdown("Not measured yet: `python scripts/noise_floor.py`."))
display(Markdown(machines.sentences(folder, results_folder(given.again))))
moved = machines.against_again(folder, results_folder(given.again))
if len(moved):
    caption = "Rows that never met the main row's processor, points of mAD: against its runs, and those made again."
    display(plain(moved, 0, caption=caption, stacked=True))

# %% [markdown]
# ## Rerun it
#
# With the images in place (`mambaad data where real_v1` says where they come from), the whole queue is one command.
# It resumes where it was interrupted, and a finished record is never made twice:
#
# ```sh
# make evidence DATA=folder WEIGHTS=folder
# ```
#
# `WEIGHTS` holds ResNet18, MobileNetV1 and V2, under the names that `mambaad evidence` asks for; without it their runs
# are left out.
#
# A single run: `mambaad evidence --data folder --run HASH --results build/again`, with a hash that
# `mambaad evidence --list` prints. It ends by saying whether its mAD lies in the range that the recorded seeds predict
# for one more run. On the same machine and with the same versions the digits come out the same.
