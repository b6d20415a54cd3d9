"""A supervisor process whose attempts are shell scripts, which take milliseconds instead of a training."""

import sys

import yaml

from pipelines.run_folder.layout import RunDir
from service.supervisor.process import main


def script_of(run_dir: RunDir) -> tuple[str, ...]:
    """Return the command line that runs the script in a job's document."""
    return ("/bin/sh", "-c", yaml.safe_load(run_dir.job_yaml.read_text())["script"])


if __name__ == "__main__":
    sys.exit(main(script_of))
