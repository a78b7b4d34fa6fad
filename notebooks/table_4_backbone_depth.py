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
# # Table 4: encoder and depth
#
# **Question.** How much do the frozen encoder and the number of HSS blocks per decoder stage matter?
#
# Fusion and decoder follow the encoder's widths. ResNet50 and WideResNet50 have four times the channels of ResNet34,
# so their decoders are four times as wide and the whole network about ten times as large.
#
# The text says that depth [3,4,6,3] has slightly more parameters than [2,9,2,2] and is consistently better. In the
# printed table [2,9,2,2] has *more* parameters and fewer FLOPs, and is slightly higher in pixel AP and AU-PRO.
# WideResNet50 has the highest average.
#
# Parameters and FLOPs are computed for every row, whatever the profile. Two printed parameter counts seem to be rounded
# to a whole number: ResNet50 is printed as 251.0 and has 251.4 million, WideResNet50 is printed as 268.0 and has 267.7.
#
# The quick profile downloads no weights, so the ResNet rows show their counts alone. In their place the embedded
# encoder is trained with the three depths; these rows are not in the paper. For ResNet18, ResNet50 and WideResNet50
# neither the paper nor its code says which ImageNet weights were used; the profile *paper* takes timm's `tv_in1k`.

# %% tags=["remove-cell"]
from IPython.display import HTML, Markdown, display

from mambaad.study import table_page, table_view
from mambaad.study.evidence import report
from mambaad.study.notebook import MODES, check_parameters, results_folder, table_from
from mambaad.study.profiles import PROFILES
from mambaad.study.tables_spec import TABLE_4

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
frame = table_from(TABLE_4, given)

# %% [markdown]
# ## Reported and measured

# %% tags=["remove-input"]
table_page.overview(TABLE_4, frame, results_folder(given.evidence))

# %% [markdown]
# ## What the measurements say
#
# Rows are compared within an encoder only: two rows should differ in one thing. The MobileNets have a single depth, so
# they are compared with nothing here; {doc}`table_1_main_results` sets them against other methods.

# %% tags=["remove-input"]
table_page.measured(TABLE_4, results_folder(given.evidence))
display(Markdown(report.depth_outside_the_paper(results_folder(given.evidence))))

# %% [markdown]
# ## All reported metrics

# %% tags=["remove-input"]
table_page.printed(TABLE_4, given.profile, frame)

# %% tags=["remove-input"]
HTML(table_view.notes(TABLE_4, frame))

# %% [markdown]
# ## Synthetic check and rerun

# %% tags=["remove-input"]
table_page.reduced(TABLE_4, given.profile, frame)

# %% tags=["remove-input"]
table_page.again(TABLE_4)
