"""The precision of a run: decided when it starts, stored in its folder, and kept when it resumes."""

from torch import nn

from backbones.depthwise import num_float32_convolutions
from pipelines.base.quantities import quantity
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import RunInputs, RunPrecision
from pipelines.spec.training import TrainerSpec
from pipelines.training.trainer import accelerator_of, precision_of


def new_precision(spec: TrainerSpec) -> RunPrecision:
    """Return the precision of a run that starts on this machine.

    With `auto`, depthwise convolutions that are slow in bf16 on a CPU compute in float32. The decision depends on the
    document and the kind of machine only, not on measured times, so that repeated runs give the same numbers.

    Raises:
        ConfigError: the document requires a GPU, and there is none.
    """
    name = precision_of(spec)
    is_on_cpu = accelerator_of(spec) == "cpu"
    return RunPrecision(name=name, float32_depthwise=spec.precision == "auto" and name == "bf16-mixed" and is_on_cpu)


def precision_of_run(spec: TrainerSpec, run_dir: RunDir) -> RunPrecision:
    """Return the precision of the run in a folder: that of the document, or what `auto` meant when the run started.

    A run that an earlier version started has no stored precision; its convolutions keep computing in bf16.
    """
    if spec.precision == "auto" and run_dir.inputs_json.exists():
        stored = RunInputs.read(run_dir.inputs_json).precision
        if stored is not None:
            return stored
    return RunPrecision(name=precision_of(spec))


def describe_precision(name: str, network: nn.Module) -> str:
    """Return the precision as text, with the number of convolutions that compute in float32, if there are any."""
    number = num_float32_convolutions(network)
    return f"{name} ({quantity(number, 'depthwise convolution')} in float32)" if number else name
