"""All commands of `pyramidion`, by section."""

import click

from service.commands.lazy import HELP_WIDTH, LazyCommand, LazyGroup

TRAINER_COMMANDS = {
    name: LazyCommand("service.commands.training:run", text)
    for name, text in {
        "fit": "Train a model, evaluate its best checkpoint, and register it.",
        "check": "Report the data, the network and the trainable parts of a job.",
        "plan": "List parameter groups with their rates, and estimate time and memory.",
        "lr-find": "Suggest a learning rate from a short training in which it grows.",
        "validate": "Evaluate a run's best checkpoint on the val split.",
        "test": "Evaluate a run's best checkpoint on the test split.",
    }.items()
}
DATA_COMMANDS = {
    "check": LazyCommand("service.commands.data:run", "Check a job's data and write a report."),
    "convert": LazyCommand("service.commands.data:run", "Write a job's data in another label format."),
    "show": LazyCommand("service.commands.data:run", "Write augmented training pictures with their boxes."),
    "split": LazyCommand("service.commands.data_split:run", "Divide a job's images into train, val and test."),
    "synth": LazyCommand("service.commands.data:run", "Write the synthetic data set of the demo."),
}
CLIENT_COMMANDS = {
    "submit": LazyCommand("service.commands.submit:submit", "Submit a job."),
    "batch-predict": LazyCommand(
        "service.commands.batch_predict:batch_predict", "Predict all images of a folder or a data set, as a job."
    ),
    "jobs": LazyCommand("service.commands.jobs:jobs", "List jobs, newest first."),
    "show": LazyCommand("service.commands.jobs:show", "Show one job with its attempts and its failure."),
    "logs": LazyCommand("service.commands.jobs:logs", "Print a job's log."),
    "cancel": LazyCommand("service.commands.jobs:cancel", "Cancel jobs."),
    "results": LazyCommand("service.commands.jobs:results", "Print a job's evaluation results."),
}
KEY_COMMANDS = {
    "create": LazyCommand("service.commands.keys:create", "Create a key and print it once."),
    "list": LazyCommand("service.commands.keys:list_keys", "List all keys."),
    "revoke": LazyCommand("service.commands.keys:revoke", "Revoke a key."),
}
MODEL_COMMANDS = {
    "list": LazyCommand("service.commands.models:list_models", "List all models."),
    "show": LazyCommand("service.commands.models:show", "Show a model, or one version with its origin."),
    "compare": LazyCommand("service.commands.models:compare", "Compare two versions."),
    "download": LazyCommand("service.commands.models:download", "Download a version as an archive."),
    "export": LazyCommand("service.commands.exports:export", "Export a version to another runtime, as a job."),
    "exports": LazyCommand("service.commands.exports:list_exports", "List the exports of a version."),
    "promote": LazyCommand("service.commands.models:promote", "Point an alias to a version."),
    "delete": LazyCommand("service.commands.models:delete", "Delete a version or a model."),
}
MODELS = LazyGroup("models", {"Commands": MODEL_COMMANDS}, help="Show, compare, export or promote registered models.")
KEYS = LazyGroup("keys", {"Commands": KEY_COMMANDS}, help="Create, list and revoke the API keys of a service.")
DATASET_COMMANDS = {
    "upload": LazyCommand("service.commands.datasets:upload", "Upload an archive or a folder as a version."),
    "list": LazyCommand("service.commands.datasets:list_versions", "List versions, newest first."),
    "show": LazyCommand("service.commands.datasets:show", "Show a version with the result of its check."),
    "delete": LazyCommand("service.commands.datasets:delete", "Delete versions."),
}
WEIGHTS_COMMANDS = {
    "list": LazyCommand("service.commands.weights:list_weights", "List pretrained weights with place and license."),
    "fetch": LazyCommand("service.commands.weights:fetch", "Write a file of pretrained weights to a folder."),
}
WEIGHTS = LazyGroup("weights", {"Commands": WEIGHTS_COMMANDS}, help="List or fetch pretrained weights.")
DATASETS = LazyGroup("datasets", {"Commands": DATASET_COMMANDS}, help="Upload, list, show and delete data sets.")
DATA = LazyGroup("data", {"Commands": DATA_COMMANDS}, help="Check, convert, show, split or synthesize data.")
SWEEP_COMMANDS = {
    "start": LazyCommand("service.commands.sweeps:start", "Start a sweep; `sweep FILE` does the same."),
    "list": LazyCommand("service.commands.sweeps:list_sweeps", "List sweeps, newest first."),
    "show": LazyCommand("service.commands.sweeps:show", "Show a sweep with its trials, or write the best document."),
    "plot": LazyCommand("service.commands.sweeps:plot", "Write the parallel-coordinates plot of a sweep."),
    "cancel": LazyCommand("service.commands.sweeps:cancel", "Cancel a sweep with its trials."),
    "delete": LazyCommand("service.commands.sweeps:delete", "Delete a sweep that has ended."),
}
SWEEP = LazyGroup(
    "sweep",
    {"Commands": SWEEP_COMMANDS},
    default="start",
    help="Search for the best values of a document's fields.",
    epilog="`pyramidion sweep sweep.yaml` starts a sweep; docs/sweeps.md describes the file.",
)
SECTIONS: dict[str, dict[str, LazyCommand | LazyGroup]] = {
    "Training": {
        **TRAINER_COMMANDS,
        "predict": LazyCommand("service.commands.predict:predict", "Predict images with a run or a registered model."),
        "explain": LazyCommand(
            "service.commands.explain:run", "Show which parts of an image a prediction of a run depends on."
        ),
        "eval": LazyCommand("service.commands.evaluate:evaluate", "Score a file of detections, without a model."),
        "compare": LazyCommand(
            "service.commands.compare:compare", "Compare runs on the same images: which differences are real?"
        ),
        "export": LazyCommand(
            "service.commands.export:run", "Write a run's model for another runtime, and evaluate it there."
        ),
        "bench-model": LazyCommand("service.commands.export:run", "Measure a run's model in torch and its exports."),
    },
    "Data and networks": {
        "init": LazyCommand("service.commands.init:run", "Write a document for a folder with images and labels."),
        "data": DATA,
        "backbones": LazyCommand(
            "service.commands.backbones:backbones", "List the backbones of the catalog, or describe one."
        ),
        "weights": WEIGHTS,
    },
    "Job service": {
        "serve": LazyCommand("service.commands.serve:run", "Run the job service on this machine."),
        "doctor": LazyCommand("service.commands.doctor:run", "Check an installation and say what to do."),
        "backup": LazyCommand("service.commands.backup:backup", "Write a backup of a service, also while it runs."),
        "restore": LazyCommand("service.commands.backup:restore", "Restore a backup into an empty root."),
        "gc": LazyCommand("service.commands.gc:run", "Delete what the retention rules of a service do not keep."),
        "keys": KEYS,
        "migrate": LazyCommand("service.commands.migrate:migrate", "Migrate the database of a service."),
        "audit": LazyCommand("service.commands.audit:audit", "List who changed what in a service."),
        **CLIENT_COMMANDS,
        "sweep": SWEEP,
        "datasets": DATASETS,
        "models": MODELS,
    },
}
COMMANDS = [name for section in SECTIONS.values() for name in section]


def _print_version(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given:
        from service.version import version

        click.echo(f"pyramidion {version()}")
        context.exit()


PYRAMIDION = LazyGroup(
    "pyramidion",
    SECTIONS,
    help="Fine-tune one backbone for detection, classification and embedding at once. One document describes a run, "
    "see README.md.",
    epilog="`pyramidion COMMAND --help` describes a command.",
    context_settings={"max_content_width": HELP_WIDTH},
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version and exit.",
        )
    ],
)
"""The command itself."""
