"""Executing the graph in process: one Dagster run a key on the store's persistent instance, none where the memo answers."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.cli import CHECKOUT, RefusedError
from assets.planner import Planner, Step, refused
from assets.pool import PAYS_FROM, build_side_by_side
from pipelines.provenance.files import StoreError
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec

if TYPE_CHECKING:
    import dagster as dg

PROCESS_TAG = "stemma/process"  # HOST:PID of the `stemma run` that executes a run in process
BY_SOURCE = ("raw_documents", "clean_documents", "source_profile", "signatures")


@dataclass
class Runner:
    """Builds what is due, asset by asset, and tells ``progress`` (key, state) and ``pieces`` (key, done, total)."""

    spec: Spec
    store: Store
    planner: Planner
    progress: Callable[[Key, str], None] = lambda key, state: None
    waiting: Callable[[str], None] = lambda message: None
    pieces: Callable[[Key, int, int], None] = lambda key, done, total: None

    def run(self, steps: list[Step]) -> int:
        """Build every due step; returns how many were computed.

        Raises:
            RefusedError: if a blocking check or the gate refuses.
            StoreError: if a step fails.
        """
        from assets import workspace
        from assets.partitions import mirror

        os.environ.update(STEMMA_STORE=self.store.url, STEMMA_SPEC=str(self.spec.path), STEMMA_IN_PROCESS="1")
        workspace.listeners[:] = [self.waiting]
        workspace.watchers[:] = [self.pieces]
        computed = 0
        with open_instance(self.store) as instance:
            mirror(self.spec, instance)
            bury(instance)
            due = [step.key for step in steps if step.due or not is_recorded(step.key, instance)]
            for keys in _by_asset(due):
                computed += self._build(keys, instance)
        return computed

    def _build(self, keys: list[Key], instance: dg.DagsterInstance) -> int:
        """All due partitions of one asset; and a Dagster run for those that were built but whose run was killed."""
        for key in keys:
            self.planner.forget(key)
        due = [key for key in keys if self.planner.step(key).due]
        if keys[0].asset in BY_SOURCE and len(due) >= PAYS_FROM and not self.planner.force:
            for key in build_side_by_side(self.spec.path, self.store.url, due, self.waiting):
                self.progress(key, "built")
        for key in keys:
            if key not in due and is_recorded(key, instance):
                self.progress(key, "cut off")
                continue
            self.progress(key, "running")
            self._execute(key, instance)
            self.progress(key, "done")
        return len(due)

    def _execute(self, key: Key, instance: dg.DagsterInstance) -> None:
        """One run; what a check refuses stays marked until a run of it succeeds."""
        under = self.planner.blueprint(key).under or key
        try:
            execute(key, instance, force=key.asset in self.planner.force)
        except RefusedError:
            if key.asset != "champion" and (found := self.store.get(under)):
                mark = refused(self.store, found.digest)
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
            raise
        self.planner.settle(key)
        if found := self.store.get(under):
            refused(self.store, found.digest).unlink(missing_ok=True)


def is_recorded(key: Key, instance: dg.DagsterInstance) -> bool:
    """Whether the UI's history knows a materialization of this asset and partition."""
    import dagster as dg

    return key.partition in instance.get_materialized_partitions(dg.AssetKey(key.asset))


def _by_asset(keys: list[Key]) -> list[list[Key]]:
    groups: dict[str, list[Key]] = {}
    for key in keys:
        groups.setdefault(key.asset, []).append(key)
    return list(groups.values())


def dagster_home(store: Store) -> Path:
    """DAGSTER_HOME: inside a local store, beside the scratch of a remote one; with our dagster.yaml in it."""
    home = store.scratch.parent / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(CHECKOUT / "dagster.yaml", home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    return home


@contextlib.contextmanager
def open_instance(store: Store) -> Iterator[dg.DagsterInstance]:
    """The persistent instance: what runs here is in the UI's history."""
    dagster_home(store)
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        yield instance


def bury(instance: dg.DagsterInstance) -> None:
    """End the runs of processes that were killed here: they would hold their pool's slot, and ours would wait for ever."""
    import dagster as dg

    unfinished = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        host, _, pid = run.tags.get(PROCESS_TAG, "").rpartition(":")
        if host == platform.node() and not _alive(int(pid)):
            instance.report_run_failed(run, f"process {pid} was killed")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def execute(key: Key, instance: dg.DagsterInstance, *, force: bool = False) -> None:
    """One Dagster run of one asset and partition with its checks.

    Raises:
        RefusedError: if the gate or a blocking check said no.
        StoreError: if the step failed; the message is the step's own.
    """
    import dagster as dg

    from assets.definitions import defs

    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey(key.asset)})
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
    if force:
        config["ops"] = {key.asset: {"config": {"force": True}}}
    result = job.execute_in_process(
        tags={PROCESS_TAG: f"{platform.node()}:{os.getpid()}"},
        run_config=config,
        instance=instance,
        partition_key=key.partition,
        raise_on_error=False,
    )
    if not result.success:
        _raise_failure(key, result)


def refusals(result: dg.ExecuteInProcessResult) -> str:
    """What the blocking checks that failed expect, and the figures that they found."""
    told = []
    for event in result.all_events:
        if event.event_type_value != "ASSET_CHECK_EVALUATION" or event.asset_check_evaluation_data.passed:
            continue
        check = event.asset_check_evaluation_data
        found = ", ".join(f"{name} {value.value}" for name, value in check.metadata.items() if name != "manifest")
        told.append(f"check {check.check_name} failed. Expected: {check.description or ''} Found: {found}.")
    return " ".join(told)


def _raise_failure(key: Key, result: dg.ExecuteInProcessResult) -> None:
    for event in result.all_events:
        if event.is_step_failure:
            error: Any = event.step_failure_data.error
            chain = []
            while error is not None:
                chain.append(error)
                error = error.cause
            names = {link.cls_name for link in chain}
            message = (chain[-1].message or "").strip()
            message = re.sub(rf"^[\w.]*{chain[-1].cls_name}: ", "", message)
            if "DagsterAssetCheckFailedError" in names:
                raise RefusedError(f"{key}: {refusals(result) or message}")
            if "GateRefused" in names:
                raise RefusedError(f"{key}: {message}")
            if "DagsterExecutionInterruptedError" in names:
                raise StoreError(
                    f"{key} was interrupted. The same command goes on: a training from its last checkpoint."
                )
            raise StoreError(f"{key} failed: {message} (full log: `stemma ui`, run {result.run_id})")
    raise StoreError(f"{key} failed; see run {result.run_id} in `stemma ui`.")


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[int]:
    """Send everything that is printed, by us or by child processes, to a file; yields the terminal's descriptor."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    terminal, terminal_errors = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(terminal, 1)
        os.dup2(terminal_errors, 2)
        os.close(terminal_errors)
        os.close(terminal)
