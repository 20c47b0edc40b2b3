# syntax=docker/dockerfile:1
#
#   docker build --tag datacheck .
#   docker build --tag datacheck:torch --build-arg EXTRAS=cloud,torch,safetensors .
#   docker run --rm --volume "$PWD:/work" datacheck scan data/
#   docker run --rm --env AWS_PROFILE --volume ~/.aws:/home/datacheck/.aws:ro datacheck scan s3://bucket/data
#
# It runs as any user, on a read-only root file system with a writable /tmp, and stops cleanly at SIGTERM.
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# Extras to install, separated by commas; object stores by default, and no torch. An index for them where the default has too much.
ARG EXTRAS="cloud"
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/datacheck
ENV PATH="/opt/datacheck/bin:${PATH}"
WORKDIR /build

# The dependencies alone, through an empty package: this layer lasts until one of these two files changes.
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    mkdir datacheck \
    && echo '__version__ = "0"' > datacheck/_version.py \
    && touch LICENSE README.md \
    && pip install --constraint constraints.txt ".${EXTRAS:+[${EXTRAS}]}" \
    && pip uninstall --yes datacheck-ml

COPY LICENSE README.md ./
COPY datacheck ./datacheck
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --constraint constraints.txt .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="datacheck" \
      org.opencontainers.image.description="Finds every value that would poison training, and says exactly where it is" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 1000 --create-home datacheck
COPY --from=build /opt/datacheck /opt/datacheck
ENV PATH="/opt/datacheck/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["datacheck"]
CMD ["--help"]
