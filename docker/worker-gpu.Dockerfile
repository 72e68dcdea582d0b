# Workers on NVIDIA GPUs. The pinned onnxruntime-gpu links CUDA 13 (libcudart.so.13, libcublas.so.13) and uses
# cuDNN 9, so the base carries both; the host needs a driver of the 580 series or newer. x86-64 only.
ARG CUDA=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04

FROM ${CUDA} AS python
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python3 -m venv /opt/fleet
COPY requirements/worker-gpu.txt requirements/
RUN /opt/fleet/bin/pip install --require-hashes --only-binary :all: -r requirements/worker-gpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY fleet fleet
COPY api api
COPY worker worker
COPY cli cli
RUN /opt/fleet/bin/pip install --no-build-isolation --no-deps ./client .

FROM python
# A new volume takes over the owner of the folder that it covers.
RUN useradd --uid 10001 --create-home fleet && install -d -o fleet -g fleet /scratch
COPY --from=build /opt/fleet /opt/fleet
ENV PATH=/opt/fleet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /home/fleet
CMD ["fleet", "work"]
