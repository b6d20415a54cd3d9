"""Executors by name. Other packages add theirs with an entry point in the group `pyramidion.executors`:

    [project.entry-points."pyramidion.executors"]
    other = "my_package.other:OtherExecutor"

The value names a class with the methods of `service.executors.base.Executor`.
"""

from importlib.metadata import EntryPoint, entry_points

from pipelines.base.errors import ConfigError, FieldProblem
from service.executors.base import Engine, Executor, RequirementsNotMet
from service.executors.live_capacity import LiveCapacity
from service.resources import GPUS, NODES, ResourceCounts
from service.settings import Settings

GROUP = "pyramidion.executors"
BUILT_IN = {
    "local": "service.executors.local:LocalExecutor",
    "ray": "service.executors.ray.executor:RayExecutor",
    "slurm": "service.executors.slurm.executor:SlurmExecutor",
}
"""Executors of this package. Its metadata lists them too, but a source tree that is not installed has no metadata."""

CAPACITY_FILE = "capacity.json"
SETTING = "--executor or PYRAMIDION_EXECUTOR"


def registered_executors() -> dict[str, EntryPoint]:
    """Return all executors by name, without importing them; a built-in name cannot be replaced."""
    others = {point.name: point for point in entry_points(group=GROUP)}
    built_in = {name: EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()}
    return dict(sorted({**others, **built_in}.items()))


def load_executor(name: str) -> type[Executor]:
    """Return the class of an executor; raises ConfigError if the name is unknown or its module cannot be imported."""
    known = registered_executors()
    if name not in known:
        raise ConfigError(FieldProblem(SETTING, f"unknown executor {name!r}; choose one of {', '.join(known)}"))
    try:
        loaded = known[name].load()
    except (ImportError, AttributeError) as error:
        problem = (
            f"the executor {name!r} ({known[name].value}) cannot be loaded: {error}; install or repair its package"
        )
        raise ConfigError(FieldProblem(SETTING, problem)) from error
    assert isinstance(loaded, type)
    return loaded


def check_executor(settings: Settings) -> None:
    """Raise ConfigError if the executor of a service is unknown, or its requirements are not met."""
    try:
        load_executor(settings.executor).check_requirements(settings)
    except RequirementsNotMet as error:
        raise _cannot_be_used(settings, error) from error


def engine_of_service(settings: Settings) -> Engine | None:
    """Return the system that a whole service starts for its executor, if any; raises ConfigError."""
    executor = load_executor(settings.executor)
    try:
        engine: Engine | None = executor.engine(settings) if hasattr(executor, "engine") else None
    except RequirementsNotMet as error:
        raise _cannot_be_used(settings, error) from error
    return engine


def _cannot_be_used(settings: Settings, error: RequirementsNotMet) -> ConfigError:
    return ConfigError(FieldProblem(SETTING, f"the executor {settings.executor!r} cannot be used here: {error}"))


def create_executor(settings: Settings) -> Executor:
    """Return the executor of a service; raises ConfigError like `load_executor`."""
    return load_executor(settings.executor).from_settings(settings)


def capacity_of_service(settings: Settings) -> ResourceCounts:
    """Return the resources that jobs may use in total, also on a host where only the API runs.

    Such a host may have no GPU although the supervisors' host has some; then the setting says how many. The counts of
    an executor of other hosts change as its cluster does.

    Raises:
        ConfigError: as `load_executor`.
    """
    executor = create_executor(settings)

    def read() -> ResourceCounts:
        counts = executor.capacity()
        # As the supervisor's executor reports it, see `service.run_sync`: one node alone pushes a run folder.
        return counts if settings.run_storage is None else {**counts, NODES: 1}

    if not getattr(executor, "is_bound_to_host", True):
        return LiveCapacity(read, settings.root / CAPACITY_FILE)
    capacity = read()
    return capacity if capacity.get(GPUS) else {**capacity, GPUS: settings.gpus or 0}
