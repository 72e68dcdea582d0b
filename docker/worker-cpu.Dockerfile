# Workers on the processor: ONNX Runtime without an accelerator.
ARG PYTHON=python:3.12.13-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/fleet
COPY requirements/worker-cpu.txt requirements/
RUN /opt/fleet/bin/pip install --require-hashes --only-binary :all: -r requirements/worker-cpu.txt
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY fleet fleet
COPY api api
COPY worker worker
COPY cli cli
RUN /opt/fleet/bin/pip install --no-build-isolation --no-deps ./client .

FROM ${PYTHON}
# A new volume takes over the owner of the folder that it covers.
RUN useradd --uid 10001 --create-home fleet && install -d -o fleet -g fleet /scratch
COPY --from=build /opt/fleet /opt/fleet
ENV PATH=/opt/fleet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /home/fleet
CMD ["fleet", "work"]
