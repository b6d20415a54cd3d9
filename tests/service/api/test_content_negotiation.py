import pytest

from service.api.content_negotiation import preferred

OFFERED = ("application/json", "text/event-stream")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("TEXT/Event-Stream; charset=utf-8", "text/event-stream"),
        ("text/*", "text/event-stream"),
        ("text/event-stream, */*;q=0.1", "text/event-stream"),
        ("text/event-stream;q=0.2, application/json", "application/json"),
        ("application/json;q=0, */*", "text/event-stream"),
        ("text/html", None),
        ("text/event-stream;q=0", None),
        ("application/json;q=much", "application/json"),
        (",;,", None),
    ],
)
def test_media_type_with_the_highest_quality_is_chosen(accept: str | None, chosen: str | None) -> None:
    assert preferred(accept, OFFERED) == chosen
