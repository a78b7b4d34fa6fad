"""Snakemake's Kubernetes executor, told that the pods see this folder.

`snakemake-executor-plugin-kubernetes` takes for granted that pods share no file with Snakemake: it overrides
`--shared-fs-usage` and asks for an object storage, through which every job would copy its sources and the images into
its pod and lose the saved state of a training with it. Here a volume that every pod mounts holds all of that, as on a
Slurm cluster, so the executor is taken as it is but for three things:

- the file system is shared;
- a job starts in the folder in which Snakemake was started, and not in an empty one;
- the log of a failed pod is asked for as that of its only container. The plugin (0.5.1) asks for the log of the
  container before; since a pod is never restarted there is none, Kubernetes answers with an error, and the error ends
  the workflow instead of trying the job again.
"""

import dataclasses
import os
import shlex
from typing import Any

import kubernetes
import snakemake_executor_plugin_kubernetes as plugin

ExecutorSettings = plugin.ExecutorSettings

common_settings = dataclasses.replace(
    plugin.common_settings,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
    pass_default_storage_provider_args=False,
)


class CoreV1Api(kubernetes.client.CoreV1Api):  # type: ignore[misc]
    """Kubernetes' API, with the log of a container that was never restarted."""

    def read_namespaced_pod_log(self, *args: Any, previous: bool = False, **kwargs: Any) -> Any:
        return super().read_namespaced_pod_log(*args, **kwargs)


class Executor(plugin.Executor):  # type: ignore[misc]
    """Runs every job in a pod that mounts the volume with this folder."""

    @property
    def kubeapi(self) -> kubernetes.client.CoreV1Api:
        return self._kubeapi

    @kubeapi.setter
    def kubeapi(self, api: kubernetes.client.CoreV1Api) -> None:  # set anew whenever the executor logs in again
        self._kubeapi = CoreV1Api(api.api_client)

    def get_job_exec_prefix(self, job: Any) -> str:
        return f"cd {shlex.quote(os.getcwd())}"
