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
# The columns *paper* hold the printed value. *Ours* is measured by the rules of the published metric code, so that the
# two can be compared; the file `results/tables/table_5_scan_methods.csv` holds the exact metrics beside it
# (`ours_exact`) and the hash of the run behind every number. A *difference* is given only where both are about the
# same images.

# %% tags=["hide-input"]
from IPython.display import Markdown

from mambaad.study import figures, table_view
from mambaad.study.notebook import MODES, check_parameters, table_from
from mambaad.study.profiles import PROFILES
from mambaad.study.tables_spec import TABLE_5

# %% tags=["parameters"]
profile: str = "quick"  # quick (synthetic images), subset (your images) or paper (the paper's data sets)
mode: str = "report"  # report: from the records as they are; run: make the missing runs first
results: str = "results"  # folder of records and tables, relative to the repository
data_root: str = ""  # mode run: images of the subset, or folder with one folder per data set of the paper
encoder_file: str = ""  # mode run, profile subset: local encoder weights

# %% tags=["hide-input"]
given = check_parameters(globals(), profile=PROFILES, mode=MODES, results=str, data_root=str, encoder_file=str)

# %%
frame = table_from(TABLE_5, given)
table_view.styled(TABLE_5, given.profile, frame)

# %%
Markdown(table_view.notes(TABLE_5, frame))

# %% [markdown]
# The grey band in the left panel is 0.3 wide on both sides of the highest printed average.

# %%
figures.dots(table_view.with_names(TABLE_5, frame), spread=0.3)
