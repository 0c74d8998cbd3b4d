"""How the engine is set up for the machine it is on."""

import pytest

from workers.models import vllm_generator


@pytest.mark.parametrize(
    ("known", "dtype"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"cpu_name": "unheard of"}, "float32"),
    ],
)
def test_a_cpu_samples_in_bfloat16_only_where_it_has_instructions_for_it(
    known: dict[str, object], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert vllm_generator.cpu_dtype() == dtype
