"""Test that what is said of clusters fits KubeRay's definitions and our own commands."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from orchestrator.config import load
from orchestrator.config.arguments import config_parser

ROOT = Path(__file__).resolve().parents[2]
ROOM = ROOT / "orchestrator" / "execution"
INSTALLED = "/opt/vos-distill"  # where the image has the project

# Fields of ray.io/v1 as in ray-operator/apis/ray/v1 of KubeRay: those known, those demanded.
JOB = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "rayClusterSpec"}
HEAD = {"rayStartParams", "template"}
WORKERS = HEAD | {"groupName", "minReplicas", "maxReplicas"}


@pytest.fixture(scope="module")
def job():
    return yaml.safe_load((ROOM / "rayjob.yaml").read_text())


@pytest.fixture(scope="module")
def groups(job):
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() == {"headGroupSpec", "workerGroupSpecs"}
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def config_of(words):
    """The configuration of `python -m orchestrator.sweep ...`, here with --dry-run."""
    assert words[:3] == ["python", "-m", "orchestrator.sweep"]
    parser = config_parser("orchestrator.sweep", "", "SWEEP.yaml", "")
    args = parser.parse_intermixed_args([*words[3:], "--dry-run"])
    assert args.dry_run
    return load(str(args.file).replace(INSTALLED, str(ROOT)), args.overrides)


def test_the_job_has_the_fields_that_kuberay_demands(job, groups):
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,45}[a-z0-9])?", job["metadata"]["name"])
    assert job["spec"].keys() == JOB
    head, *workers = groups
    assert head.keys() == HEAD
    assert workers
    for group in workers:
        assert group.keys() - {"replicas"} == WORKERS
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_parameters_of_ray_start_are_text(groups):
    """The definition refuses numbers there."""
    values = [value for group in groups for value in group["rayStartParams"].values()]
    assert values == ["0"]


def test_the_command_is_a_sweep_on_the_cluster_of_the_job(job, groups):
    config = config_of(shlex.split(job["spec"]["entrypoint"]))
    assert config.cluster.address == "auto"
    gpus = [pod["resources"]["limits"].get("nvidia.com/gpu") for pod in containers(groups)[1:]]
    assert all(int(count) >= config.cluster.gpus_per_worker > 0 for count in gpus)


def test_every_pod_has_the_same_image_and_sees_the_storage(job, groups):
    config = config_of(shlex.split(job["spec"]["entrypoint"]))
    assert len({pod["image"] for pod in containers(groups)}) == 1
    claims = set()
    for group, pod in zip(groups, containers(groups), strict=True):
        (mount,) = pod["volumeMounts"]
        assert mount["mountPath"] == str(config.storage_root)
        (volume,) = group["template"]["spec"]["volumes"]
        assert volume["name"] == mount["name"]
        claims.add(volume["persistentVolumeClaim"]["claimName"])
    assert len(claims) == 1


def containers(groups):
    """The one container of each group, which has a name, an image, and what it asks for."""
    pods = []
    for group in groups:
        (pod,) = group["template"]["spec"]["containers"]
        assert pod["name"]
        assert pod["resources"]["requests"] == pod["resources"]["limits"]
        pods.append(pod)
    return pods


def test_the_line_that_submits_a_job_ends_in_a_sweep_on_its_cluster(monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (ROOM / "README.md").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^ray job submit .*", page, re.MULTILINE)
    words = shlex.split(line)
    config = config_of(words[words.index("--") + 1 :])
    assert config.cluster.address == "auto"
    assert Path(config.storage).is_absolute()
