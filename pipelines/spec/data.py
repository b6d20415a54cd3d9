"""`data`: images and labels, and how they are sampled and augmented."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.base.names import Name, TaskName
from pipelines.base.paths import RelativePath
from pipelines.base.records import Split
from pipelines.formats.catalog import Layer
from pipelines.spec.augment import Augment, AugmentSpec
from pipelines.spec.base import Count, Spec


class ShuffleSpec(Spec):
    """Each image once per epoch, in a new random order."""

    kind: Literal["shuffle"] = "shuffle"


class PKSpec(Spec):
    """Batches of `p` identities with `k` images each, for embeddings; identities with fewer images repeat some."""

    kind: Literal["pk"]
    task: TaskName = Field(description="embedding task with the identities to draw")
    p: Annotated[int, Field(ge=2)]
    k: Annotated[int, Field(ge=2)]


class RepeatFactorSpec(Spec):
    """Draws images of rare classes more often: an image is repeated max over its classes of max(1, sqrt(threshold / f))
    times, where f is the share of images with the class (Gupta et al. 2019, arXiv 1908.03195, section 5.2)."""

    kind: Literal["repeat_factor"]
    task: TaskName = Field(description="detection or classification task with the classes to count")
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.1


SamplerSpec = Annotated[ShuffleSpec | PKSpec | RepeatFactorSpec, Field(discriminator="kind")]


_Value = int | Annotated[float, Field(allow_inf_nan=False)]


class SourceSpec(Spec):
    """One set of images with its label layers."""

    images: RelativePath = Field(description="folder of the images; `{split}` stands for the split's name on disk")
    labels: tuple[Layer, ...] = Field(min_length=1)
    batch_size: Count = Field(16, description="number of images per step and process")
    sampler: SamplerSpec = ShuffleSpec()
    splits: dict[Split, str] = Field(
        {"train": "train", "val": "val", "test": "test"},
        min_length=1,
        description="names of the splits on disk; `test` is optional, and so are its files",
    )
    split_file: RelativePath | None = Field(
        None,
        description="CSV file with the columns file_name (path below the root) and split, which assigns every image to "
        "train, val or test; `splits` then names the splits on disk to read, by default only train",
    )
    exif: Literal["ignore", "apply"] = Field(
        "ignore", description="apply: the labels refer to images that are rotated by their EXIF orientation"
    )
    value_range: tuple[_Value, _Value] | None = Field(
        None,
        description="values of black and white in images of more than 8 bits, such as [0, 4095]; by default "
        "[0, 65535] of integers and [0, 1] of floats",
    )

    @field_validator("value_range")
    @classmethod
    def _black_is_below_white(cls, value_range: tuple[float, float] | None) -> tuple[float, float] | None:
        if value_range is not None and value_range[0] >= value_range[1]:
            raise ValueError(f"got {list(value_range)}; write [black, white], the smaller value first")
        return value_range

    @model_validator(mode="before")
    @classmethod
    def _a_split_file_divides_one_split(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("split_file") is not None:
            return {"splits": {"train": "train"}, **given}
        return given


class DataSpec(Spec):
    """Sources with images and labels, their common image size, and augmentation."""

    root: str = Field(description="folder of the data set, below a data root")
    sources: dict[Name, SourceSpec] = Field(min_length=1)
    image_size: (
        Annotated[int, Field(ge=32, le=8192)]
        | tuple[Annotated[int, Field(ge=32, le=8192)], Annotated[int, Field(ge=32, le=8192)]]
    ) = Field(512, description="longer side (aspect kept), or [height, width] that images are fitted inside")
    augment: Augment = Field(AugmentSpec(), description="a preset, a list such as [{op: hflip, p: 0.5}], or a mapping")
    on_error: Literal["stop", "skip"] = Field(
        "stop",
        description="skip: leave out unreadable and missing images, and images that are in several splits (the copy in "
        "test is kept, then val, then train)",
    )
    num_workers: Annotated[int, Field(ge=0, le=256)] = 2
    cache: Literal["none", "ram"] = Field("none", description="ram: keep decoded images in memory")
    mix: Literal["interleave", "concat", "proportional", "temperature"] = Field(
        "interleave", description="order and share of the sources' batches"
    )
    temperature: Annotated[float, Field(ge=1)] = Field(
        2.0, description="for mix: temperature; 1 is proportional, and higher values draw small sources more often"
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
            raise ValueError(
                f"mix: got 'concat', whose batches mix all sources, but the pk samplers of {drawn} draw whole batches"
            )
        if len({source.batch_size for source in self.sources.values()}) > 1:
            raise ValueError("mix: got 'concat', whose batches mix all sources; give all the same batch_size")
        return self
