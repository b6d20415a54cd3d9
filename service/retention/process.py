"""`python -m service.retention.process`: one run of the retention rules, which the supervisor starts.

It reads `Settings` from the environment, writes to the log of the service, and exits with 1 if there were problems.
"""

import logging
import os
import sys

from pipelines.base.terminal import escape_output
from service.child_process import die_with_parent
from service.retention.collection import Collection
from service.settings import Settings
from service.store.database import open_database
from service.store.errors import StoreUnavailable

log = logging.getLogger("gc")

LOW_PRIORITY = 10


def main() -> int:
    """Delete what the rules do not keep."""
    escape_output()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="gc: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    die_with_parent()
    os.nice(LOW_PRIORITY)
    settings = Settings()
    problems = []
    try:
        collection = Collection(settings, open_database(settings.url_of_database))
        deletions = collection.carry_out()
        problems = collection.problems
        if deletions:
            log.info("%d items deleted, %s bytes", len(deletions), f"{sum(one.num_bytes for one in deletions):,}")
    except StoreUnavailable as error:
        problems = [f"{error}; the next run tries again"]
    for problem in problems:
        log.warning("%s", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
