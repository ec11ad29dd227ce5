"""The engine that runs steps in a Ray cluster: on one machine, or on several that share the store's folder."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

from distilscope.errors import DistilscopeError
from distilscope.pipeline.engine import ALLOCATOR_SETTINGS, thread_settings
from distilscope.pipeline.ray.cluster import connect
from distilscope.pipeline.ray.tasks import Driver, perform_all
from distilscope.pipeline.step import Needs
from distilscope.pipeline.store import Store
from distilscope.pipeline.task import Receipt, Task
from distilscope.system.signals import defer_exit

GROUP_SECONDS = 0.25
"""Seconds of work, roughly, in one Ray task. A Ray task costs a few milliseconds, so short steps are sent in groups."""

TASKS_PER_CORE = 2
"""Ray tasks in flight per core: the next is already there when one ends."""

RETRIES = 3
"""How often Ray restarts a task whose process or node died."""

GPU_SETTINGS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""Environment of steps on GPUs. It also keeps Ray from reusing another step's process for them: a process that has used
a GPU once does not notice that it was given another one."""

NODES_INTERVAL = 2.0
"""Seconds between queries of the cluster's nodes."""


class RayEngine:
    """Runs steps in a Ray cluster, small ones in groups. Workers write artifacts to the store and return receipts.

    If a worker or a node dies, Ray starts its task again; steps of it whose artifacts exist are not run again. If the
    driver dies, its workers end too, but not at once: until then their claims keep the next run from starting
    (`Store.claim`).
    """

    def __init__(self, store: Store, *, cores: int, address: str | None = None) -> None:
        """The caller holds the store's lock. `cores` counts only without an `address`: there it is the nodes'."""
        self.slots = cores
        self._store = store
        self._address = address
        self._pending: list[Task] = []
        self._running: dict[Any, list[Task]] = {}
        self._pace: defaultdict[str, list[float]] = defaultdict(list)
        self._queried = 0.0

    def __enter__(self) -> RayEngine:
        with ExitStack() as stack:
            self._cluster = connect(
                self._address, cores=self.slots, environment=ALLOCATOR_SETTINGS | thread_settings(1)
            )
            stack.callback(self._cluster.end)
            with defer_exit():  # here and below: an exit that a signal raises inside Ray gets another exit code
                import ray

                self._perform = ray.remote(perform_all)
                self._query_nodes()
            self._driver = Driver.of(self._store)
            self._leave = stack.pop_all()
        return self

    def takes(self, needs: Needs) -> bool:
        self._require_node(needs)
        if needs.gpus:
            return True  # it waits for its GPU in Ray's queue, and occupies no core meanwhile
        waiting = sum(task.needs.cores * min(1.0, self._expected(task) / GROUP_SECONDS) for task in self._pending)
        return self._occupied() + waiting < TASKS_PER_CORE * self.slots

    def submit(self, task: Task) -> None:
        self._pending.append(task)

    def collect(self, timeout: float) -> Sequence[Receipt]:
        with defer_exit():
            self._send()
            if time.monotonic() - self._queried > NODES_INTERVAL:
                self._query_nodes()
                for group in self._running.values():
                    if not self._nodes:
                        raise self._node_died(group)
                    self._require_node(group[0].needs)
            finished = self._finished(timeout)
        for task, receipt in finished:
            if receipt.error is None:
                self._store.await_artifact(self._store.path(task.identity))
        return [receipt for _, receipt in finished]

    def __exit__(self, *exception: object) -> None:
        import ray

        with defer_exit():
            for reference in self._running:
                with suppress(Exception):
                    ray.cancel(reference, force=True)
            self._leave.close()
        for log in self._store.logs().glob("ray-*.log"):
            with suppress(OSError):
                if log.stat().st_size == 0:
                    log.unlink()

    def _send(self) -> None:
        idle = max(0, self.slots - self._occupied())
        for group in grouped([(task, self._expected(task)) for task in self._pending], idle):
            needs = group[0].needs
            environment = ALLOCATOR_SETTINGS | thread_settings(needs.threads) | (GPU_SETTINGS if needs.gpus else {})
            # Processes of the cluster that have this environment already are reused; for another, Ray starts new ones.
            own = None if environment == self._cluster.environment else {"env_vars": environment}
            perform = self._perform.options(
                num_cpus=needs.cores, num_gpus=needs.gpus, max_retries=RETRIES, runtime_env=own
            )
            self._running[perform.remote(group, self._driver)] = group
        self._pending.clear()

    def _finished(self, timeout: float) -> list[tuple[Task, Receipt]]:
        import ray
        import ray.exceptions

        ready, _ = ray.wait(list(self._running), timeout=timeout)
        if ready:
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        finished: list[tuple[Task, Receipt]] = []
        for reference in ready:
            try:
                receipts: list[Receipt] = ray.get(reference)
            except ray.exceptions.RayError as error:
                if not finished:  # else report what is finished; the next call meets the same error again
                    raise self._failure(self._running[reference], error) from error
                continue
            # Not strict: after a failed step, the rest of the group was not begun.
            finished += zip(self._running.pop(reference), receipts, strict=False)
        for task, receipt in finished:
            if receipt.seconds:
                self._pace[task.title].append(receipt.seconds)
        return finished

    def _expected(self, task: Task) -> float:
        """Expected seconds of a task; for a stage without a time yet, so many that it is sent alone."""
        times = self._pace.get(task.title)
        return sum(times) / len(times) if times else GROUP_SECONDS

    def _occupied(self) -> int:
        """Cores that are occupied; tasks that wait for a GPU do not count."""
        gpus, cores = sum(node.get("GPU", 0) for node in self._nodes), 0
        for needs in (group[0].needs for group in self._running.values()):
            if needs.gpus <= gpus:
                gpus -= needs.gpus
                cores += needs.cores
        return cores

    def _query_nodes(self) -> None:
        """Ask the cluster which nodes are alive; they may come and go."""
        import ray

        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.slots = max(1, int(sum(node.get("CPU", 0) for node in self._nodes)))
        self._queried = time.monotonic()

    def _require_node(self, needs: Needs) -> None:
        if any(node.get("CPU", 0) >= needs.cores and node.get("GPU", 0) >= needs.gpus for node in self._nodes):
            return
        gpus = f" and {needs.gpus} GPUs" if needs.gpus else ""
        raise DistilscopeError(
            f"a step needs {needs.cores} cores{gpus} on one machine, but no node of the Ray cluster has them; "
            f"{'lower --resources.train_gpus or tile_gpus, or ' if needs.gpus else ''}add such a node"
        )

    def _at(self, group: list[Task]) -> Task:
        """The first task of the group without an artifact: the one that was running."""
        return next((task for task in group if not self._store.has(task.identity)), group[0])

    def _node_died(self, group: list[Task]) -> DistilscopeError:
        return DistilscopeError(
            f"the Ray node of this machine died, and with it the run, at the step {self._at(group).name}; "
            "start the node again if it is not this run's own, and run again (what was finished is kept)"
        )

    def _failure(self, group: list[Task], error: Exception) -> DistilscopeError:
        from ray.exceptions import LocalRayletDiedError, NodeDiedError, OutOfMemoryError, WorkerCrashedError

        task = self._at(group)
        said = str(error).strip().splitlines() or [type(error).__name__]
        if isinstance(error, LocalRayletDiedError):
            return self._node_died(group)
        if isinstance(error, NodeDiedError | OutOfMemoryError | WorkerCrashedError):
            return DistilscopeError(
                f"a worker process, or its node, died while running the step {task.name}, {RETRIES + 1} times in a "
                "row (Ray says "
                f"{said[0][:200]!r}); likely out of memory: use fewer workers or smaller sizes and run again (what "
                "was finished is kept). "
                f"What it printed is in {self._store.logs()}/ray-*.log"
            )
        return DistilscopeError(
            f"Ray could not run the step {task.name} ({said[-1][:200]}); install the same distilscope on every node, "
            "and run again"
        )


def grouped(tasks: Sequence[tuple[Task, float]], idle: int) -> list[list[Task]]:
    """Split tasks, given with their expected seconds, into groups of consecutive ones with equal needs.

    A group is full when it holds `GROUP_SECONDS`, or, if that is less, an even share of the work for each idle core.
    """
    full = min(GROUP_SECONDS, sum(seconds for _, seconds in tasks) / idle) if idle else GROUP_SECONDS
    groups: list[list[Task]] = []
    held = 0.0
    for task, seconds in tasks:
        if groups and held < full and groups[-1][0].needs == task.needs:
            groups[-1].append(task)
            held += seconds
        else:
            groups.append([task])
            held = seconds
    return groups
