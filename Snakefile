"""The graph of the study: runs -> notebooks -> book.  The Makefile calls it; `--config` chooses between

    make reproduce   profile=quick train=True  build=build/quick results=build/quick/results
    make book        profile=quick train=False build=build       results=results

With train=False no run is part of the graph: the notebooks read the records in `results` as they are.
A changed library source reruns what depends on it (rerun trigger: modification time).
Every job writes beside its output and moves the result into place, so a killed call can simply be repeated.
"""

import os
import re
import shlex
import sys
from pathlib import Path

import jupytext

from mambaad.study import plan
from mambaad.study.evidence import protocol
from mambaad.study.tables_spec import TABLES

PROFILE = config.get("profile", "quick")
TRAIN = str(config.get("train", True)).lower() == "true"
if PROFILE == "subset" and TRAIN:
    raise ValueError("the profile 'subset' has its own images and is run by `mambaad reproduce --profile subset`")
if PROFILE == "quick" and TRAIN and "data" in config:
    # Snakemake empties a folder before its rule fills it
    raise ValueError("the profile 'quick' draws its images where it builds, and takes no data=FOLDER")
BUILD = config.get("build", f"build/{PROFILE}")
RESULTS = config.get("results", f"{BUILD}/results")
LOGS, BOOK = f"{BUILD}/logs", f"{BUILD}/book"
# The images: drawn for the quick profile, and for any other the folder that its user names.
DATA = config.get("data", f"{BUILD}/data" if PROFILE == "quick" or not TRAIN else None)
if DATA is None:
    raise ValueError(f"the profile {PROFILE!r} needs its images: --config data=FOLDER, one folder for each data set")
IMAGES = config.get("images", "")  # root of the real images, for the photographs of the evidence page
SOURCE = f"{BOOK}/source"  # the book's texts and the executed notebooks, side by side

NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("*.py"))
# The runs behind each table; several tables share some.
RUNS = {name: list(plan.runs(PROFILE, [table])) for name, table in TABLES.items()} if TRAIN else {}
# Importing torch and timm takes seconds, as much as a third of a quick run: a job does several runs, one after another
# (`--config per_job=1` for a cluster, where there is room for all of them at once).
EVERY_RUN = list(dict.fromkeys(run for runs in RUNS.values() for run in runs))
PER_JOB = int(config.get("per_job", 4 if PROFILE == "quick" else 1))
JOBS = [EVERY_RUN[i : i + PER_JOB] for i in range(0, len(EVERY_RUN), PER_JOB)]
# What a cluster's scheduler is told; profiles/ holds the rest.  A run of the paper profile takes one card and days.
RUN_RESOURCES = {"mem_mb": 4000, "runtime": 60} if PROFILE == "quick" else {"mem_mb": 32000, "runtime": 10080, "gpu": 1}

SOURCE_SUFFIXES = {".py", ".c", ".h", ".json", ".safetensors"}


def sources(*without: str) -> list[str]:
    """The library's files, but for some of its parts: what is new is part of every job that does not name it here."""
    unknown = [part for part in without if not Path("mambaad", part).is_dir()]
    if unknown:
        raise FileNotFoundError(f"the Snakefile names the parts {', '.join(unknown)}, which do not exist")
    left_out = {Path("mambaad", part) for part in without}
    found = (p for p in Path("mambaad").rglob("*") if p.suffix in SOURCE_SUFFIXES and not left_out & set(p.parents))
    return sorted(map(str, found))


# A run is named by the hash of its settings: the study decides which runs there are, not what comes out of one.
RUN_SOURCES = sources("inference", "study", "benchmarks", "cli")
ALL_SOURCES = sources()
PUBLISHED = sorted(map(str, Path("results").glob("paper/*.csv")))


def committed(*parts: str) -> list[str]:
    """The records in some folders of results/."""
    return [str(path) for part in parts for path in sorted(Path("results").glob(f"{part}/*.*"))]


# What a table's page shows beside its own runs, and what the other pages show.
MEASURED = committed("real_v1", "real_v1/runs", "benchmarks")
COMMITTED = PUBLISHED + MEASURED + committed("runs", "book", "reliability", "noise_floor/*/runs", "real_v1_again/runs")
# The network whose maps are shown: the protocol's main row, trained anew where it is not at hand (two minutes).
SHOWN_RUN = protocol.base_row().run(protocol.SEEDS[0]).hash
SHOWN_WEIGHTS = f"build/{protocol.NAME}/runs/{protocol.NAME}_{SHOWN_RUN}/checkpoint.pth" if IMAGES else ""
# Jobs find this environment's commands and only its kernel, whatever else is installed; each uses one thread, so that
# two cores run two jobs; notebooks choose their own plotting backend.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["JUPYTER_PATH"] = f"{sys.prefix}/share/jupyter"
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ.pop("MPLBACKEND", None)


def records(stem: str) -> list[str]:
    """The run records a notebook reads."""
    if not TRAIN:
        return sorted(map(str, Path(RESULTS, "runs").glob("*.json")))
    return [f"{RESULTS}/runs/{PROFILE}_{run}.json" for run in RUNS[stem]]


def numbers_of_tables(runs: list[str]) -> str:
    return ", ".join(str(TABLES[name].number) for name, found in RUNS.items() if set(runs) & set(found))


def parameters(stem: str) -> str:
    """papermill's -p options, for those parameters that the notebook has.

    A notebook that is about another profile than quick shows committed records and keeps its own values.
    """
    cells = jupytext.read(f"notebooks/{stem}.py").cells
    text = "\n".join(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    own = dict(re.findall(r"^(\w+)\s*(?::[^=]*)?=\s*[\"']([^\"']*)[\"']", text, re.M))
    if own.get("profile", "quick") != "quick":
        return ""
    values = {"profile": PROFILE, "mode": "report", "results": RESULTS}
    if IMAGES:
        values |= {"images": str(Path(IMAGES).resolve()), "network": SHOWN_WEIGHTS}
    return " ".join(f"-p {name} {shlex.quote(value)}" for name, value in values.items() if name in own)


rule all:
    message: "Done"
    input:
        f"{BOOK}/_build/html/index.html",
    default_target: True


if TRAIN and PROFILE == "quick":

    rule data:
        message: "Draw the synthetic images"
        input: RUN_SOURCES
        output: directory(DATA)
        log: f"{LOGS}/data.log"
        shell:
            "python -m mambaad reproduce --profile {PROFILE} --prepare --data-dir {output:q} > {log} 2>&1"


if TRAIN:

    for number, runs in enumerate(JOBS, start=1):

        rule:
            name: f"runs_{number}"
            message: f"Runs {PER_JOB * (number - 1) + 1} to {PER_JOB * (number - 1) + len(runs)} of {len(EVERY_RUN)}, for tables {numbers_of_tables(runs)}"
            input:
                sources=RUN_SOURCES,
                data=DATA,
            output: [f"{RESULTS}/runs/{PROFILE}_{run}.json" for run in runs]
            log: f"{LOGS}/runs_{number}.log"
            params:
                runs=" ".join(runs),
                data=shlex.quote(DATA),
            threads: 1
            resources: **RUN_RESOURCES
            priority: 1  # the long jobs first
            shell:
                "python -m mambaad reproduce"
                " --profile {PROFILE} --run {params.runs} --results {RESULTS} --data-dir {params.data} > {log} 2>&1"


EXECUTE = (
    "mkdir -p {BUILD}/work && jupytext --quiet --to ipynb --output {params.work}.ipynb {input.text} > {log} 2>&1"
    " && papermill --no-progress-bar --kernel python3 {params.work}.ipynb {params.work}.part.ipynb {params.values}"
    " >> {log} 2>&1 && mv {params.work}.part.ipynb {output.page}"
)


rule table:
    message: "Notebook {wildcards.stem}"
    input:
        text="notebooks/{stem}.py",
        library=ALL_SOURCES,
        records=lambda wildcards: records(wildcards.stem),
        published=PUBLISHED,
        measured=MEASURED,
    output:
        page=f"{SOURCE}/notebooks/{{stem}}.ipynb",
        # `update`: the committed table stays in place until the new one is written.
        table=update(f"{RESULTS}/tables/{{stem}}.csv"),
    params:
        work=f"{BUILD}/work/{{stem}}",
        values=lambda wildcards: parameters(wildcards.stem),
    log: f"{LOGS}/{{stem}}.log"
    wildcard_constraints:
        stem="table_.*",
    threads: 1
    shell: EXECUTE


rule notebook:
    message: "Notebook {wildcards.stem}"
    input:
        text="notebooks/{stem}.py",
        library=ALL_SOURCES,
        committed=COMMITTED,
        network=lambda wildcards: SHOWN_WEIGHTS if SHOWN_WEIGHTS and "-p network" in parameters(wildcards.stem) else [],
    output:
        page=f"{SOURCE}/notebooks/{{stem}}.ipynb",
    params:
        work=f"{BUILD}/work/{{stem}}",
        values=lambda wildcards: parameters(wildcards.stem),
    log: f"{LOGS}/{{stem}}.log"
    wildcard_constraints:
        stem="(?!table_).*",
    threads: 1
    shell: EXECUTE


if IMAGES:

    rule shown_network:
        message: "Train the network whose maps are shown"
        output: SHOWN_WEIGHTS
        log: f"{LOGS}/shown_network.log"
        params:
            results=f"{BUILD}/work/{protocol.NAME}",
            images=shlex.quote(IMAGES),
        threads: 1
        shell:
            # The record goes into a folder of its own: the committed one stays what it is.
            "rm -rf {params.results} && python -m mambaad evidence --run {SHOWN_RUN} --data {params.images}"
            " --results {params.results} --outputs build/{protocol.NAME} > {log} 2>&1"


rule contact_sheet:
    message: "Contact sheet of the synthetic images"
    input: RUN_SOURCES
    output: f"{SOURCE}/figures/contact_sheet.webp"
    log: f"{LOGS}/contact_sheet.log"
    params:
        images=f"{BUILD}/work/contact_sheet",
    shell:
        "rm -rf {params.images} && python -c 'from mambaad.data.contact_sheet import contact_sheet;"
        " from mambaad.data.synthetic.generate import write_synthetic;"
        """ contact_sheet(write_synthetic("{params.images}", side=192, train=3, test=6), "{output}", side=192)'"""
        " > {log} 2>&1"


rule book:
    message: "Book"
    input:
        figure=f"{SOURCE}/figures/contact_sheet.webp",
        texts=[str(path) for path in Path("book").rglob("*") if path.is_file()],
        notebooks=expand(f"{SOURCE}/notebooks/{{stem}}.ipynb", stem=NOTEBOOKS),
        own_parts=sorted(map(str, Path("results/own_parts").rglob("*.json"))),
        evidence=committed("real_v1/tables", "real_v1/runs"),
        protocols=sorted(map(str, Path("results/protocols").glob("*.md"))),
        viewer=["mambaad/assets/viewer.css", "mambaad/assets/viewer.js"],
    output: f"{BOOK}/_build/html/index.html"
    log: f"{LOGS}/book.log"
    shell:
        "rm -rf {BOOK}/_build && cp -R book/. results/protocols {SOURCE}/"
        " && cp {input.viewer} {SOURCE}/_static/"
        " && python -m mambaad.study.front_page {RESULTS} {SOURCE} > {log} 2>&1"
        " && python -m mambaad.study.own_parts > {SOURCE}/own_parts.md 2>> {log}"
        " && jupyter-book build -q -W -n --keep-going --path-output {BOOK} {SOURCE} > {log} 2>&1"
        # What the pages link to: records, and tables as CSV.
        " && mkdir -p {BOOK}/_build/html/results/real_v1"
        " && cp -R {RESULTS}/tables {RESULTS}/runs {BOOK}/_build/html/results/"
        " && cp -R results/real_v1/runs results/real_v1/tables {BOOK}/_build/html/results/real_v1/"
        # A green build without a front page is known to happen.
        " && test -s {output}"
