"""One attempt at a run: its folder, its data, and the parts that a trainer is made of."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.loading.datamodule import JobData
from pipelines.inference.init_from import FIELD, initialize_from
from pipelines.inference.saved import read_saved
from pipelines.model import MultiTaskModel, build_model
from pipelines.preflight import REGISTRY, Inputs, require_default_weights
from pipelines.ranks import is_rank_zero, say
from pipelines.records import DatasetIndex, Split
from pipelines.run_folder.events import EventLog
from pipelines.run_folder.layout import RunDir, runs_root
from pipelines.spec.data import DataSpec
from pipelines.spec.job import JobSpec
from pipelines.spec.model import ModelSpec
from pipelines.spec.training import TrainerSpec
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.tensors.runtime import runtime_of
from pipelines.tracking.tracker import Tracker
from pipelines.training.averaging import EMA
from pipelines.training.checkpoints import Checkpoints, EvaluationStop
from pipelines.training.early_stopping import EarlyStopping
from pipelines.training.memory import MemoryAdvice
from pipelines.training.module import MultiTaskModule
from pipelines.training.progress import Progress
from pipelines.training.scoring import Best, Scoring
from pipelines.training.stopping import StopRequest
from pipelines.training.trainer import create_trainer
from pipelines.training.unfreezing import Unfreezing

PACKAGES = ("pyramidion", "torch", "torchvision", "lightning", "timm", "faster-coco-eval", "mlflow")


class Attempt:
    """What one attempt has: the document, the checked data, the run folder, and who is told.

    Attributes:
        split: what the run ends by scoring: test where the data has one, else val.
    """

    def __init__(
        self,
        job: JobSpec,
        inputs: Inputs,
        index: DatasetIndex,
        report: DataReport,
        run_dir: RunDir,
        stop: StopRequest,
    ) -> None:
        self.job = job
        self.inputs = inputs
        self.index = index
        self.report = report
        self.run_dir = run_dir
        self.stop = stop
        self.split: Split = "test" if index.records.get("test") else "val"
        self.events = EventLog(run_dir.events if is_rank_zero() else None)
        self.scoring = Scoring(job.model, index, self.split)
        self.tracker = self._tracker()
        self.memory = MemoryAdvice(job.data)
        self.progress = Progress(self.events, self.tracker, job.trainer.log_every_n_steps)

    def _tracker(self) -> Tracker | None:
        if self.job.tracking is None or not is_rank_zero():
            return None
        return Tracker(
            self.job.tracking,
            run_name=self.job.name,
            run_dir=self.run_dir.path,
            runs_root=runs_root(),
            tell=self.warn,
        )

    def warn(self, text: str) -> None:
        """Tell people, and whoever reads the events."""
        say(f"warning: {text}")
        self.events.write("warning", {"message": text})

    def stage(self, name: str) -> None:
        """Tell what the run does now; raises Stopped where a stop was asked for."""
        self.stop.check(f"before {name}")
        self.events.write("stage", {"stage": name})

    def data(self, spec: DataSpec) -> JobData:
        """Return the loaders of the job."""
        return JobData(spec, self.job.model.tasks, self.index, self.job.seed_everything)

    def network(self, spec: ModelSpec, *, pretrained: bool) -> MultiTaskModel:
        """Return the network, its random weights drawn from the job's seed alone; with `pretrained` it begins as the
        document says.

        Raises:
            ConfigError: what it should begin from does not fit.
        """
        if pretrained and self.inputs.init_from:
            return self._begun(spec, self.inputs.init_from)
        return self._built(spec, self.inputs.weights if pretrained else "none")

    def _built(self, spec: ModelSpec, weights: str) -> MultiTaskModel:
        torch.manual_seed(self.job.seed_everything)
        return build_model(spec, self.index.categories, class_weights=self._class_weights(spec), weights=weights)

    def _begun(self, spec: ModelSpec, init_from: str) -> MultiTaskModel:
        """Return the network with what fits of `init_from`; `backbone.weights` are looked for only where it lacks
        something of the backbone."""
        is_registered = init_from.startswith(REGISTRY)
        saved = read_saved(self.run_dir.init_from if is_registered else Path(init_from), FIELD)
        model = self._built(spec, "none")
        report = initialize_from(model, saved, spec, self.index.categories, init_from)
        if not report.is_whole("backbone") and self.inputs.weights != "none":
            require_default_weights(spec.backbone)
            model = self._built(spec, self.inputs.weights)
            report = initialize_from(model, saved, spec, self.index.categories, init_from)
        say(str(report))
        for doubt in report.warnings:
            self.warn(doubt)
        return model

    def _class_weights(self, spec: ModelSpec) -> dict[str, Tensor]:
        weights = {}
        for name, task in spec.tasks.items():
            setup = TaskSetup(name, task, self.index.categories[name])
            weights[name] = runtime_of(task).class_weights(setup, self.index.records.get("train", []))
        return {name: of_task for name, of_task in weights.items() if of_task is not None}

    def module(self, spec: ModelSpec, *, pretrained: bool) -> MultiTaskModule:
        """Return the training module around a new network."""
        network = self.network(spec, pretrained=pretrained)
        return MultiTaskModule(spec, network, self.job.seed_everything, self.run_dir.non_finite)

    def trainer(self, spec: TrainerSpec, module: MultiTaskModule) -> Trainer:
        """Return a trainer with everything that goes on around it."""
        ema = EMA(self.job.model.ema.decay) if self.job.model.ema else None

        def weights() -> dict[str, Tensor]:
            of_module = ema.weights if ema else module.state_dict()
            network = (item for item in of_module.items() if item[0].startswith("model."))
            return {name.removeprefix("model."): tensor for name, tensor in network}

        checkpoints = Checkpoints(self.run_dir, self.stop)
        callbacks: list[Callback] = [ema] if ema else []
        callbacks += [
            Unfreezing(self.job.model, self.events),
            EvaluationStop(self.stop, checkpoints),
            self.scoring,
            Best(self.run_dir, self.scoring, weights, self.events, self.tracker),
        ]
        if spec.early_stopping is not None:
            callbacks.append(EarlyStopping(spec.early_stopping, self.scoring, self.events))
        callbacks += [self.progress, self.memory, checkpoints]
        return create_trainer(spec, callbacks)


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def git_commit() -> str | None:
    """Return the commit of the working directory's checkout; None where there is none."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
