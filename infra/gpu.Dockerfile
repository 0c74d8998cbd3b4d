# syntax=docker/dockerfile:1
# The `infer` and `train` workers.
#
# Built on vLLM's own image, not on python:slim: its kernels for fp8, attention and sampling are partly
# compiled on the GPU they first meet, and that takes the CUDA compiler, the C compiler and the kernel
# caches which the image carries and no wheel does. The version is that of the extra `infer-cpu`. The
# image's CUDA 13 wants an NVIDIA driver of at least 580 on the host.
ARG VLLM=0.32.0
FROM vllm/vllm-openai:v${VLLM}

# A new volume takes its owner from the folder that it is mounted on.
RUN useradd --uid 10001 --create-home votequeue \
    && install -d -o votequeue -g votequeue /cache /trained /run/gpus
WORKDIR /app
# The dependencies by their hashes, then votequeue itself. The lock names the image's versions of vLLM and torch,
# and so keeps its builds of them.
COPY infra/gpu.lock infra/
RUN uv pip install --system --no-cache --require-hashes -r infra/gpu.lock
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY producers producers
COPY workers workers
COPY infra infra
RUN uv pip install --system --no-cache --no-deps --no-build-isolation .

COPY --chmod=755 <<'SCRIPT' /usr/local/bin/with-own-gpu
#!/bin/bash
# Docker shows every replica the same GPUs: take the first that no other container on this host holds, as
# many as the engine spans, for as long as this process lives. Where all are held, share the last one.
set -euo pipefail
if [[ -z "${CUDA_VISIBLE_DEVICES:-}" ]]; then
    wanted=${VOTEQUEUE_TENSOR_PARALLEL:-1}
    seen=$(nvidia-smi --query-gpu=index --format=csv,noheader)
    mine=()
    for gpu in $seen; do
        exec {lock}>"${GPU_LOCKS:-/run/gpus}/$gpu"
        if ((${#mine[@]} < wanted)) && flock --nonblock "$lock"; then
            mine+=("$gpu")
        else
            exec {lock}>&-
        fi
    done
    if ((${#mine[@]} == 0 && wanted == 1)); then
        mine=("${seen##*$'\n'}")
        echo "every GPU is held by another worker: sharing GPU ${mine[0]}" >&2
    fi
    if ((${#mine[@]} < wanted)); then
        echo "$wanted GPUs wanted, ${#mine[@]} free: scale down or lower VOTEQUEUE_TENSOR_PARALLEL" >&2
        exit 1
    fi
    CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${mine[*]}")
    export CUDA_VISIBLE_DEVICES
fi
exec "$@"
SCRIPT

USER 10001
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["with-own-gpu"]
CMD ["votequeue", "--help"]
