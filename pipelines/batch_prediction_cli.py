"""`python -m pipelines.batch_prediction_cli --config FILE --run-dir DIR`: one attempt at a batch prediction.

The document is validated and the folder of the images is looked up before torch is imported. The service starts the
same with `service.predictor.batch_process`, which decodes the images in processes of their own.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.base.cores import let_idle_threads_sleep
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.exit_codes import end_process, exit_code_of
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.base.temporary_folder import require_temporary_folder
from pipelines.data.dataset.roots import data_roots_from_environment
from pipelines.preflight import image_folder
from pipelines.run_folder.attempt_log import failure_recorded
from pipelines.run_folder.layout import RunDir
from pipelines.spec.batch_prediction import validate_batch_prediction
from pipelines.spec.load import read_document
from pipelines.training.stopping import StopRequest

if TYPE_CHECKING:
    from pipelines.inference.file_decoding import DecodeFiles


def main(argv: Sequence[str] | None = None, decode: "DecodeFiles | None" = None) -> int:
    """Predict the images that have no answer yet, and return the exit code.

    Args:
        argv: arguments of the command line.
        decode: decodes the files of the images; by default in this process.
    """
    parser = argparse.ArgumentParser(prog="python -m pipelines.batch_prediction_cli", description=__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", help="the document")
    parser.add_argument("--run-dir", required=True, type=Path, metavar="DIR", help="folder of the job")
    options = parser.parse_args(argv)
    let_idle_threads_sleep()

    def run() -> int:
        # A signal takes effect anywhere: every image that was answered is in the journal.
        StopRequest("while predicting").install()
        require_temporary_folder()
        with failure_recorded():
            _predict(options.config, RunDir.of(options.run_dir), decode)
        return 0

    return exit_code_of(run)


def _predict(config: str, run_dir: RunDir, decode: "DecodeFiles | None") -> None:
    if run_dir.result.exists():
        return  # the previous attempt was killed after its work was complete, before it could exit
    spec = validate_batch_prediction(read_document(config))
    if spec.version is None:
        raise ConfigError(FieldProblem("version", "missing; name the version of the model"))
    folder = image_folder(spec, data_roots_from_environment())
    with no_garbage_collection():
        from pipelines.run.batch_prediction import predict_batch

    predict_batch(spec, folder, run_dir, **({} if decode is None else {"decode": decode}))


if __name__ == "__main__":
    end_process(main())
