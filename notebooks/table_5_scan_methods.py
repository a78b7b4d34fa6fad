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
# first *n* routes is an interpretation. The eight directions of hilbert and of scan are only six different paths
# ({doc}`02_hybrid_scan`), two of which are scanned twice, with parameters of their own.
#
# **How much can this table show?** Not much, and it is fair to say so first. The averages of rows 1 to 7 lie between
# 85.8 and 86.0, table 1 prints ±0.3 for the same model, and a rerun of MambaAD with five seeds
# {cite:p}`zhang2025wavemambaad` gave 85.4, 85.4, 85.6, 85.2 and 85.4, a standard deviation of 0.14. With deviations of
# 0.3, two runs of one network differ by up to 0.8 in 95 of 100 cases, with 0.14 by up to 0.4. Rows 1 to 7 differ by
# less than either. The hybrids are printed 0.3 to 1.1 lower than Hilbert in eight routes, one of them beyond the first
# bound and four beyond the second, without an explanation. The notebook makes no ranking of its own.

# %% tags=["remove-cell"]
from IPython.display import HTML

from mambaad.study import table_page, table_view
from mambaad.study.notebook import MODES, check_parameters, results_folder, table_from
from mambaad.study.profiles import PROFILES
from mambaad.study.tables_spec import TABLE_5

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
frame = table_from(TABLE_5, given)

# %% [markdown]
# ## Reported and measured

# %% tags=["remove-input"]
table_page.overview(TABLE_5, frame, results_folder(given.evidence))

# %% [markdown]
# ## What the measurements say

# %% tags=["remove-input"]
table_page.measured(TABLE_5, results_folder(given.evidence))

# %% [markdown]
# ## All reported metrics

# %% tags=["remove-input"]
table_page.printed(TABLE_5, given.profile, frame)

# %% tags=["remove-input"]
HTML(table_view.notes(TABLE_5, frame))

# %% [markdown]
# ## Synthetic check and rerun

# %% tags=["remove-input"]
table_page.reduced(TABLE_5, given.profile, frame)

# %% tags=["remove-input"]
table_page.again(TABLE_5)
