"""The program beside an exported graph, which prints the answers for one image without torch and this project.

It uses NumPy where this project uses torch; a test compares their answers.
"""

from pipelines.spec.exported_variant import ExportedVariant, RuntimeName
from pipelines.tasks.kinds import kind_of

_READ = """
FOLDER = Path(__file__).parent
MODEL = json.loads((FOLDER / "model.json").read_text("utf-8"))


def opened(path):
    image = Image.open(path)
    if image.mode[0] in "IF":
        sys.exit(f"{path}: has more than 8 bits per channel; convert it to 8 bits")
    if MODEL["exif"] == "apply":
        image = ImageOps.exif_transpose(image)
    if "A" in image.getbands() or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def scaled(image):
    limits, size = np.broadcast_to(MODEL["image_size"], 2), np.array([image.height, image.width])
    height, width = np.minimum(size * (limits / size).min() + 0.5, limits).astype(int).clip(1)
    return image.resize((int(width), int(height)), Image.Resampling.BILINEAR)


def padded(pixels):
    size = -(-np.array(pixels.shape[:2]) // MODEL["multiple_of"]) * MODEL["multiple_of"]
    height, width = next(own for own in MODEL["sizes_hw"] or [size] if (own >= size).all())
    images = np.zeros((1, 3, height, width), dtype=np.uint8)
    images[0, :, : pixels.shape[0], : pixels.shape[1]] = pixels.transpose(2, 0, 1)
    return images
"""

_RUN: dict[RuntimeName, str] = {
    "onnxruntime": """
def run(inputs):
    session = onnxruntime.InferenceSession(str(FOLDER / MODEL["graph"]), providers=["CPUExecutionProvider"])
    values = session.run(None, {own.name: inputs[own.name] for own in session.get_inputs()})
    return {own.name: value for own, value in zip(session.get_outputs(), values)}
""",
    "openvino": """
def run(inputs):
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if MODEL["precision"] == "bf16" else "f32"}
    model = openvino.Core().compile_model(str(FOLDER / MODEL["graph"]), "CPU", hint)
    values = model({own.get_any_name(): inputs[own.get_any_name()] for own in model.inputs})
    return {own.get_any_name(): values[own] for own in model.outputs}
""",
}

_MAIN = """
image = opened(sys.argv[1])
small = scaled(image)
size_hw, scale_xy = (small.height, small.width), (small.width / image.width, small.height / image.height)
outputs = run({"images": padded(np.asarray(small)), "sizes_hw": np.array([size_hw])})
answers = {}
for task, answer in TASKS.items():
    found = {name.partition(".")[2]: value for name, value in outputs.items() if name.startswith(f"{task}.")}
    answers[task] = answer(task, found, size_hw, scale_xy)
print(json.dumps(answers, indent=1))
"""


def example_text(variant: ExportedVariant) -> str:
    """Return the program for an export; it reads everything about the model from model.json."""
    kinds = {name: kind_of(spec) for name, spec in sorted(variant.model.tasks.items())}
    by_name = {kind.name: kind.example(variant.nms).strip() for kind in kinds.values()}
    tasks = ", ".join(f'"{task}": {kind.name}' for task, kind in kinds.items())
    needed = f"{variant.runtime}, numpy, pillow"
    head = f'"""Print the answers for an image: python example.py IMAGE. Needs {needed}."""'
    imports = "\n".join(["import json", "import sys", "from pathlib import Path", "", "import numpy as np"])
    packages = "\n".join([f"import {variant.runtime}", "from PIL import Image, ImageOps"])
    functions = "\n\n\n".join([_READ.strip(), _RUN[variant.runtime].strip(), *by_name.values()])
    main = _MAIN.strip().replace("TASKS", "{" + tasks + "}")
    return f"{head}\n\n{imports}\n{packages}\n\n{functions}\n\n\n{main}\n"
