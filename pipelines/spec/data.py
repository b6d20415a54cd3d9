"""`data`: images and labels, and how they are sampled and augmented."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from pipelines.base.names import Name, TaskName
from pipelines.base.paths import RelativePath
from pipelines.base.records import Split
from pipelines.formats.catalog import Layer
from pipelines.spec.augment import Augment, AugmentSpec, operations_of
from pipelines.spec.base import MAX_BATCH, CountOrZero, Spec

GroupByAspect = Annotated[
    bool, Field(description="batches contain images of similar aspect ratio, so that less padding is computed")
]


class ShuffleSpec(Spec):
    """Each image once per epoch, in a new random order."""

    kind: Literal["shuffle"] = "shuffle"
    group_by_aspect: GroupByAspect = False


class PKSpec(Spec):
    """Batches of `p` identities with `k` images each, for embeddings; identities with fewer images repeat some."""

    kind: Literal["pk"]
    task: TaskName = Field(description="embedding task with the identities to draw")
    p: Annotated[int, Field(ge=2, le=MAX_BATCH)]
    k: Annotated[int, Field(ge=2, le=MAX_BATCH)]


class RepeatFactorSpec(Spec):
    """Draws images of rare classes more often: an image is repeated max over its classes of max(1, sqrt(threshold / f))
    times, where f is the share of images with the class (Gupta et al. 2019, arXiv 1908.03195, section 5.2)."""

    kind: Literal["repeat_factor"]
    task: TaskName = Field(description="detection or classification task with the classes to count")
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.1
    group_by_aspect: GroupByAspect = False


SamplerSpec = Annotated[ShuffleSpec | PKSpec | RepeatFactorSpec, Field(discriminator="kind")]


_Value = int | Annotated[float, Field(allow_inf_nan=False)]


DEFAULT_BATCH = 16


class SourceSpec(Spec):
    """One set of images with its label layers."""

    images: RelativePath = Field(description="folder of the images; `{split}` stands for the split's name on disk")
    labels: tuple[Layer, ...] = Field(min_length=1)
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_BATCH)] = Field(
        DEFAULT_BATCH,
        description="number of images per step and process; auto: measured when a run starts, the largest that fits a "
        "GPU and still trains faster than half of it",
    )
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

    @property
    def images_per_batch(self) -> int:
        """The batch size; a default while `auto` has not been measured."""
        return DEFAULT_BATCH if self.batch_size == "auto" else self.batch_size

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


Side = Annotated[int, Field(ge=32, le=8192)]
ImageSize = Side | tuple[Side, Side]


def _require_a_multiple_of_32(size_range: tuple[int, int]) -> tuple[int, int]:
    low, high = size_range
    if low > high or high // 32 * 32 < low:
        raise ValueError(f"got {list(size_range)}; write [low, high] with a multiple of 32 from low to high")
    return size_range


SizeRange = Annotated[tuple[Side, Side], AfterValidator(_require_a_multiple_of_32)]


_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(@[0-9a-f]{8,64})?")


def require_dataset_reference(reference: str) -> str:
    """Return the name of a data set of a service; raises ValueError if it is not NAME or NAME@VERSION."""
    if not _DATASET.fullmatch(reference):
        raise ValueError(f"got {reference!r}; write NAME@VERSION with at least 8 digits of the version, or NAME")
    return reference


DatasetReference = Annotated[str, AfterValidator(require_dataset_reference)]


def _require_root_or_dataset(schema: dict[str, Any]) -> None:
    """Let the JSON Schema accept a data set of a service instead of a folder."""
    schema["if"] = {"required": ["dataset"], "properties": {"dataset": {"type": "string"}}}
    schema["else"] = {"required": schema.pop("required")}


class DataSpec(Spec):
    """Sources with images and labels, their common image size, and augmentation."""

    model_config = ConfigDict(json_schema_extra=_require_root_or_dataset)

    root: str = Field(description="folder of the data set, below a data root")
    sources: dict[Name, SourceSpec] = Field(min_length=1)
    image_size: ImageSize = Field(
        512, description="longer side (aspect kept), or [height, width] that images are fitted inside"
    )
    augment: Augment = Field(AugmentSpec(), description="a preset, a list such as [{op: hflip, p: 0.5}], or a mapping")
    close_mosaic_epochs: CountOrZero | None = Field(
        None,
        description="number of last epochs without operations that combine several images; null: a tenth of "
        "trainer.max_epochs, rounded down",
    )
    multi_scale: SizeRange | None = Field(
        None,
        description="[low, high]: each training step draws the longer side of its images from the multiples of 32 in "
        "this range; evaluation uses image_size",
    )
    on_error: Literal["stop", "skip"] = Field(
        "stop",
        description="skip: leave out unreadable and missing images, and images that are in several splits (the copy in "
        "test is kept, then val, then train)",
    )
    dataset: DatasetReference | None = Field(
        None,
        description="version of a data set of the service, NAME@VERSION, or NAME for the newest; a document that is "
        "submitted needs neither `root` nor `sources` then",
    )
    num_workers: Annotated[int, Field(ge=0, le=256)] = 2
    cache: Literal["none", "ram"] = Field("none", description="ram: keep decoded images in memory")
    mix: Literal["interleave", "concat", "proportional", "temperature"] = Field(
        "interleave", description="order and share of the sources' batches"
    )
    temperature: Annotated[float, Field(ge=1)] = Field(
        2.0, description="for mix: temperature; 1 is proportional, and higher values draw small sources more often"
    )

    @model_validator(mode="before")
    @classmethod
    def _only_a_service_knows_its_data_sets(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("dataset") is not None and not {"root", "sources"} <= set(given):
            raise ValueError(
                f"dataset: got {given['dataset']!r}, a data set of a service; submit the document with "
                "`pyramidion submit`, or write data.root and data.sources instead"
            )
        return given

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
        if len({sampler.group_by_aspect for sampler in self._image_samplers()}) > 1:
            raise ValueError(
                "mix: got 'concat', whose batches mix all sources; give all samplers the same group_by_aspect"
            )
        return self

    def _image_samplers(self) -> list[ShuffleSpec | RepeatFactorSpec]:
        samplers = [source.sampler for source in self.sources.values()]
        return [sampler for sampler in samplers if not isinstance(sampler, PKSpec)]

    @model_validator(mode="after")
    def _identities_of_a_batch_are_those_of_its_sampler(self) -> "DataSpec":
        combining = [operation.op for operation in operations_of(self.augment) if operation.COMBINES_IMAGES]
        drawn = sorted(name for name, source in self.sources.items() if isinstance(source.sampler, PKSpec))
        if combining and drawn:
            raise ValueError(
                f"augment: got {combining[0]!r}, which shows several images in one, but the pk samplers of {drawn} "
                "choose the identities of each batch; remove the operation, or set the sampler to kind: shuffle"
            )
        return self

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """The largest (height, width) of an image: `image_size`, or a square of this side."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    def train_image_sizes(self) -> list[ImageSize] | None:
        """Return the image sizes that batches of training are drawn from; None: all have `image_size`.

        They are the multiples of 32 in `multi_scale`. An `image_size` of (height, width) is scaled to that longer side.
        """
        if self.multi_scale is None:
            return None
        low, high = self.multi_scale
        sizes = range(-(-low // 32) * 32, high + 1, 32)
        if isinstance(self.image_size, int):
            return list(sizes)
        height, width = (side / max(self.image_size) for side in self.image_size)
        return [(max(32, 32 * round(size * height / 32)), max(32, 32 * round(size * width / 32))) for size in sizes]

    def num_combining_epochs(self, max_epochs: int) -> int:
        """Return the number of epochs, out of `max_epochs`, with operations over several images."""
        num_last = max_epochs // 10 if self.close_mosaic_epochs is None else self.close_mosaic_epochs
        return max(0, max_epochs - num_last)
