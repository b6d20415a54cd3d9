from pathlib import Path

import pytest

from pipelines.base.cpu_features import computes_bfloat16

CPUS = {
    "AVX2 only": ("flags\t\t: fpu sse4_2 avx avx2 fma", False),
    "AVX-512 without bfloat16": ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
    "AVX512-BF16": ("flags\t\t: fpu avx2 avx512f avx512_bf16", True),
    "AMX": ("flags\t\t: fpu avx512f amx_tile amx_int8 amx_bf16", True),
    "another architecture": ("Features\t: fp asimd bf16", False),
    "a model name that resembles a flag": ("model name\t: amx_bf16\nflags\t\t: fpu avx2", False),
}


@pytest.mark.parametrize("name", CPUS)
def test_bfloat16_is_computed_by_cpus_with_its_instructions(name: str, tmp_path: Path) -> None:
    line, expected = CPUS[name]
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert computes_bfloat16(cpuinfo) is expected


def test_nothing_is_assumed_without_cpuinfo(tmp_path: Path) -> None:
    assert not computes_bfloat16(tmp_path / "missing")
