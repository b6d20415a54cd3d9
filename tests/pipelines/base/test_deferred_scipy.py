"""`scipy.signal` is not imported before it is used, and works then."""

import subprocess
import sys

CODE = """
import sys
from pipelines.base.deferred_scipy import defer_scipy_signal
defer_scipy_signal()
import scipy.signal
assert hasattr(scipy.signal, "hamming"), "torchmetrics asks this when it is imported"
assert "scipy.signal._signaltools" not in sys.modules
assert scipy.signal.hamming(3).tolist() == scipy.signal.windows.hamming(3).tolist()
from scipy.signal import convolve
assert convolve([1, 2], [3, 4]).tolist() == [3, 10, 8]
import scipy.signal.windows
assert "scipy.signal._signaltools" in sys.modules
assert scipy.signal.__spec__.loader is not None, "the module itself has taken its place"
"""


def test_module_is_imported_at_its_first_use() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
