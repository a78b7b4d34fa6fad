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
# # The published numbers, checked against themselves
#
# A reproduction compares its numbers with printed ones, so it should know which of those are safe to compare with.
# This notebook recomputes every inconsistency listed in `results/paper/README.md` from the CSV files beside that list.
# It needs no training and no images.
#
# Several items are slips of copying that anyone can make in tables of this size, and the NeurIPS version repairs some
# of them. None changes the ranking of MambaAD's mean on MVTec-AD. Where a conclusion is an inference, it says so.
#
# The per-category tables exist in two printings: *images*, pictures in the authors' repository, and *neurips*, the
# text of the NeurIPS paper.

# %% tags=["remove-cell"]
from IPython.display import display

from mambaad.study import figures, page_figures, published_numbers
from mambaad.study.audit import checks, claims
from mambaad.study.notebook import check_parameters, published_folder
from mambaad.study.table_view import plain

# %% tags=["parameters", "hide-cell"] mystnb={"code_prompt_show": "Parameters of this notebook"}
paper: str = "results/paper"  # folder of the published numbers, relative to the repository

# %% tags=["remove-cell"]
given = check_parameters(globals(), paper=str)
root = published_folder(given.paper)
images = checks.per_category("images", root)
neurips = checks.per_category("neurips", root)

# %% [markdown]
# ## Between tables
#
# **1.** Table 6 gives DeSTSeg the mAD of SimpleNet and the other way round. The seven metrics of table 1 settle it.

# %% tags=["remove-input"]
plain(
    checks.mad_of_table_6(root),
    caption="mAD of the six methods on MVTec-AD: table 6, table 1, and the mean of the seven metrics, %.",
)

# %% [markdown]
# **2.** MambaAD's mAD on VisA is 78.7 in table 1, which its seven metrics confirm, and 78.9 in tables 2 and 3.

# %% tags=["remove-input"]
plain(checks.mambaad_visa(root), caption="mAD of MambaAD on VisA, as different tables print it, %.")

# %% [markdown]
# **3.** UniAD on VisA: the row of table 1 is not the printed mean of the appendix, in any of the seven metrics. All
# other means of table 1 agree with the appendix.

# %% tags=["remove-input"]
plain(
    checks.main_against_appendix("neurips", root),
    1,
    caption="Table 1 against the printed means of the appendix, where they differ, %.",
)

# %% [markdown]
# **4.** Row 1 of table 2 (a plain Mamba decoder with two directions) and *global* of table 3 (eight directions) are
# different networks with the same printed accuracy on both data sets.

# %% tags=["remove-input"]
plain(checks.tables_2_and_3(root), 1, caption='Row 1 of table 2 and "global" of table 3, mAD in %.')

# %% [markdown]
# ## Printed means against their own rows
#
# Rounding can move the difference between a printed mean and the mean of its printed rows by at most 0.1. These differ
# by more:

# %% tags=["remove-input"]
differences = checks.mean_differences(images)
plain(
    checks.mean_differences(images, more_than=0.1),
    caption="Printed means against the means of their rows, pictures, %.",
)

# %% tags=["remove-input"]
beyond = int((differences["difference"].abs() > 0.1 + 1e-9).sum())
page_figures.plot(
    figures.mean_differences(differences),
    caption="Printed mean minus mean of the printed rows, one dot per data set, method and metric; the grey band is "
    "what rounding allows.",
    alt=f"Dot plot: {len(differences)} differences on six data sets, {beyond} of them outside the band of ±0.1.",
)

# %% [markdown]
# **5, 6, 7.** Behind all but one of these are cells that the NeurIPS text prints differently: four lost their first
# digit (35.4 became 5.4), in two categories of MVTec-AD RD4AD has the values of UniAD, and UniAD has others, and
# *liver* gives UniAD those of RD4AD. With the NeurIPS cells in place one difference beyond rounding is left, **8**,
# DiAD's AU-PRO on Uni-Medical:

# %% tags=["remove-input"]
plain(checks.mean_differences(neurips, more_than=0.1), caption="The same, NeurIPS text, %.")

# %% [markdown]
# **9.** The single-class tables have one, UniAD's image AP on MVTec-AD:

# %% tags=["remove-input"]
plain(
    checks.mean_differences(published_numbers.load("single_class", root), more_than=0.1),
    caption="The same, single-class tables, %.",
)

# %% [markdown]
# ## Values that do not fit together
#
# **10.** F1max limits the average precision: if no point of a precision-recall curve has an F1 above $F$, precision at
# recall $R$ is at most $F R / (2R - F)$, and never above 1. With $a = F / (2 - F)$ the area below that is
#
# $$ a + F\left(\frac{1-a}{2} + \frac{F}{4} \ln\frac{2-F}{2a-F}\right). $$
#
# Seven printed pairs lie above it even with rounding in their favour. For DiAD on COCO-AD and on *liver* the columns
# AP and F1max look exchanged (an inference). If they are, MambaAD and not DiAD has the best pixel AP on COCO-AD. For
# DeSTSeg, F1max is too low, as a coarse grid of thresholds would make it.

# %% tags=["remove-input"]
above = checks.ap_above_limit(neurips)
plain(above, 1, caption="Pixel AP beyond what the printed F1max allows, %.")

# %% tags=["remove-input"]
page_figures.plot(
    figures.ap_against_f1max(neurips, above),
    caption="Pixel AP over pixel F1max, one dot per category and method; the line is the largest AP for an F1max.",
    alt=f"Scatter plot: nearly all dots lie below the line; {len(above)} lie above it, those of the table.",
)

# %% [markdown]
# The pictures have an eighth, VisA *capsules* of DeSTSeg, whose F1max lost its first digit (item 5).
#
# **11.** On one test set with a share $p$ of anomalous images, F1max is at least $2p/(1+p)$, whatever the method. So
# each printed F1max is also an upper limit for $p$: $p \le F/(2-F)$. On Real-IAD, DiAD's image F1max lies far below
# that of every other method in seven categories, also below SimpleNet's, whose ranking is close to chance there. This
# suggests that DiAD was counted on other images, or that its F1max is not the maximum over all thresholds (inferences).

# %% tags=["remove-input"]
plain(
    checks.f1max_below_others("realiad", "DiAD", at_least=5, root=root),
    1,
    caption="Image F1max on Real-IAD: DiAD against the other methods, %.",
)

# %% [markdown]
# Where $p$ is published, some printed values lie below $2p/(1+p)$, which calling every image anomalous would reach:

# %% tags=["remove-input"]
plain(
    checks.f1max_below_one_verdict(neurips),
    1,
    caption="Image F1max, and that of calling every image anomalous, %.",
)

# %% [markdown]
# **12.** MVTec-AD, image level: the numbers of anomalous and normal test images are known, so that a printed AU-ROC
# leaves only a range for AP and F1max, whatever the ranking. Eleven categories of DiAD and seven of UniAD lie outside
# it, with all three values rounded in their favour; of the other four methods none does, nor any in the single-class
# tables. This suggests that AP and F1max of these two come from another evaluation than their AU-ROC (an inference).

# %% tags=["remove-input"]
plain(
    checks.mvtec_image_level(neurips),
    1,
    caption="MVTec-AD, image level: printed values, and what the printed AU-ROC leaves possible, %.",
)

# %% [markdown]
# ## Text against tables
#
# **13.** Section 4.2 gives MambaAD's image F1max on MVTec-AD as 97.6; all tables have 97.8, which also fits the quoted
# gain of 1.3 over DiAD.

# %% tags=["remove-input"]
plain(claims.quoted_f1max(root), 1, caption="Image F1max of MambaAD on MVTec-AD, text and tables, %.")

# %% [markdown]
# **14.** Gains between the rows of table 3, in the text and in the table:

# %% tags=["remove-input"]
plain(claims.branch_gains(root), 1, caption="Gains in mAD, text and table 3, points.")

# %% [markdown]
# **15.** Depth [3,4,6,3] is said to have slightly more parameters than [2,9,2,2] and to be consistently better. It has
# fewer (and more FLOPs), and a slightly lower pixel AP and AU-PRO; its average is higher. WideResNet50's average is
# higher still.

# %% tags=["remove-input"]
plain(claims.depth_claim(root), 1, caption="Depths and encoders of table 4 that the text compares.")

# %% [markdown]
# **16.** "State of the art on six data sets with seven metrics": MambaAD has the best printed value alone in 31 of the
# 42 cells. The others:

# %% tags=["remove-input"]
plain(checks.best_methods(root), 1, caption="Cells in which MambaAD is not alone at the top, %.")

# %% [markdown]
# **17.** The single-method rows of table 5 differ from hilbert with eight directions by less than the spread of 0.3
# that table 1 prints for that model, and hilbert-8 is best neither in pixel AP nor in AU-PRO.

# %% tags=["remove-input"]
plain(claims.scan_spread(root), caption="Rows of table 5 against hilbert 8, mAD in %.")

# %% [markdown]
# **18.** Typography, without effect on values: in the pictures, RD4AD's 60.4 for pixel F1max on *carpet* is bold and
# MambaAD's 63.3 underlined. Captions of A6, A7 and A10 name the wrong task; that cannot be recomputed from numbers.
#
# ## Summary

# %% tags=["remove-input"]
summary = claims.findings(root)
display(plain(summary, caption="The list of results/paper/README.md, and what the files say.", stacked=True))
print(f"{(summary['found'] == 'found').sum()} of {len(summary)} inconsistencies found in the files")
