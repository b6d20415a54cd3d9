"""`fit --help` lists the document's fields."""

from pipelines.spec.describe import describe_fields


def test_every_kind_of_field_is_told_with_type_and_default() -> None:
    text = describe_fields()
    assert "--trainer.max_epochs  integer, default 10" in text
    assert "--model.neck.p6_from  p5 | c5, default p5" in text
    assert "--model.tasks.NAME(fcos).range_scale  number, default 8.0: " in text
    assert "--data.sources.NAME.labels.0(coco).path  string" in text
    assert "--model.ema.decay  number" in text


def test_no_field_is_told_twice() -> None:
    names = [line.split()[0] for line in describe_fields().splitlines()]
    assert len(names) == len(set(names))
