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
# Does the order of the scan matter? Do more routes help? Are both branches of the LSS module needed? The paper
# answers with one run per row. Here every row is trained five times, on photographs of five real products, with seeds
# that all rows share, and every difference comes with an interval.
#
# **What it can show.** The sign and size of differences between variants of MambaAD, at a scale that two CPU cores
# carry.
#
# **What it cannot show.** The paper's accuracies: images, encoder, size and length of training are others. Printed
# numbers therefore never stand in the same table here.
#
# Settings, statistics and the rule for verdicts were written down before the first run
# (`results/protocols/real_v1.md`). Every value below is computed from the records in `results/real_v1/runs`.

# %% tags=["hide-input"]
import json

from IPython.display import Markdown, display

from mambaad.study import table_page
from mambaad.study.evidence import protocol, report, sensitivity
from mambaad.study.notebook import check_parameters, results_folder
from mambaad.study.table_view import plain
from mambaad.study.tables_spec import TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_7

# %% tags=["parameters"]
evidence: str = "results/real_v1"  # folder of the protocol's records, relative to the repository

# %% tags=["hide-input"]
given = check_parameters(globals(), evidence=str)
folder = results_folder(given.evidence)

# %% [markdown]
# ## How far the runs are
#
# Runs are made in the order of this list, most informative first, and recorded as they end. A verdict needs at least
# three seeds.

# %% tags=["hide-input"]
display(plain(report.status(folder), 0))

# %% [markdown]
# ## What holds
#
# The paper's comparisons as claims. *Difference* is in points of mAD, averaged over paired seeds, on five categories;
# *detectable* is the smallest true difference that so many seeds would find four times out of five. A difference that
# is not seen is not a proof of equality: the verdict names the size it stays below.

# %% tags=["hide-input"]
display(plain(report.claims(folder)))
display(Markdown("\n".join(f"- {sentence}" for sentence in report.findings(folder))))

# %% [markdown]
# Intervals are not adjusted for the number of claims: with some thirty of them, one or two would miss zero by chance.
#
# ## Scan orders and routes (table 5)
#
# The paper's choice, the Hilbert curve in eight routes, against the other eleven rows. Dots left of zero are worse
# than the Hilbert curve. In print the whole column spans 1.5 points of mAD on MVTec-AD.

# %% tags=["hide-input"]
GROUP = TABLE_5.name
if len(report.row_means(GROUP, folder)):
    display(table_page.forest(report.differences(GROUP, "hilbert 8", folder), "hilbert 8"))
    display(plain(report.row_means(GROUP, folder)))
else:
    display(Markdown("No run of this group is recorded yet."))

# %% [markdown]
# ## One part after the other, and the two branches (tables 2 and 3)

# %% tags=["hide-input"]
for GROUP, reference in ((TABLE_2.name, "Mamba decoder"), (TABLE_3.name, "global")):
    means = report.row_means(GROUP, folder)
    if len(means) > 1:
        found = report.differences(GROUP, reference, folder)
        display(Markdown(f"*{report.TITLES[GROUP]}*"), table_page.forest(found, reference), plain(means))
    else:
        display(Markdown(f"*{report.TITLES[GROUP]}*: fewer than two rows are recorded yet."))

# %% [markdown]
# ## Encoder, depth, and designs of the LSS module (tables 1, 4 and 7)

# %% tags=["hide-input"]
for GROUP in (TABLE_1.name, TABLE_4.name, TABLE_7.name):
    means = report.row_means(GROUP, folder)
    if len(means):
        display(Markdown(f"*{report.TITLES[GROUP]}*"), plain(means))
    else:
        display(Markdown(f"*{report.TITLES[GROUP]}*: no run is recorded yet."))

# %% [markdown]
# ## MambaAD and the other methods (tables 1 and 6)
#
# The same encoder, images, steps and seeds for all (`results/protocols/real_v1_methods.md`). Equal steps are not equal
# chances: this says which method is best after a short training on a CPU. The memory bank is not trained at all.
#
# **SimpleNet did not train**: its loss stays at 1.00, that of a discriminator that tells nothing apart. Its published
# noise is absolute and seems too weak for this encoder's features. Its row is a failed training, not a comparison.

# %% tags=["hide-input"]
means = report.row_means(protocol.METHODS, folder)
if len(means) > 1:
    display(table_page.forest(report.differences(protocol.METHODS, "MambaAD", folder), "MambaAD"), plain(means))
else:
    display(Markdown("The other methods are not recorded yet."))

# %% [markdown]
# ## Category by category
#
# The main row, Hilbert in eight routes: mean over seeds, and the range of the seeds. Image AU-ROC is the share of
# pairs (a good image, a defective one) in the right order; guessing gives 50. The masks of pcb are the annotated
# bounding boxes, so its pixel values reward boxes; glassfiber is a series of nearly equal frames, whose image score
# says little.

# %% tags=["hide-input"]
main = next(row for row in protocol.rows(TABLE_5.name) if row.name == "hilbert 8")
table = report.categories(main, folder)
display(plain(table) if len(table) else Markdown("The main row is not recorded yet."))

# %% [markdown]
# ## How much the reading matters
#
# The same trained networks of the main row, read in other ways: nothing is trained again. Shifts are in points against
# the published reading (Gaussian of 4 pixels, maximum of the map, three scales, float32); for mAD the range over seeds
# stands behind. The last line changes the metrics' rules instead: protocol *paper* against *exact*. A difference
# between two networks that is smaller than these shifts depends on how the map is read.

# %% tags=["hide-input"]
stored = folder / sensitivity.FILE
if stored.is_file():
    display(plain(report.sensitivities(json.loads(stored.read_text(encoding="utf-8")))))
else:
    display(Markdown("Not measured yet: `mambaad evidence --sensitivity`."))

# %% [markdown]
# ## Rerun it
#
# With the images in place (`mambaad data where real_v1` says where they come from), the whole queue is one command.
# It resumes where it was interrupted, and a finished record is never made twice:
#
# ```sh
# make evidence DATA=folder WEIGHTS=folder_of_resnet18
# ```
#
# A single run: `mambaad evidence --data folder --run HASH`, with a hash that `mambaad evidence --list` prints. On the
# same machine and with the same versions the digits come out the same; elsewhere, expect the spread of the seeds.
