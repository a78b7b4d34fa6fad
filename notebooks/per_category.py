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
# # Category by category
#
# A mean over categories hides which defects are found and which are not. Here are the paper's appendix tables A1 to A16
# as the NeurIPS text prints them, to search and sort, and ours for the five real categories. Doubtful cells stand as
# printed; {doc}`audit_published_numbers` lists them, and what an earlier printing had.

# %% tags=["remove-cell"]
from IPython.display import Markdown, display

from mambaad.study import per_category_page
from mambaad.study.notebook import check_parameters, published_folder, results_folder

# %% tags=["parameters", "hide-cell"] mystnb={"code_prompt_show": "Parameters of this notebook"}
paper: str = "results/paper"  # folder of the published numbers, relative to the repository
evidence: str = "results/real_v1"  # folder of the records on real images

# %% tags=["remove-cell"]
given = check_parameters(globals(), paper=str, evidence=str)
root = published_folder(given.paper)

# %% [markdown]
# ## Where every method fails, as reported
#
# Pixel AP is the metric that forgives least: it falls when good pixels rank above defective ones. In these categories
# no reported method reaches 20 %.

# %% tags=["remove-input"]
per_category_page.hardest(root=root)

# %% [markdown]
# ## Ours, on real images
#
# All methods with EfficientNet-Lite0, the same images and as many steps (the memory bank is not trained);
# {doc}`evidence` says what these runs can show. The masks of pcb are boxes around the defects, which no map of a defect
# can fill.

# %% tags=["remove-input"]
table = per_category_page.methods_by_category(results_folder(given.evidence))
display(Markdown("No method is recorded yet.") if table is None else table)

# %% [markdown]
# ## A1 to A12: one model for all categories

# %% tags=["remove-input"]
per_category_page.published("per_category", "Tables A1 to A12 as reported; mAD is the mean of the seven values.", root)

# %% [markdown]
# ## A13 to A16: one model per category

# %% tags=["remove-input"]
per_category_page.published("single_class", "Tables A13 to A16 as reported; mAD is the mean of the seven values.", root)
