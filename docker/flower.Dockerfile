# Flower, with the same Celery app as the workers, so that it names the queues as they do.
ARG PYTHON=python:3.12.13-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/fleet
COPY requirements/flower.txt requirements/
RUN /opt/fleet/bin/pip install --require-hashes --only-binary :all: -r requirements/flower.txt
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY fleet fleet
COPY api api
COPY worker worker
COPY cli cli
RUN /opt/fleet/bin/pip install --no-build-isolation --no-deps ./client .

FROM ${PYTHON}
RUN useradd --uid 10001 --create-home fleet
COPY --from=build /opt/fleet /opt/fleet
ENV PATH=/opt/fleet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /home/fleet
EXPOSE 5555
CMD ["celery", "-A", "worker.app", "flower", "--read_only"]
