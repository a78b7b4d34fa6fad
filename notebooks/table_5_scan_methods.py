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
# # Table 5: scan methods
#
# **Question.** Does it matter in which order the scan visits the tokens of the feature map, and in how many
# directions?
#
# Rows 1 to 7 use one method: sweep, scan, zorder, zigzag or hilbert. Rows 8 to 12 are hybrids, which share out the
# eight directions among several methods. The published code has no hybrids; that a method with *n* directions uses its
# first *n* routes is an interpretation.
#
# **How much can this table show?** Not much, and it is fair to say so first. The averages of rows 1 to 7 lie between
# 85.8 and 86.0, table 1 prints ±0.3 for the same model, and a rerun of MambaAD with five seeds
# {cite:p}`zhang2025wavemambaad` gave 85.4, 85.4, 85.6, 85.2 and 85.4, a spread of about ±0.13. Differences below
# about 0.3 are no evidence for one method over another. That leaves the hybrids, most of which are printed 0.7 to 1.1
# lower, without an explanation. The notebook makes no ranking of its own.
#
# The page keeps three things apart: what the paper prints; what we measured on five real categories, with several seeds
# and intervals; and, folded, a run at reduced scale on synthetic images, which tests the pipeline and nothing else.

# %% tags=["hide-input"]
from IPython.display import Markdown

from mambaad.study import table_page, table_view
from mambaad.study.notebook import MODES, check_parameters, results_folder, table_from
from mambaad.study.profiles import PROFILES
from mambaad.study.tables_spec import TABLE_5

# %% tags=["parameters"]
profile: str = "quick"  # quick (synthetic images), subset (your images) or paper (the paper's data sets)
mode: str = "report"  # report: from the records as they are; run: make the missing runs first
results: str = "results"  # folder of records and tables, relative to the repository
evidence: str = "results/real_v1"  # folder of the records on real images
data_root: str = ""  # mode run: images of the subset, or folder with one folder per data set of the paper
encoder_file: str = ""  # mode run, profile subset: local encoder weights

# %% tags=["hide-input"]
given = check_parameters(
    globals(), profile=PROFILES, mode=MODES, results=str, evidence=str, data_root=str, encoder_file=str
)

# %% [markdown]
# ## In print

# %%
frame = table_from(TABLE_5, given)
table_page.printed(TABLE_5, given.profile, frame)

# %%
Markdown(table_view.notes(TABLE_5, frame))

# %% [markdown]
# ## Measured here, on real images

# %%
table_page.measured(TABLE_5, results_folder(given.evidence))

# %% [markdown]
# ## At reduced scale

# %%
table_page.reduced(TABLE_5, given.profile, frame)
