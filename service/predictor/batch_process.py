"""`python -m service.predictor.batch_process --config FILE --run-dir DIR`: one attempt at a batch prediction.

The images come from clients: they are decoded in processes that are killed when an image takes too long.
"""

import os
import sys
from collections.abc import Sequence

from pipelines.base.exit_codes import exit_code_of
from pipelines.batch_prediction_cli import main as predict
from service.decoding.files import FileDecoder
from service.decoding.worker import DecodingLimits
from service.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Predict the images that have no answer yet, and return the exit code."""

    def run() -> int:
        settings = Settings()
        limits = DecodingLimits(settings.decode_timeout_s, settings.decode_memory_bytes)
        with FileDecoder(limits, num_processes=int(os.environ.get("OMP_NUM_THREADS", "1"))) as decoder:
            return predict(argv, decoder.decode)

    return exit_code_of(run)


if __name__ == "__main__":
    sys.exit(main())
