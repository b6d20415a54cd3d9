"""Read XML label files, and report what is not understood in them. Torch-free."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Mapping


def parse_xml(data: bytes) -> ElementTree.Element:
    """Return the root of an XML document, without namespaces.

    Entities are refused before anything is parsed, because a few lines of them can stand for gigabytes, or for other
    files. Without zero bytes, UTF-16 and UTF-32 contain the same text.

    Raises:
        ValueError: it is not XML, or it declares entities.
    """
    plain = data.replace(b"\0", b"")
    if not plain.strip():
        raise _invalid("it is empty")
    if b"<!ENTITY" in plain:
        raise _invalid("it declares entities, which are not supported")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        if plain.lstrip(b"\xef\xbb\xbf\xff\xfe \r\n\t")[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise _invalid("it is an HTML page, such as an error page that was saved in place of the file") from None
        raise _invalid(str(error)) from None
    except LookupError as error:  # an encoding that Python does not know
        raise _invalid(str(error)) from None
    for element in root.iter():
        if isinstance(element.tag, str) and "}" in element.tag:
            element.tag = element.tag.rpartition("}")[2]
    return root


def _invalid(reason: str) -> ValueError:
    return ValueError(f"is not valid XML ({reason}); export the file again")


def correct_case(root: ElementTree.Element, known: Collection[str]) -> Counter[str]:
    """Rename elements that differ from a known name in upper and lower case only; return how often, by old name."""
    renamed: Counter[str] = Counter()
    lower = {name.lower(): name for name in known}
    for element in root.iter():
        name = lower.get(element.tag.lower(), element.tag)
        if name != element.tag:
            renamed[element.tag] += 1
            element.tag = name
    return renamed


def unknown_elements(root: ElementTree.Element, known: Mapping[str, Collection[str]], read: str) -> Counter[str]:
    """Return how often each unknown element occurs, by its path `parent/child`.

    Args:
        root: the root of the document.
        known: names of the children of an element, by the element's name; other elements may have any children.
        read: the name of elements that are read wherever they are; an element around them is not unknown.
    """
    return Counter(
        f"{element.tag}/{child.tag}"
        for element in root.iter()
        for child in element
        if element.tag in known and child.tag not in known[element.tag] and child.find(f".//{read}") is None
    )


def case_message(name: str, count: int, format_name: str) -> str:
    """Return the message about elements that `correct_case` has renamed."""
    return f"has <{name}> ({count}), which is read as <{name.lower()}>; {format_name} has lower-case names"
