"""profiles/kubernetes: the study's jobs in pods, by Snakemake's executor itself and a cluster that runs them here."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_cluster import FakeCluster, Pod

from mambaad.study import plan

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "profiles" / "kubernetes"

needs_the_plugin = pytest.mark.skipif(
    find_spec("snakemake_executor_plugin_kubernetes") is None,
    reason="needs snakemake-executor-plugin-kubernetes: pip install -e '.[kubernetes]'",
)


def manifests() -> dict[str, dict[str, Any]]:
    """The objects of cluster.yaml by kind."""
    found = yaml.safe_load_all((PROFILE / "cluster.yaml").read_text(encoding="utf-8"))
    return {manifest["kind"]: manifest for manifest in found}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A volume with a copy of this folder, as a cluster's pods would see it."""
    left_out = shutil.ignore_patterns(".*", "build", "outputs", "__pycache__", "*.egg-info")
    return shutil.copytree(ROOT, tmp_path / "volume" / "MambaAD-Book", ignore=left_out)


def workflow(cluster: FakeCluster, checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Snakemake with the committed profile; only the volume's path, its claim's place here, and the waits differ."""
    config = cluster.kubeconfig(checkout.parent / "kubeconfig")
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/kubernetes"]
    command += ["--kubernetes-shared-persistent-volumes", f"study:{checkout.parent}"]
    command += ["--seconds-between-status-checks", "1", "--latency-wait", "5", "--rerun-triggers", "mtime", *words]
    environment = os.environ | {"KUBECONFIG": str(config), "PYTHONPATH": "profiles/kubernetes"}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)


def cluster_of(checkout: Path, **options: Any) -> FakeCluster:
    return FakeCluster({"study": checkout.parent}, manifests()["Role"]["rules"], **options)


def of_rule(cluster: FakeCluster, rule: str) -> list[Pod]:
    return [pod for pod in cluster.pods.values() if f"--allowed-rules {rule} " in pod.spec["containers"][0]["args"][1]]


def resources(pod: Pod) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = pod.spec["containers"][0]["resources"]
    return found


def measured(path: Path) -> dict[str, Any]:
    """A record without its times and its place in a repository."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    del record["wall_seconds"], record["train"]["seconds_per_step"], record["environment"]["code"]
    return record


def test_profile_and_manifest_name_the_same_claim_image_and_path() -> None:
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text(encoding="utf-8"))
    found = manifests()
    (container,) = found["Pod"]["spec"]["containers"]
    (mount,), (volume,) = container["volumeMounts"], found["Pod"]["spec"]["volumes"]
    claim = found["PersistentVolumeClaim"]["metadata"]["name"]
    assert profile["kubernetes-shared-persistent-volumes"] == [f"{claim}:{mount['mountPath']}"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert profile["container-image"] == container["image"]
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    account = found["ServiceAccount"]["metadata"]["name"]
    assert found["Pod"]["spec"]["serviceAccountName"] == account
    assert [subject["name"] for subject in found["RoleBinding"]["subjects"]] == [account]
    assert found["RoleBinding"]["roleRef"]["name"] == found["Role"]["metadata"]["name"]


def paths(pod: Pod) -> list[Path]:
    """The absolute paths in a pod's command."""
    return [Path(word) for word in shlex.split(pod.spec["containers"][0]["args"][1]) if word.startswith("/")]


def aux_logs(checkout: Path) -> list[Path]:
    """What pods printed that ended badly."""
    return list((checkout / ".snakemake" / "auxiliary" / "kubernetes-logs").glob("*.log"))


@needs_the_plugin
@pytest.mark.slow
def test_a_job_whose_pod_is_taken_away_is_tried_again(checkout: Path) -> None:
    picture, log = "build/quick/book/source/figures/contact_sheet.webp", checkout / "build/quick/logs/contact_sheet.log"
    with cluster_of(checkout, preempt=("contact_sheet", log.is_file)) as cluster:
        done = workflow(cluster, checkout, "--config", "profile=quick", "train=True", "--", picture)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not cluster.refused
    assert (checkout / picture).read_bytes()[:4] == b"RIFF"
    killed, finished = cluster.pods.values()
    assert (killed.exit_code, finished.exit_code) == (137, 0)
    assert "--attempt 2" in finished.spec["containers"][0]["args"][1]
    assert len(aux_logs(checkout)) == 1
    for kind in ("requests", "limits"):
        assert resources(finished)[kind]["memory"] == "8000M"
        assert resources(finished)[kind]["ephemeral-storage"] == "2000M"
        assert not any("/" in name for name in resources(finished)[kind]), "a card for a job that needs none"
    assert finished.spec["containers"][0]["image"] == manifests()["Pod"]["spec"]["containers"][0]["image"]
    # A pod reads the volume and, on a cluster below it, this environment; nothing else of where it was asked for.
    seen = (checkout.parent, Path(sys.prefix))
    assert all(any(path.is_relative_to(folder) for folder in seen) for path in paths(finished)), paths(finished)
    # Nothing is left on the cluster.
    assert all(pod.deleted for pod in cluster.pods.values())
    assert not cluster.secrets


@needs_the_plugin
@pytest.mark.slow
def test_runs_in_pods_leave_the_record_of_a_run_here(checkout: Path, tmp_path: Path) -> None:
    """The data, then the study's first run, whose pod is taken away once while it trains."""
    run = next(run for table in plan.TABLES.values() for run in plan.runs("quick", [table]))
    record, log = f"build/quick/results/runs/quick_{run}.json", checkout / "build/quick/logs/runs_1.log"

    def trains() -> bool:
        return log.is_file() and "train: 24 of" in log.read_text(encoding="utf-8")

    with cluster_of(checkout, preempt=("runs_1", trains)) as cluster:
        done = workflow(cluster, checkout, "--config", "profile=quick", "train=True", "per_job=1", "--", record)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not cluster.refused
    assert [pod.exit_code for pod in cluster.pods.values()] == [0, 137, 0]
    (data,) = of_rule(cluster, "data")
    (_, trained) = of_rule(cluster, "runs_1")
    assert resources(data)["limits"]["memory"] == "8000M"
    assert resources(trained)["limits"]["memory"] == "4000M"
    # One log per job, on the volume.
    assert (checkout / "build/quick/logs/data.log").is_file()
    assert f"run 1 of 1: {run}" in log.read_text(encoding="utf-8")

    command = [sys.executable, "-m", "mambaad", "reproduce", "--profile", "quick", "--run", run]
    here = tmp_path / "here"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    options = ["--results", str(here), "--data-dir", "build/quick/data"]
    subprocess.run([*command, *options], cwd=checkout, env=environment, check=True, capture_output=True)
    assert measured(checkout / record) == measured(here / "runs" / Path(record).name)


@needs_the_plugin
@pytest.mark.slow
def test_a_run_of_the_paper_profile_asks_for_a_card(checkout: Path) -> None:
    """Its pod is not run: what the cluster is asked for counts. Every try fails, and the workflow says so."""
    (checkout / "images").mkdir()
    record = f"build/paper/results/runs/paper_{next(iter(plan.runs('paper')))}.json"
    options = ["profile=paper", "train=True", "data=images", "build=build/paper", "results=build/paper/results"]
    with cluster_of(checkout, runs_pods=False) as cluster:
        done = workflow(cluster, checkout, "--config", *options, "--", record)
    assert done.returncode
    assert not cluster.refused
    assert len(cluster.pods) == 3, "one try and two retries"
    for pod in cluster.pods.values():
        assert resources(pod)["requests"]["nvidia.com/gpu"] == resources(pod)["limits"]["nvidia.com/gpu"] == "1"
        assert resources(pod)["requests"]["memory"] == "32000M"
        assert pod.spec["tolerations"][0]["key"] == "nvidia.com/gpu"
