"""A quick check that a server can be reached. Torch-free."""

import threading
import urllib.error
import urllib.request

_TIMEOUT_S = 5.0


def unreachable_reason(url: str) -> str | None:
    """Return the reason why a HEAD request for `url` fails; None if it succeeds within `_TIMEOUT_S`.

    The request runs in a thread, because socket timeouts do not end a DNS lookup that hangs.
    """
    answer: list[str | None] = ["no answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT_S):
                answer[0] = None
        except urllib.error.URLError as error:
            answer[0] = str(error.reason)
        except OSError as error:
            answer[0] = str(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_TIMEOUT_S)
    return answer[0]
