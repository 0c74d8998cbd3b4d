# syntax=docker/dockerfile:1
# Producers, Flower, the live pages, the exporter, and the workers that only wait for others' services.
FROM python:3.11.15-slim-bookworm AS base

RUN useradd --uid 10001 --create-home votequeue
WORKDIR /app
# The dependencies by their hashes, then votequeue itself.
COPY infra/services.lock infra/translate.lock infra/
RUN --mount=type=cache,target=/root/.cache/pip python -m pip install --require-hashes -r infra/services.lock
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY producers producers
COPY workers workers
COPY infra infra
RUN --mount=type=cache,target=/root/.cache/pip python -m pip install --no-deps --no-build-isolation .

# A number, so that Kubernetes can tell that it is not root's.
USER 10001
ENV PYTHONUNBUFFERED=1
CMD ["votequeue", "--help"]

# Telling copies among new questions takes an embedding model, and with it torch: an image of its own.
FROM base AS translate
USER 0
RUN --mount=type=cache,target=/root/.cache/pip python -m pip install --require-hashes -r infra/translate.lock
USER 10001
