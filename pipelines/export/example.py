"""The programs beside an exported graph, which compute answers without torch and this project.

`example.py` loads and runs the graph with its runtime, and is meant to be read. `inference.py` has the steps before and
after the graph, which others copy into their programs. Its functions are those of this project that use NumPy only.
"""

from collections.abc import Iterable
from inspect import getsource

from pipelines.export import numpy_inference
from pipelines.spec.exported_variant import ExportedVariant, RuntimeName
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.numpy_answer import NumpyFunction

_EXAMPLE = '''"""Print what the model finds in an image: python example.py IMAGE

Needs the packages {runtime}, numpy and pillow.
"""

import json
import sys
from pathlib import Path

import {runtime}

from inference import answers, prepare, read_image

if len(sys.argv) != 2:
    sys.exit(__doc__)

folder = Path(__file__).parent
model = json.loads((folder / "model.json").read_text("utf-8"))
{load}
image = read_image(sys.argv[1], model)
{run}
print(json.dumps(answers(outputs, image, model), indent=1))
'''

_LOAD: dict[RuntimeName, str] = {
    "onnxruntime": """\
session = onnxruntime.InferenceSession(folder / "{graph}", providers=["CPUExecutionProvider"])
""",
    "openvino": """\
network = openvino.compile_model(folder / "{graph}", "CPU", {{"INFERENCE_PRECISION_HINT": "{hint}"}})
""",
}

_RUN: dict[RuntimeName, str] = {
    "onnxruntime": """\
names = [output.name for output in session.get_outputs()]
outputs = dict(zip(names, session.run(names, prepare(image, model))))
""",
    "openvino": """\
results = network(prepare(image, model))
outputs = {output.any_name: array for output, array in results.items()}
""",
}

_INFERENCE = '''"""The steps before and after the graph of this model. Needs the packages numpy and pillow.

Copy this file and model.json into your program; example.py shows how to use them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
'''


def example_text(variant: ExportedVariant) -> str:
    """Return the text of `example.py`, which prints the answers for one image."""
    hint = "bf16" if variant.precision == "bf16" else "f32"
    load = _LOAD[variant.runtime].format(graph=variant.graph, hint=hint)
    return _EXAMPLE.format(runtime=variant.runtime, load=load, run=_RUN[variant.runtime])


def inference_text(variant: ExportedVariant) -> str:
    """Return the text of `inference.py`, which prepares images and makes the answers of the tasks of the model."""
    by_task = {task: kind_of(spec).numpy_functions(spec) for task, spec in sorted(variant.model.tasks.items())}
    own = dict.fromkeys(function for functions in by_task.values() for function in functions)
    entries = "".join(f'    "{task}": {functions[-1].__name__},\n' for task, functions in by_task.items())
    before: list[NumpyFunction] = [numpy_inference.read_image, numpy_inference.scaled_size_hw, numpy_inference.prepare]
    table = f'ANSWERS = {{\n{entries}}}\n"""The function that makes the answer of each task."""\n'
    return "\n\n".join([_INFERENCE, *_sources([*before, *own]), table, *_sources([numpy_inference.answers])])


def _sources(functions: Iterable[NumpyFunction]) -> list[str]:
    return [getsource(function) for function in functions]
