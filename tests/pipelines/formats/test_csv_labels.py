"""Tables of classes are read."""

from typing import Any

import pytest
from pydantic import ValidationError

KIND = {"kind": {"head": "multiclass"}}


def test_csv_cell_contains_one_class_or_several_and_an_empty_cell_means_unlabeled(folder: Any) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        folder.image(name)
    folder.text(
        "l.csv", "\ufefffile_name,part,marks,kind\na.png,T,x;y,day\nb.png,T,,night\nc.png,T,x ; x,\nd.png,V,y,day\n"
    )
    shared = {"format": "csv", "path": "l.csv", "split_column": "part"}
    labels = [
        shared | {"column": "marks", "separator": ";", "tasks": ["marks"]},
        shared | {"column": "kind", "tasks": ["kind"]},
    ]
    splits = {"train": "T", "val": "V"}
    index, report = folder.check(labels=labels, tasks=KIND | {"marks": {"head": "multilabel"}}, splits=splits)
    assert [record.labels for record in index.records["train"]] == [
        {"marks": ["x", "y"], "kind": ["day"]},
        {"kind": ["night"]},
        {"marks": ["x"]},
    ]
    assert report.layers[0].repeated == 1
    assert report.tasks["marks"].unlabeled["train"] == 1
    assert not report.findings


def test_space_as_csv_separator_matches_any_number_of_spaces(folder: Any) -> None:
    for name in "ab":
        folder.image(f"{name}.png")
    for split, row in (("train", "a.png,  x  y "), ("val", "b.png,y x")):
        folder.text(f"{split}.csv", f"file_name,marks\n{row}\n")
    labels = [{"format": "csv", "path": "{split}.csv", "column": "marks", "separator": " ", "tasks": ["marks"]}]
    index, _ = folder.check(labels=labels, tasks={"marks": {"head": "multilabel"}})
    assert index.records["train"][0].labels == {"marks": ["x", "y"]}
    assert index.records["val"][0].labels == {"marks": ["y", "x"]}


@pytest.mark.parametrize(
    ("text", "kind", "fragment"),
    [
        ("file,kind\na.png,day\n", "broken_label_file", "has no column 'file_name'; its header is ['file', 'kind']"),
        ("", "broken_label_file", "has no columns 'file_name' and 'kind'; its header is []"),
        ('file_name,kind\na.png,"day\n', "broken_label_file", "is not a valid CSV file"),
        ("file_name,kind\na.png,day\nc.png\n", "broken_entry", "line 3 has 1 cell, the header has 2; write one cell"),
        ("file_name,kind\na.png,day\nc.png,x,y\n", "broken_entry", "line 3 has 3 cells, the header has 2"),
        ("file_name,kind\na.png,day\n ,x\n", "broken_entry", "line 3 has an empty file name"),
        ("file_name,kind\n\n\na.png,day\nc.png\n", "broken_entry", "line 5"),
        ('file_name,kind\na.png,"d\na\ny"\nc.png\n', "broken_entry", "line 5"),
        (
            "file_name,kind,kind\na.png,day,x\n",
            "broken_label_file",
            "has 2 columns 'kind'; rename or remove all but one",
        ),
        (
            "file_name,kind, kind\na.png,day,x\n",
            "broken_label_file",
            "has 2 columns 'kind'; rename or remove all but one",
        ),
        ("\n ,\nfile_name,kind\n,\n \t\na.png,day\nc.png\n", "broken_entry", "line 7 has 1 cell"),
        ("file_name;type\na.png;day\n", "broken_label_file", "has no columns 'file_name' and 'kind'"),
    ],
)
def test_broken_csv_is_an_error(folder: Any, text: str, kind: str, fragment: str) -> None:
    folder.image("a.png")
    folder.image("b.png")
    folder.text("train.csv", text)
    folder.text("val.csv", "file_name,kind\nb.png,day\n")
    labels = [{"format": "csv", "path": "{split}.csv", "column": "kind", "tasks": ["kind"]}]
    _, report = folder.check(labels=labels, tasks=KIND)
    assert (report.errors[0].kind, report.errors[0].file) == (kind, "train.csv")
    assert fragment in report.errors[0].message


def report_of(folder: Any, train: bytes) -> Any:
    """Return the index and the report of a set whose train table has these bytes."""
    folder.image("a.png")
    folder.image("b.png")
    folder.text("val.csv", "file_name,kind\nb.png,day\n")
    (folder.root / "train.csv").write_bytes(train)
    labels = [{"format": "csv", "path": "{split}.csv", "column": "kind", "tasks": ["kind"]}]
    return folder.check(labels=labels, tasks=KIND)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("break_", ["\n", "\r\n"])
def test_other_separators_of_cells_are_recognized(folder: Any, separator: str, break_: str) -> None:
    rows = (separator.join(cells) for cells in (("n", "file_name", "kind"), ("1,5", "a.png", "day")))
    index, report = report_of(folder, break_.join(rows).encode())
    assert index.records["train"][0].labels == {"kind": ["day"]}
    assert not report.findings


@pytest.mark.parametrize("column", ["kind", " kind"])
def test_blanks_around_names_of_columns_and_lines_without_text_are_skipped(folder: Any, column: str) -> None:
    folder.image("a.png")
    folder.image("b.png")
    folder.text("l.csv", " \n;;\n file_name ; kind;part \n;;\na.png; day; train\n \n ; ;\nb.png;day;val \n")
    layer = {"format": "csv", "path": "l.csv", "column": column, "split_column": "part", "tasks": ["kind"]}
    index, report = folder.check(labels=[layer], tasks=KIND)
    assert [index.records[split][0].labels for split in ("train", "val")] == [{"kind": ["day"]}] * 2
    assert not report.findings


def test_broken_row_of_a_table_with_a_column_of_splits_is_reported_once(folder: Any) -> None:
    folder.image("a.png")
    folder.image("b.png")
    folder.text("l.csv", "file_name,kind,part\na.png,day,train\nc.png\nb.png,day,val\n")
    layer = {"format": "csv", "path": "l.csv", "column": "kind", "split_column": "part", "tasks": ["kind"]}
    (finding,) = folder.check(labels=[layer], tasks=KIND)[1].findings
    message = "line 3 has 1 cell, the header has 3; write one cell for each column"
    assert (finding.kind, finding.message) == ("broken_entry", message)


@pytest.mark.parametrize(
    ("encoding", "fragment"),
    [
        ("utf-16", "is not UTF-8 text (it has zero bytes, as UTF-16 has); save it as UTF-8"),
        ("latin-1", "is not UTF-8 text (byte 0xe9 in line 2; it may be Latin-1 or Windows-1252); save it as UTF-8"),
    ],
)
def test_other_encodings_are_errors_that_name_the_remedy(folder: Any, encoding: str, fragment: str) -> None:
    _, report = report_of(folder, "file_name,kind\na.png,soirée\n".encode(encoding))
    assert (report.errors[0].kind, report.errors[0].message) == ("broken_label_file", fragment)


def test_empty_separator_is_rejected_with_its_field(folder: Any) -> None:
    labels = [{"format": "csv", "path": "x.csv", "column": "kind", "separator": "", "tasks": ["kind"]}]
    with pytest.raises(ValidationError, match="separator"):
        folder.job(labels=labels, tasks=KIND)
