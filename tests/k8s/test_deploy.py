"""``tudsr deploy`` against a cluster on loopback and a real MLflow registry."""

from __future__ import annotations

import pytest

from deploy.cluster import ConflictError, UnreachableError
from deploy.ownership import applied_before
from deploy.rollout import RolloutError
from tests.k8s.conftest import NOBODY, served
from tudsr.errors import RegistryError, SettingsError
from tudsr.release.ledger import Ledger
from tudsr.release.promotion import rollback
from tudsr.release.registry import champion


def test_apply_brings_everything_and_a_second_time_changes_nothing(run, api, rendered):
    run("apply", "gpu")
    wanted = {(o["kind"], o["metadata"]["name"]) for o in rendered["gpu"]}
    assert wanted <= {(kind, name) for kind, _, name in api.objects}
    assert served(api) == NOBODY
    version = api.version
    assert "0 of" in run("apply", "gpu")
    assert api.version == version


def test_what_was_applied_can_be_read_back(deployed, rendered):
    for wanted in rendered["gpu"]:
        live = deployed.get(wanted["kind"], wanted["metadata"]["name"])
        assert applied_before(live) == wanted


def test_a_dry_run_shows_the_change_and_makes_none(run, deployed):
    before = dict(deployed.objects)
    told = run("canary", "2", "--dry-run")
    assert "+        - name: TUDSR_MODEL" in told and "+      weight: 10" in told
    assert "nothing was changed" in told
    assert deployed.objects == before


def test_a_canary_gets_traffic_once_it_is_ready(run, deployed):
    deployed.requests.clear()
    told = run("canary", "2", "--weight", "20", "--replicas", "2")
    assert "2/2 pods" in told
    assert served(deployed) == {"champion": None, "challenger": "2", "pods": 2, "weights": [80, 20]}
    assert deployed.changes() == ["tudsr-challenger", "tudsr"]
    looks = [
        p
        for m, p in deployed.requests[: deployed.requests.index(("PATCH", route_path()))]
        if m == "GET"
    ]
    assert sum(p.endswith("/tudsr-challenger") for p in looks) >= 3, "the route did not wait"
    run("canary", "2", "--weight", "50", "--replicas", "2")
    assert served(deployed)["weights"] == [50, 50]


def route_path() -> str:
    return "/apis/gateway.networking.k8s.io/v1/namespaces/tudsr/httproutes/tudsr"


@pytest.mark.parametrize(
    "why", ["CrashLoopBackOff", "ProgressDeadlineExceeded", "ImagePullBackOff"]
)
def test_a_challenger_that_does_not_become_ready_is_taken_back(run, deployed, why):
    deployed.broken["2"] = why
    with pytest.raises(RolloutError, match="Rolled back Deployment/tudsr-challenger") as refusal:
        run("canary", "2", timeout_s=1)
    assert why in str(refusal.value) or "too slow" in str(refusal.value)
    assert served(deployed) == NOBODY


def test_promoting_moves_pods_then_traffic_then_mlflow(run, deployed):
    run("canary", "2")
    deployed.requests.clear()
    told = run("promote", "--actor", "ada", "--force", "it was held against no champion")
    assert served(deployed) == {"champion": "2", "challenger": None, "pods": 0, "weights": [100, 0]}
    assert deployed.changes() == ["tudsr-champion", "tudsr", "tudsr-challenger"]
    assert champion("tudsr").version == "2" and "version 2 is MLflow's champion" in told
    assert Ledger().entries()[-1].actor == "ada"
    run("apply", "gpu")
    assert served(deployed)["champion"] == "2", "applying again must not change what is served"


def test_the_way_back_is_a_rollback_and_the_version_of_before_as_a_canary(run, deployed):
    run("canary", "2")
    run("promote", "--force", "as above")
    assert rollback("tudsr", "ada").moved_to == "1"
    assert served(deployed)["champion"] == "2", "pods stay pinned until they are told"
    run("canary", "1")
    assert "version 1 is MLflow's champion" in run("promote")
    assert served(deployed) == {"champion": "1", "challenger": None, "pods": 0, "weights": [100, 0]}
    assert champion("tudsr").version == "1" and Ledger().entries()[-1].action == "rollback"


def test_a_champion_that_does_not_become_ready_is_taken_back(run, deployed):
    run("canary", "2")
    deployed.broken["tudsr-champion"] = "CrashLoopBackOff"
    with pytest.raises(RolloutError, match="Rolled back Deployment/tudsr-champion"):
        run("promote", "--force", "as above")
    assert served(deployed) == {"champion": None, "challenger": "2", "pods": 1, "weights": [90, 10]}
    assert champion("tudsr").version == "1"


def test_a_promotion_that_mlflow_would_refuse_changes_nothing(run, deployed):
    run("canary", "2")
    before = served(deployed)
    with pytest.raises(RegistryError, match="the champion is version 1 now"):
        run("promote")
    assert served(deployed) == before


def test_aborting_takes_the_traffic_first(run, deployed):
    run("canary", "2")
    deployed.requests.clear()
    run("abort")
    assert served(deployed) == NOBODY
    assert deployed.changes() == ["tudsr", "tudsr-challenger"]
    with pytest.raises(SettingsError, match="nothing to abort"):
        run("abort")


@pytest.mark.parametrize("broken", ["tudsr-champion", "tudsr", "tudsr-challenger"])
def test_a_promotion_that_broke_off_goes_on_when_repeated(run, deployed, broken):
    run("canary", "2")
    dry = {"seen": 0}

    def fails(method, path):
        if method == "PATCH" and path.endswith(f"/{broken}"):
            dry["seen"] += 1
            return 503 if dry["seen"] == 2 else None  # the first is the preview's dry run
        return None

    deployed.fault = fails
    with pytest.raises(UnreachableError, match="the same command goes on from there"):
        run("promote", "--force", "as above")
    assert "challenger" in run("status")
    deployed.fault = lambda *_: None
    run("promote", "--force", "as above")
    assert served(deployed) == {"champion": "2", "challenger": None, "pods": 0, "weights": [100, 0]}
    assert champion("tudsr").version == "2"


def test_a_silent_api_is_asked_again_while_pods_start(run, deployed):
    looks = {"seen": 0}

    def fails(method, path):
        looks["seen"] += "PATCH" not in method and bool(deployed.changes())
        return 503 if 0 < looks["seen"] < 3 else None

    deployed.requests.clear()
    deployed.fault = fails
    run("canary", "2")
    assert served(deployed)["weights"] == [90, 10] and looks["seen"] > 3


def test_fields_of_somebody_else_are_a_conflict_that_is_explained(run, deployed):
    key = ("HTTPRoute", "tudsr", "tudsr")
    theirs = {**deployed.objects[key], "spec": {**deployed.objects[key]["spec"]}}
    theirs["spec"]["rules"] = [{"backendRefs": [{"name": "tudsr-champion", "port": 3000}]}]
    theirs = {k: theirs[k] for k in ("apiVersion", "kind", "spec")}
    theirs["metadata"] = {"name": "tudsr", "namespace": "tudsr"}
    deployed.applied(key, theirs, "kubectl-edit", force=True, dry=False)
    before = dict(deployed.objects)
    with pytest.raises(ConflictError, match="kubectl-edit") as conflict:
        run("canary", "2")
    assert ".spec.rules" in str(conflict.value) and "--force-conflicts" in str(conflict.value)
    assert deployed.objects == before, "nothing may change when a later phase would conflict"
    run("canary", "2", "--force-conflicts")
    assert served(deployed)["weights"] == [90, 10]


def test_status_says_what_is_served(run, api):
    assert "not deployed" in run("status")
    run("apply", "cpu")
    run("canary", "2")
    lines = run("status").splitlines()
    champion_row = next(line for line in lines if line.startswith("champion"))
    challenger_row = next(line for line in lines if line.startswith("challenger"))
    assert "alias champion" in champion_row and "90 %" in champion_row
    assert challenger_row.split()[1:5] == ["2", "1/1", "10", "%"]
