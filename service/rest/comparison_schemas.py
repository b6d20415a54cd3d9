"""Response bodies of comparisons of documents. Torch-free."""

from typing import Any

from pydantic import Field

from service.rest.schemas import Answer


class ComparedField(Answer):
    """A field of the documents with different values."""

    field: str = Field(description="its dotted name, such as model.optimizer.lr")
    values: list[Any] = Field(description="one for each job; null if the document does not have it")


class DocumentComparison(Answer):
    """The fields of the documents of jobs that differ."""

    jobs: list[str] = Field(description="ids of the jobs, in the order of the request")
    are_resolved: bool = Field(description="whether the documents have all defaults; else they are as submitted")
    fields: list[ComparedField] = Field(description="fields whose values differ, sorted by name")
