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
# # Table 7: designs of the LSS module
#
# **Question.** How should the LSS module be built: how many HSS blocks (M), which local convolutions, which kernels,
# with or without the skip connection?
#
# - *M 1*: one HSS block per module. *M 2, 3*: three where the stage's depth is divisible by three, else two, as in the
#   paper's main model. The number of HSS blocks in the whole decoder is the same; with M 1 there are more modules, and
#   so more local branches. In our runs every stage has depth 2, so there *M 2, 3* is two throughout.
# - *DW*: the depthwise convolution alone. *1×1-DW-1×1*: between two 1×1 convolutions, as in the main model.
# - *no skip*: the module's input is not added to its output.
#
# The printed averages put M 2, 3 between 0.8 and 4 points above M 1. Within the last six rows they lie between 85.2
# and 86.0, close to the spread of ±0.3 printed for the main model. One row stands out: M 1, DW {3,5} is printed 1.5
# *better* without the skip connection than with it, while {5,7} and {3,5,7} are worse.
#
# Table 7 names no data set; its best row equals the MVTec-AD result of table 1.

# %% tags=["remove-cell"]
from IPython.display import HTML

from mambaad.study import table_page, table_view
from mambaad.study.notebook import MODES, check_parameters, results_folder, table_from
from mambaad.study.profiles import PROFILES
from mambaad.study.tables_spec import TABLE_7

# %% tags=["parameters", "hide-cell"] mystnb={"code_prompt_show": "Parameters of this notebook"}
profile: str = "quick"  # quick (synthetic images), subset (your images) or paper (the paper's data sets)
mode: str = "report"  # report: from the records as they are; run: make the missing runs first
results: str = "results"  # folder of records and tables, relative to the repository
evidence: str = "results/real_v1"  # folder of the records on real images
data_root: str = ""  # mode run: images of the subset, or folder with one folder per data set of the paper
encoder_file: str = ""  # mode run, profile subset: local encoder weights

# %% tags=["remove-input"]
given = check_parameters(
    globals(), profile=PROFILES, mode=MODES, results=str, evidence=str, data_root=str, encoder_file=str
)
frame = table_from(TABLE_7, given)

# %% [markdown]
# ## Reported and measured

# %% tags=["remove-input"]
table_page.overview(TABLE_7, frame, results_folder(given.evidence))

# %% [markdown]
# ## What the measurements say

# %% tags=["remove-input"]
table_page.measured(TABLE_7, results_folder(given.evidence))

# %% [markdown]
# ## All reported metrics

# %% tags=["remove-input"]
table_page.printed(TABLE_7, given.profile, frame)

# %% tags=["remove-input"]
HTML(table_view.notes(TABLE_7, frame))

# %% [markdown]
# ## Synthetic check and rerun

# %% tags=["remove-input"]
table_page.reduced(TABLE_7, given.profile, frame)

# %% tags=["remove-input"]
table_page.again(TABLE_7)
