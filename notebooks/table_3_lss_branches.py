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
# # Table 3: the branches of the LSS module
#
# **Question.** An LSS module has a global branch (HSS blocks, the scan) and two local branches (5×5 and 7×7 depthwise
# convolutions). What does each contribute, and at what cost?
#
# - *local*: convolutions only, no scan anywhere in the decoder
# - *global*: HSS blocks only, no convolution branches and no merging convolution
# - *local + global*: the paper's module
#
# Printed, the global branch alone is 0.4 above the local ones, about as much as one training differs from the next,
# and both together are 3.9 (MVTec-AD) and 6.0 (VisA) better. The text names other gains, +2.7 and +1.6, which the
# table does not give.
#
# Parameters and FLOPs are computed for the paper's network (ResNet34, 256×256) in every profile, by the convention that
# gives the printed digits: multiply-accumulates, without the recurrence of the scan itself.

# %% tags=["remove-cell"]
from IPython.display import HTML

from mambaad.study import table_page, table_view
from mambaad.study.notebook import MODES, check_parameters, results_folder, table_from
from mambaad.study.profiles import PROFILES
from mambaad.study.tables_spec import TABLE_3

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
frame = table_from(TABLE_3, given)

# %% [markdown]
# ## Reported and measured

# %% tags=["remove-input"]
table_page.overview(TABLE_3, frame, results_folder(given.evidence))

# %% [markdown]
# ## What the measurements say

# %% tags=["remove-input"]
table_page.measured(TABLE_3, results_folder(given.evidence))

# %% [markdown]
# ## All reported metrics

# %% tags=["remove-input"]
table_page.printed(TABLE_3, given.profile, frame)

# %% tags=["remove-input"]
HTML(table_view.notes(TABLE_3, frame))

# %% [markdown]
# ## Synthetic check and rerun

# %% tags=["remove-input"]
table_page.reduced(TABLE_3, given.profile, frame)

# %% tags=["remove-input"]
table_page.again(TABLE_3)
