"""The requests of the shell blocks of docs/rest.md, read without a shell."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from string import Template
from urllib.parse import parse_qsl

VERSION = "0123456789ab"
VALUES = {
    "URL": "", "dataset": f"shapes@{VERSION}", "data_url": f"/v1/datasets/shapes/versions/{VERSION}", "job": "1",
    "batch": "2", "uploaded": "3", "sweep": "4", "trial": "5", "latest": "2", "tag": "2",
    "file": "/v1/jobs/2/predictions", "picture": "/v1/jobs/1/results/objects/images/1/picture",
}  # fmt: skip
"""What the variables of the page may contain; other variables remain."""

_SUBSTITUTION = re.compile(r'"\$\(|\$\(|\)"')
_FLAGS = frozenset({"-N", "-OJ"})


@dataclass
class PageRequest:
    """One call of `api`.

    Attributes:
        json: the text of the body; `@NAME` is a file.
        form: fields with their values.
        method: by default as curl chooses it.
    """

    path: str = ""
    query: Sequence[tuple[str, str]] = ()
    json: str | None = None
    form: list[tuple[str, str]] = field(default_factory=list)
    method: str = "GET"


def requests_of(block: str) -> Iterator[PageRequest]:
    """Yield the requests of a shell block in order."""
    for line in block.replace("\\\n", " ").splitlines():
        separated = _SUBSTITUTION.sub(" ; ", Template(line).safe_substitute(VALUES))
        lexer = shlex.shlex(separated, posix=True, punctuation_chars="|;)<>")
        lexer.whitespace_split, lexer.commenters = True, ""
        words = list(lexer)
        for start in (number for number, word in enumerate(words) if word == "api"):
            end = next((n for n in range(start, len(words)) if words[n][0] in "|;)<>"), len(words))
            yield _request(words[start + 1 : end])


def _request(words: Sequence[str]) -> PageRequest:
    request, remaining = PageRequest(), list(words)
    methods = []
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("-"):
            request.path, _, query = word.partition("?")
            request.query = parse_qsl(query)
        elif word not in _FLAGS:
            value = remaining.pop(0)
            if word == "--json":
                request.json = value
            elif word == "-F":
                name, _, content = value.partition("=")
                request.form.append((name, content))
            elif word == "-X":
                methods.append(value)
    default = "GET" if request.json is None and not request.form else "POST"
    request.method = next(iter(methods), default)
    return request
