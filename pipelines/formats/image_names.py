"""Images found by the names that annotation tools give them. Torch-free.

Tools name an image by its path in their own storage: with a folder of the server, a bucket, or the subset, and Label
Studio with a random prefix. The images folder of the source has the file itself.
"""

import contextlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from pipelines.base.links import walk
from pipelines.base.paths import IMAGE_SUFFIXES

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")
"""Label Studio puts eight hexadecimal digits and a hyphen before the name of an uploaded file."""


class AmbiguousImage(ValueError):
    """A name fits several images; the message names two of them."""


@dataclass
class ImageNames:
    """The images below a folder, by their relative paths, without hidden ones."""

    names: set[str] = field(default_factory=set)
    _by_last_part: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _claimed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def below(cls, folder: Path) -> "ImageNames":
        """Return the images below a folder; a missing folder has none."""
        found = cls()
        for parent, folders, files in walk(folder) if folder.is_dir() else ():
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inside = Path(parent).relative_to(folder)
            for name in sorted(files):
                if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    found.add((inside / name).as_posix())
        return found

    def add(self, name: str) -> None:
        """Add an image."""
        self.names.add(name)
        self._by_last_part[name.rsplit("/", 1)[-1]].append(name)
        self._by_last_part[_as_upload(name.rsplit("/", 1)[-1])].append(name)

    def find(self, given: str, subset: str = "") -> str:
        """Return the image that a tool names, or the name itself if the folder has no such image.

        Query, host and bucket are removed from addresses. The first rule that fits an image decides: the path; the path
        in the folder of the subset; the path without folders at its start, one after the other; the last part without
        the prefix of an upload; the only image of this name in any folder.

        Raises:
            AmbiguousImage: the last rule fits several images.
        """
        path = path_of(given)
        parts = path.split("/")
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        last = _UPLOAD_PREFIX.sub("", parts[-1], count=1) if _UPLOAD_PREFIX.match(parts[-1]) else parts[-1]
        for name in (path, *([f"{subset}/{path}"] if subset else []), *tails[1:], last):
            if name in self.names:
                return name
        for name in (parts[-1], last):
            if candidates := sorted(set(self._by_last_part.get(name, []))):
                if len(candidates) > 1:
                    raise AmbiguousImage(f"{given!r} may be {candidates[0]!r} or {candidates[1]!r}")
                return candidates[0]
        return path

    def claim(self, name: str, given: str) -> str:
        """Return the image `name` that was found for `given`.

        Raises:
            AmbiguousImage: it was found for another name before, so one of the two is another image.
        """
        first = self._claimed.setdefault(name, given)
        if first != given:
            raise AmbiguousImage(f"{first!r} and {given!r} are both matched to the image {name!r}")
        return name

    def with_suffix(self, stem: str, subset: str = "", suffix: str = "") -> str | None:
        """Return the image whose path without extension is `stem`, in the folder or in that of the subset.

        The extension `suffix` is preferred.
        """
        stems = [stem, *([f"{subset}/{stem}"] if subset else [])]
        suffixes = [suffix, *sorted(IMAGE_SUFFIXES), *(suffix.upper() for suffix in sorted(IMAGE_SUFFIXES))]
        return next((stem + end for stem in stems for end in suffixes if stem + end in self.names), None)


def path_of(given: str) -> str:
    """Return the path in a name, or in an address such as `s3://bucket/a.jpg` or `/data/local-files/?d=a.jpg`."""
    text = given.replace("\\", "/")
    if "://" in text or "/?d=" in text:
        with contextlib.suppress(ValueError):  # an address that is not valid is a name
            address = urlsplit(text)
            inner = parse_qs(address.query).get("d")
            text = inner[0] if inner else unquote(address.path)
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or given


def _as_upload(name: str) -> str:
    """Return a file's name as uploads spell it: blanks become underscores, other special characters are removed."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
