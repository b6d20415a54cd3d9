"""`data`: where images and labels are, how they are drawn and augmented."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.formats.catalog import Layer
from pipelines.names import Name, TaskName
from pipelines.paths import RelativePath
from pipelines.records import Split
from pipelines.spec.augment import Augment, AugmentSpec
from pipelines.spec.base import Count, Spec


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


class DataSpec(Spec):
    """Sources, one image size for all, augmentation."""

    root: str = Field(description="a folder below a data root")
    sources: dict[Name, SourceSpec] = Field(min_length=1)
    image_size: (
        Annotated[int, Field(ge=32, le=8192)]
        | tuple[Annotated[int, Field(ge=32, le=8192)], Annotated[int, Field(ge=32, le=8192)]]
    ) = Field(512, description="longer side (aspect kept), or [height, width] that images are fitted inside")
    augment: Augment = Field(AugmentSpec(), description="a mapping, or a list such as [{op: hflip, p: 0.5}]")
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
