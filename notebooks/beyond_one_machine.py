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
# # Beyond one machine
#
# The accuracies that the paper prints were not rerun for this book. What would it take? This page counts the optimiser
# steps of every run of MambaAD and its variants behind tables 1 to 7 at the paper's settings, and turns them into time.
# The trainings of the other methods are not counted.

# %% tags=["remove-cell"]
from IPython.display import Markdown, display

from mambaad.data.datasets.catalog import dataset_named
from mambaad.study import plan
from mambaad.study.cost import costs, measured_step, totals
from mambaad.study.notebook import check_parameters
from mambaad.study.table_view import plain

# %% tags=["parameters"]
speeds: str = "10 30 100"  # images per second of the main model on one GPU, in training

# %% tags=["hide-input"]
given = check_parameters(globals(), speeds=str)
runs = plan.runs("paper")
found = costs(runs.values(), plan.main_run("paper"))
measured = measured_step()
hours = [cost.hours(measured.seconds_per_image) for cost in found]
longest = max(zip(hours, runs.values(), strict=True), key=lambda pair: pair[0])
steps = sum(cost.steps for cost in found) / 1e6
display(
    Markdown(
        f"The paper profile has **{len(runs)} runs** with **{steps:.1f} million** steps of 16 images. On "
        f"{measured.device}, where a step of the main model takes {measured.seconds_per_image:.2f} s per image (code "
        f"{measured.commit[:12]}), training them all would take **{sum(hours) / 24 / 365:.1f} years**. More machines "
        f"do not shorten a single run: the longest one, on {dataset_named(longest[1].data.dataset).paper_title}, is "
        f"{100 * longest[0] / sum(hours):.0f} % of the whole."
    )
)

# %% [markdown]
# ## On GPUs
#
# **No step of this library was ever timed on a GPU.** The table is arithmetic: it says what a GPU would need if it
# trained the main model at a given number of images per second. Measure your own with
# `mambaad benchmark model --device cuda` and pass the number on:
# `mambaad reproduce --profile paper --dry-run --speed N` lists the hours of every run.

# %% tags=["hide-input"]
table = totals(found, [float(word) for word in given.speeds.split()])
first = table.columns[0]
table[first] = table[first].map(lambda speed: int(speed) if speed == int(speed) else speed)
display(plain(table, decimals=1, caption="Time for all runs, by images per second of one GPU and number of GPUs."))

# %% [markdown]
# The columns assume one run per GPU, the longest first. Beyond some number of GPUs the time no longer falls: the
# longest run is then all that is left. Another network's step is taken to last longer in proportion to its FLOPs.
#
# ## A cluster
#
# The study is a Snakemake graph, and `profiles/slurm` holds what a Slurm cluster has to be told: retries, the latency
# of the file system; each job writes a log of its own. Each run of the paper profile is a job that asks for one GPU,
# and resumes from its last saved state when it is tried again: three tries of seven days. If the table above says that
# the longest run takes more than 21 days, raise `runtime` in the `Snakefile`.
#
# ```sh
# .venv/bin/python -m pip install snakemake-executor-plugin-slurm
# .venv/bin/python -m snakemake --workflow-profile profiles/slurm \
#     --config profile=paper data=FOLDER train=True build=build/paper results=build/paper/results
# ```
#
# The profile was checked in a dry run with that plugin; it was never run on a cluster.
#
# On Kubernetes the pods share a volume, mounted at the same path in each, which holds this folder, its `.venv` and the
# images; nothing is copied into a pod, and a run that loses its pod resumes from the volume. Snakemake's Kubernetes
# executor takes for granted that there is no such volume; `profiles/kubernetes` has a small package that tells it of
# one, and `cluster.yaml`, which describes the volume, the permissions that the workflow needs, and a pod to start from.
# Set size and storage class to your cluster's.
#
# ```sh
# kubectl apply -f profiles/kubernetes/cluster.yaml
# kubectl exec -it study -- bash
# # in the pod: clone this repository below /study, and in its folder
# make setup
# .venv/bin/python -m pip install -e '.[kubernetes]'
# export PYTHONPATH=profiles/kubernetes
# .venv/bin/python -m snakemake --workflow-profile profiles/kubernetes \
#     --config profile=paper data=FOLDER train=True build=build/paper results=build/paper/results
# ```
#
# The pods use the public image `python:3.11`, in which `make setup` has made `.venv`; there is no image to build.
# **This profile was never run on a cluster, either.** In its tests (`tests/study/test_kubernetes.py`) the executor
# talks to a stand-in for a cluster, which grants only the permissions of `cluster.yaml` and runs each pod as a process:
# images are drawn and a run is trained, whose pod is killed once, and the record equals that of the run without a
# cluster. A run of the paper profile asks for one GPU, 32 GB and a processor core; there was no GPU to give it.
