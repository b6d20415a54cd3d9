"""`data`: where images and labels are, how they are drawn and augmented."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from pipelines.records import Split
from pipelines.spec.base import Count, Name, Probability, Spec, TaskName


def _stays_below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not path or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
        raise ValueError(f"got {path!r}; write a path below the data root, relative and without '..'")
    return path


RelativePath = Annotated[str, AfterValidator(_stays_below)]
"""A path below its root. `{split}` in it stands for the split's name on disk (see `SourceSpec.splits`)."""


class LabelLayer(Spec):
    """Labels for some tasks, joined to the source's images by relative path."""

    tasks: tuple[TaskName, ...] = Field(min_length=1)
    classes: dict[str, str | None] = Field({}, description="rename, merge (same new name) or drop (null) classes")


class CocoLayer(LabelLayer):
    """COCO instances: boxes, `iscrowd`, and any further field of an annotation as identity."""

    format: Literal["coco"]
    path: RelativePath


class VocLayer(LabelLayer):
    """Pascal VOC: one XML an image (1-based, inclusive pixels), image sets as lists of names."""

    format: Literal["voc"]
    path: RelativePath = Field("Annotations", description="folder of the XML files")
    image_sets: RelativePath = "ImageSets/Main/{split}.txt"


class CsvLayer(LabelLayer):
    """A table with a row an image: a class, several (with `separator`), or none (an empty cell: not labeled)."""

    format: Literal["csv"]
    path: RelativePath
    file_column: str = "file_name"
    column: str
    separator: str | None = Field(None, description="between the classes of one cell; none: one class a cell")
    split_column: str | None = Field(None, description="names the row's split; none: `path` holds {split}")


class ImageFolderLayer(LabelLayer):
    """`<split>/<class>/<image>`: the folder is the class. `path` is relative to the source's images."""

    format: Literal["image_folder"]
    path: RelativePath = "{split}"


Layer = Annotated[CocoLayer | VocLayer | CsvLayer | ImageFolderLayer, Field(discriminator="format")]


class ShuffleSpec(Spec):
    """Each image once an epoch, in a new order."""

    kind: Literal["shuffle"] = "shuffle"


class PKSpec(Spec):
    """Batches of `p` identities with `k` images each, for embeddings; an identity of fewer images repeats some."""

    kind: Literal["pk"]
    task: TaskName = Field(description="the embedding task whose identities are drawn")
    p: Annotated[int, Field(ge=2)]
    k: Annotated[int, Field(ge=2)]


class RepeatFactorSpec(Spec):
    """Images of rare classes come more often: an image is repeated max over its classes of max(1, sqrt(threshold / f))
    times, where f is the share of images that have the class (Gupta et al. 2019, arXiv 1908.03195, section 5.2)."""

    kind: Literal["repeat_factor"]
    task: TaskName = Field(description="the detection or classification task whose classes are counted")
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.1


SamplerSpec = Annotated[ShuffleSpec | PKSpec | RepeatFactorSpec, Field(discriminator="kind")]


class SourceSpec(Spec):
    """One set of images with label layers over it."""

    images: RelativePath = Field(description="folder of the images; `{split}` may stand in it")
    labels: tuple[Layer, ...] = Field(min_length=1)
    batch_size: Count = Field(16, description="images a step and process")
    sampler: SamplerSpec = ShuffleSpec()
    splits: dict[Split, str] = Field(
        {"train": "train", "val": "val", "test": "test"},
        description="the splits' names on disk; a source without test data leaves it out, or has no such file",
    )
    exif: Literal["ignore", "apply"] = Field("ignore", description="what the labels were drawn on")


class AugmentSpec(Spec):
    """Random changes of training images."""

    hflip: Probability = 0.5
    vflip: Probability = 0.0
    scale_jitter: tuple[float, float] | None = Field(None, description="range of the zoom, such as [0.5, 2.0]")
    photometric: Probability = 0.0

    @field_validator("scale_jitter")
    @classmethod
    def _zoom_is_a_range(cls, jitter: tuple[float, float] | None) -> tuple[float, float] | None:
        if jitter is not None and not 0.1 <= jitter[0] <= jitter[1] <= 10:
            raise ValueError(f"got {list(jitter)}; write [low, high] with 0.1 <= low <= high <= 10")
        return jitter


class DataSpec(Spec):
    """Sources, one image size for all, augmentation."""

    root: str = Field(description="a folder below a data root")
    sources: dict[Name, SourceSpec] = Field(min_length=1)
    image_size: (
        Annotated[int, Field(ge=32, le=8192)]
        | tuple[Annotated[int, Field(ge=32, le=8192)], Annotated[int, Field(ge=32, le=8192)]]
    ) = Field(512, description="longer side (aspect kept), or [height, width] that images are fitted inside")
    augment: AugmentSpec = AugmentSpec()
    num_workers: Annotated[int, Field(ge=0, le=256)] = 2
    cache: Literal["none", "ram"] = Field("none", description="ram: decoded images are kept in memory")
    mix: Literal["interleave", "concat", "proportional", "temperature"] = Field(
        "interleave", description="how the sources' batches follow each other"
    )
    temperature: Annotated[float, Field(ge=1)] = Field(
        2.0, description="of mix: temperature; 1 is proportional, higher ones draw small sources more often"
    )

    @model_validator(mode="after")
    def _sources_can_be_mixed(self) -> "DataSpec":
        for name, source in self.sources.items():
            sampler = source.sampler
            if isinstance(sampler, PKSpec) and source.batch_size != sampler.p * sampler.k:
                raise ValueError(
                    f"sources.{name}.batch_size: got {source.batch_size}; the pk sampler draws "
                    f"p * k = {sampler.p * sampler.k} images"
                )
        if self.mix != "concat":
            return self
        if drawn := sorted(name for name, source in self.sources.items() if isinstance(source.sampler, PKSpec)):
            raise ValueError(f"mix: got 'concat', whose batches mix all sources, but {drawn} draw batches of their own")
        if len({source.batch_size for source in self.sources.values()}) > 1:
            raise ValueError("mix: got 'concat', whose batches mix all sources; give all the same batch_size")
        return self
