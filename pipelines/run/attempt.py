"""One attempt at a run: its document, data and run folder, and the objects that it trains with."""

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from backbones.depthwise import compute_slow_depthwise_in_float32
from pipelines.base.ranks import is_rank_zero, print_rank_zero
from pipelines.base.records import DatasetIndex, Split
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.loading.datamodule import JobData
from pipelines.preflight import Inputs
from pipelines.run.network import create_network, initialized_network
from pipelines.run.run_precision import precision_of_run
from pipelines.run.workflow import Parts
from pipelines.run_folder.events import EventLog, StageData, WarningData
from pipelines.run_folder.layout import RunDir, runs_root
from pipelines.run_folder.schemas import RunMeasurement
from pipelines.spec.data import DataSpec
from pipelines.spec.job import JobSpec
from pipelines.spec.training import TrainerSpec
from pipelines.tracking.tracker import Tracker
from pipelines.training.averaging import EMA
from pipelines.training.budget import Budget, Clock, UsedTime, stopwatch
from pipelines.training.checkpoints import Checkpoints, EvaluationStop
from pipelines.training.compilation import compile_layers
from pipelines.training.early_stopping import EarlyStopping
from pipelines.training.memory import MemoryAdvice
from pipelines.training.module import MultiTaskModule
from pipelines.training.progress import ProgressReporter
from pipelines.training.rank_changes import RankChanges
from pipelines.training.scoring import BestCheckpoint, Scoring
from pipelines.training.single_images import avoid_single_images
from pipelines.training.stopping import StopRequest
from pipelines.training.trainer import create_trainer, num_processes
from pipelines.training.unfreezing import Unfreezing


class Attempt:
    """The document, the checked data and the run folder of one attempt, with its event log and its MLflow run.

    Attributes:
        split: the split that the run is scored on at its end: test if the data has one, else val.
        precision: the precision of the run.
        used: the time that this attempt and earlier ones have used.
    """

    def __init__(
        self,
        job: JobSpec,
        inputs: Inputs,
        index: DatasetIndex,
        report: DataReport,
        run_dir: RunDir,
        stop: StopRequest,
        clock: Clock | None = None,
    ) -> None:
        self.job = job
        self.inputs = inputs
        self.index = index
        self.report = report
        self.run_dir = run_dir
        self.stop = stop
        self.precision = precision_of_run(job.trainer, run_dir)
        self.used = UsedTime(run_dir, clock or stopwatch())
        self.split: Split = index.final_split
        self.events = EventLog(run_dir.events if is_rank_zero() else None)
        self.scoring = Scoring(job.model, index, self.split)
        self.tracker = self._tracker()
        self.memory = MemoryAdvice(job.data)
        self.progress = ProgressReporter(self.events, self.tracker, job.trainer.log_every_n_steps)

    @property
    def trainer_spec(self) -> TrainerSpec:
        """The document's `trainer` with the precision of the run."""
        return self.job.trainer.model_copy(update={"precision": self.precision.name})

    def _tracker(self) -> Tracker | None:
        if self.job.tracking is None or not is_rank_zero():
            return None
        return Tracker(
            self.job.tracking,
            run_name=self.job.name,
            run_dir=self.run_dir.path,
            runs_root=runs_root(),
            warn=self.warn,
        )

    def warn(self, text: str) -> None:
        """Print a warning and write it to the events."""
        print_rank_zero(f"warning: {text}")
        self.events.write(WarningData(message=text))

    def start_stage(self, name: str) -> None:
        """Report the stage that begins now; raise Stopped if a stop was requested."""
        self.stop.check(f"before {name}")
        self.events.write(StageData(stage=name))

    def build(self) -> Parts:
        """Return module, data and trainer for the job.

        A run that resumes gets a random network, which its checkpoint replaces: the weights that the run started from
        need not exist anymore.

        Raises:
            ConfigError: the weights that a new run starts from do not fit, or BatchNorm cannot train on the batches.
        """
        if self.run_dir.last_checkpoint.exists():
            network = create_network(self.job, self.index)
        else:
            network = initialized_network(self.job, self.index, self.inputs, self.run_dir, self.warn)
        if self.precision.float32_depthwise:
            compute_slow_depthwise_in_float32(network)
        if self.job.trainer.compile:
            compile_layers(network)
        # The module comes first: callbacks of the trainer keep its weights.
        module = MultiTaskModule(self.job.model, network, self.job.seed_everything, self.run_dir.non_finite)
        data = self.data(self.job.data)
        avoid_single_images(network, self.job, data, num_processes(self.job.trainer))
        return Parts(module, data, self._trainer(module))

    def data(self, spec: DataSpec) -> JobData:
        """Return the loaders of the job's data, prepared as `spec` describes."""
        return JobData(spec, self.job.model.tasks, self.index, self.job.seed_everything)

    def _trainer(self, module: MultiTaskModule) -> Trainer:
        spec = self.trainer_spec
        ema = EMA(self.job.model.ema) if self.job.model.ema else None

        def weights() -> dict[str, Tensor]:
            state = ema.weights if ema else module.state_dict()
            network = (item for item in state.items() if item[0].startswith("model."))
            return {name.removeprefix("model."): tensor for name, tensor in network}

        checkpoints = Checkpoints(self.run_dir, self.stop)
        callbacks: list[Callback] = [ema] if ema else []
        callbacks += [
            Unfreezing(self.job.model, self.events),
            EvaluationStop(self.stop, checkpoints),
            self.scoring,
            BestCheckpoint(self.run_dir, self.scoring, weights, self.events, self.tracker),
        ]
        if spec.early_stopping is not None:
            callbacks.append(EarlyStopping(spec.early_stopping, self.scoring, self.events))
        if spec.budget is not None:
            costs = RunMeasurement.read(self.run_dir.measured).costs
            assert costs is not None
            callbacks.append(Budget(spec, self.job.model, costs, self.used, self.events))
        callbacks += [RankChanges(self.events), self.progress, self.memory, checkpoints]
        return create_trainer(spec, callbacks)
