"""How vLLM is set up for the machine it is on."""

from pathlib import Path

import pytest

from shared import vllm_environment


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("flags\t\t: fpu avx512f avx512_vnni\n", "float32"),
        ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16\n", "bfloat16"),
        ("Features\t: fp asimd bf16\n", "bfloat16"),
        (None, "float32"),
    ],
)
def test_a_cpu_samples_in_bfloat16_only_where_it_has_instructions_for_it(
    flags: str | None, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    if flags:
        info.write_text(flags)
    monkeypatch.setattr(vllm_environment, "CPU_INFO", info)
    assert vllm_environment.cpu_dtype() == dtype
