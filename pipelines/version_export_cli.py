"""`python -m pipelines.version_export_cli --config FILE --run-dir DIR`: one attempt at an export of a version.

The document is validated before torch is imported.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines.base.cores import let_idle_threads_sleep
from pipelines.base.deferred_scipy import defer_scipy_signal
from pipelines.base.exit_codes import end_process, exit_code_of
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.base.temporary_folder import require_temporary_folder
from pipelines.data.dataset.roots import data_roots_from_environment
from pipelines.run_folder.attempt_log import failure_recorded
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import read_document
from pipelines.spec.version_export import validate_version_export
from pipelines.training.stopping import StopRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Export the version, and return the exit code, which is 0 also if the export may not be served."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.version_export_cli", description=__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="the document")
    parser.add_argument("--run-dir", required=True, type=Path, metavar="DIR", help="folder of the job")
    options = parser.parse_args(argv)
    let_idle_threads_sleep()
    defer_scipy_signal()

    def run() -> int:
        StopRequest("while exporting").install()
        require_temporary_folder()
        with failure_recorded():
            _export(options.config, RunDir.of(options.run_dir))
        return 0

    return exit_code_of(run)


def _export(config: str, run_dir: RunDir) -> None:
    if run_dir.result.exists():
        return  # the previous attempt was killed after its work was complete, before it could exit
    spec = validate_version_export(read_document(config))
    with no_garbage_collection():
        from pipelines.run.export_version import export_version

    export_version(spec, run_dir, data_roots_from_environment())


if __name__ == "__main__":
    end_process(main())
