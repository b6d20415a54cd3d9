"""Instructions of this machine's CPU that decide which precision is fast. Torch-free."""

from pathlib import Path

_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


def computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU multiplies in bfloat16 (AMX or AVX512-BF16); otherwise it is slower than float32.

    Args:
        cpuinfo: a text in the form of Linux's /proc/cpuinfo; a missing one means that nothing is known, and False.
    """
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = (line.partition(":")[2].split() for line in lines if line.partition(":")[0].strip() == "flags")
    return not _BFLOAT16_FLAGS.isdisjoint(next(flags, []))
