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
# The text says that depth [3,4,6,3] costs slightly more than [2,9,2,2] and is consistently better. In the printed
# table [2,9,2,2] has *more* parameters and fewer FLOPs, and is slightly higher in pixel AP and AU-PRO. WideResNet50
# has the highest average.
#
# The columns *paper* hold the printed value. *Ours* is measured by the rules of the published metric code, so that the
# two can be compared; the file `results/tables/table_4_backbone_depth.csv` holds the exact metrics beside it
# (`ours_exact`) and the hash of the run behind every number. A *difference* is given only where both are about the
# same images. Parameters and FLOPs are computed for every row, whatever the profile. Two printed parameter counts seem
# to be rounded to a whole number: ResNet50 is printed as 251.0 and has 251.4 million, WideResNet50 is printed as 268.0
# and has 267.7.
#
# The quick profile downloads no weights, so the ResNet rows show their counts alone. In their place the embedded
# encoder is trained with the three depths; these rows are not in the paper. For ResNet18, ResNet50 and WideResNet50
# neither the paper nor its code says which ImageNet weights were used; the profile *paper* takes timm's `tv_in1k`.

# %% tags=["hide-input"]
from IPython.display import Markdown

from mambaad.study import figures, table_view
from mambaad.study.notebook import MODES, check_parameters, table_from
from mambaad.study.profiles import PROFILES
from mambaad.study.tables_spec import TABLE_4

# %% tags=["parameters"]
profile: str = "quick"  # quick (synthetic images), subset (your images) or paper (the paper's data sets)
mode: str = "report"  # report: from the records as they are; run: make the missing runs first
results: str = "results"  # folder of records and tables, relative to the repository
data_root: str = ""  # mode run: images of the subset, or folder with one folder per data set of the paper
encoder_file: str = ""  # mode run, profile subset: local encoder weights

# %% tags=["hide-input"]
given = check_parameters(globals(), profile=PROFILES, mode=MODES, results=str, data_root=str, encoder_file=str)

# %%
frame = table_from(TABLE_4, given)
table_view.styled(TABLE_4, given.profile, frame)

# %%
Markdown(table_view.notes(TABLE_4, frame))

# %%
figures.dots(table_view.with_names(TABLE_4, frame))
