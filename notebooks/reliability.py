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
# # Reliability
#
# What happens when things go wrong: a run is killed, a disk is full, a file holds what nobody would write. Each section
# shows a record in `results/reliability/` with the command that made it; nothing here is typed in.

# %% tags=["remove-cell"]
from IPython.display import Markdown, display

from mambaad.study import reliability
from mambaad.study.notebook import check_parameters, results_folder
from mambaad.study.table_view import plain

# %% tags=["parameters", "hide-cell"] mystnb={"code_prompt_show": "Parameters of this notebook"}
source: str = "results"  # folder of records; not the study's own, since these are made apart from it

# %% tags=["remove-input"]
given = check_parameters(globals(), source=str)
folder = results_folder(given.source) / "reliability"
records = reliability.read_records(folder)


CAPTIONS = {
    "kills": "Runs killed at random moments, and whether they ended as undisturbed ones.",
    "faults": "Faults, and what became of the runs that met them.",
    "workflow": "Workflows killed until they finished, and two started at once.",
    "memory": "Memory in use during one long evaluation.",
    "fuzz": "Generated and damaged inputs, by kind of input.",
    "mutation": "Changes of the code, and how many the tests noticed.",
    "coverage": "Lines and branches that the default tests go through.",
}


def show(kind, table):
    """The records of a kind as a table, with their commands; or that there is none."""
    found = records.get(kind, [])
    if not found:
        display(Markdown(f"**There is no record of this in `{given.source}/reliability` yet.**"))
        return
    display(plain(table(found), 1, caption=CAPTIONS[kind]))
    display(Markdown(f"*{reliability.made_by(found)}*"))


# %% [markdown]
# ## Killed at random moments
#
# A training run of a small network, with its evaluation and its record, is ended by a signal at a random moment and
# started again, until it finishes. Weights, loss curve and every number of the record must then equal, bit for bit,
# those of a run that nobody disturbed. SIGKILL leaves a process no time for anything; at SIGTERM and Ctrl-C (SIGINT)
# a run saves its state and ends with exit code 143 or 130. Columns named *hit* say what the run was at, as far as the
# files it left tell.

# %% tags=["remove-input"]
show("kills", reliability.kills)

# %% [markdown]
# ## Faults
#
# Each fault must end in one sentence and exit code 2, leave no unfinished file, and not cost what was trained before:
# the same command, run again without the fault, must end in the weights of an undisturbed run, bit for bit.

# %% tags=["remove-input"]
show("faults", reliability.faults)

# %% [markdown]
# ## Workflows killed, and two at once
#
# The graph that `make reproduce` runs, its first jobs: SIGKILL goes to the workflow and all its jobs, and the same
# command is given again until it finishes. Then two workflows start on one empty folder at the same moment. One of them
# may end with an error; the records must in the end be those of an undisturbed workflow, times apart.

# %% tags=["remove-input"]
show("workflow", reliability.workflows)

# %% [markdown]
# ## Memory that stays flat
#
# A category with more images than memory holds is measured in the streaming mode. Its memory must not grow with the
# number of images.

# %% tags=["remove-input"]
show("memory", reliability.memory)

# %% [markdown]
# ## Inputs that nobody would write
#
# Tables, indices, settings, thresholds, checkpoints and images, generated or damaged byte by byte, and read as the
# command line reads them. An input *worked*, or was *refused* in a sentence with exit code 2 (1 for a data set found
# faulty). Anything else, such as a traceback, another exit code or a file that appeared, is *wrong*.

# %% tags=["remove-input"]
show("fuzz", reliability.inputs)

# %% [markdown]
# ## Mutation testing
#
# One operator, number or comparison of the code is changed at a time; a good test suite fails. The changes are a random
# sample of those that are possible in each file, and only the file's own tests are run. What survives is listed with
# the reason: often the change makes no difference to any result, sometimes a test is missing.

# %% tags=["remove-input"]
show("mutation", reliability.mutations)

# %% tags=["remove-input"]
for record in records.get("mutation", []):
    if first := record.get("first_pass"):
        display(
            Markdown(
                f"The first pass over this sample ({first['record']}) noticed {first['noticed']} of "
                f"{first['tried']}; tests were then written for what it had left. They were improved on this "
                "very sample, so its score is optimistic; the first pass is the better estimate for other changes."
            )
        )

# %% tags=["remove-input"]
if "mutation" in records:
    display(plain(reliability.survivors(records["mutation"], folder), caption="Changes that no test noticed."))

# %% [markdown]
# ## Coverage
#
# Lines and branches of the package that the default test run goes through.

# %% tags=["remove-input"]
show("coverage", reliability.coverage)
if "coverage" in records:
    display(Markdown(reliability.left_out(records["coverage"])))
