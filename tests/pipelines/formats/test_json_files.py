"""JSON label files: encodings are recognized, and nothing of a file is lost without an error."""

import json

import pytest

from pipelines.formats.json_files import parse_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings_are_read(encoding: str) -> None:
    assert parse_json(json.dumps({"name": "caf\u00e9"}, ensure_ascii=False).encode(encoding)) == {"name": "caf\u00e9"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b" \r\n", "it is empty"),
        (b'{"name":\n"caf\xe9"}', "it is not UTF-8 text: byte 0xe9 in line 2; save it as UTF-8"),
        (b'{"images": [], "images": []}', "an object has the key 'images' 2 times; keep one of them"),
        (b'[{"bbox": [1], "bbox": [2], "id": 1}]', "an object has the key 'bbox' 2 times"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{", "line 1 column 2"),
        (b"null", "contains only null, no object or list; export the file again"),
    ],
)
def test_other_content_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        parse_json(data)
    assert message in str(caught.value)
