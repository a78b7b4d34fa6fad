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
# # Table 6: efficiency
#
# **Question.** What does each method cost for its accuracy?
#
# Parameters and FLOPs of every method are computed here from the networks themselves.
# The counts of UniAD and SimpleNet include encoder layers that the published
# code builds and never runs (13.1 and 44.0 million parameters). FLOPs are multiply-accumulates of one 256×256 image
# through the whole network, encoder included, without the scan's recurrence, which the usual counters do not see. It
# takes a few operations for each of K directions, D channels and N states per token, and in plain PyTorch it is what
# takes the time.
#
# The parameters include 0.039 million integers, the tables of the scan orders, which the published code stores as
# parameters.
#
# The mAD of DeSTSeg and SimpleNet is swapped in this table: table 1, and the mean of its seven metrics, give 77.1
# for DeSTSeg and 81.2 for SimpleNet.
#
# Parameters and FLOPs need no images, so ours stand beside the printed ones.

# %% tags=["remove-cell"]
from IPython.display import HTML, Markdown

from mambaad.efficiency import count_method
from mambaad.study import figures, method_costs, page_figures, table_page, table_view
from mambaad.study.notebook import MODES, check_parameters, results_folder, table_from
from mambaad.study.profiles import PROFILES
from mambaad.study.tables_spec import TABLE_6

# %% tags=["parameters", "hide-cell"] mystnb={"code_prompt_show": "Parameters of this notebook"}
profile: str = "quick"  # quick (synthetic images), subset (your images) or paper (the paper's data sets)
mode: str = "report"  # report: from the records as they are; run: make the missing runs first
results: str = "results"  # folder of records and tables, relative to the repository
benchmarks: str = "results/benchmarks"  # folder of the benchmark records
data_root: str = ""  # mode run: images of the subset, or folder with one folder per data set of the paper
encoder_file: str = ""  # mode run, profile subset: local encoder weights

# %% tags=["remove-input"]
given = check_parameters(
    globals(), profile=PROFILES, mode=MODES, results=str, benchmarks=str, data_root=str, encoder_file=str
)
frame = table_from(TABLE_6, given)

# %% [markdown]
# ## Reported and computed

# %% tags=["remove-input"]
table_page.printed(TABLE_6, given.profile, frame, ("mad", "params_m", "flops_g"))

# %% tags=["remove-input"]
HTML(table_view.notes(TABLE_6, frame))

# %% tags=["remove-input"]
page_figures.plot(
    figures.efficiency(frame),
    caption="mAD on MVTec-AD over FLOPs, both as printed; the area of a dot is proportional to the number of "
    "parameters. Table 6 exchanges two values of mAD: dots are filled where table 1 has them, else hollow.",
    alt="Scatter plot of the six methods of table 6: " + figures.efficiency_in_words(frame),
)

# %% [markdown]
# ## DeSTSeg, printed three times too high
#
# The cell holds four times one image's count (a batch of four, or 512×512 pixels), without the convolution that fuses
# the branches of its pyramid:

# %% tags=["remove-input"]
destseg = count_method("destseg")
fusion = destseg.boxes["segmentation"]["fusion_flops_g"]
printed = frame.query("method == 'DeSTSeg' and metric == 'flops_g'")["paper"].item()
Markdown(
    f"({destseg.flops_g:.2f} − {fusion:.2f}) · 4 = {4 * (destseg.flops_g - fusion):.1f}, printed {printed}; what is "
    "left is the upsampling, which the usual counter takes into account and we do not. Of ours, "
    f"{destseg.repeated_flops_g:.2f} are the teacher's second pass, which the published code makes in inference too."
)

# %% [markdown]
# ## DiAD, part by part
#
# DiAD's denoiser and guide run once in each of ten sampling steps, between one encoding and one decoding of a latent; a
# frozen ResNet50 then compares image and reconstruction. The printed parameters are those of denoiser and guide, cut
# off after the first decimal. The text encoder, whose output for an empty prompt is a constant, is counted nowhere. The
# printed 451.5 G is the sum of no choice of parts; nearest to it is the autoencoder alone, encoding and decoding once.
# So the two printed numbers seem to belong to different parts of the method (an inference).

# %% tags=["remove-input"]
table_page.parts("diad")

# %% [markdown]
# ## Measured on a machine
#
# Counts are not run times. All methods side by side with their published encoders, DiAD reduced: one image, batches,
# memory for the network and one image, and a training step with its optimiser. A training in two phases counts with the
# shares of its phases; the memory bank has no steps.

# %% tags=["remove-input"]
method_costs.costs(results_folder(given.benchmarks))

# %% [markdown]
# ## Rerun this page

# %% tags=["remove-input"]
table_page.again(TABLE_6)
