# `sync-r1 serve` on a CPU, as a user without rights:
#   docker build -t sync-r1 .
#   docker run --rm -p 127.0.0.1:8000:8000 -e SYNC_R1_API_KEY -v ./runs:/runs:ro sync-r1 --run /runs/demo
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY constraints.txt ./
# A smaller image: --build-arg TORCH="torch==2.13.0 --index-url <PyTorch's index of CPU builds>"
ARG TORCH="torch==2.13.0"
RUN pip install ${TORCH} -c constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY sync_r1 ./sync_r1
RUN pip install ".[serve]" -c constraints.txt

RUN useradd --create-home --uid 10001 sync
USER sync
WORKDIR /home/sync
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]
# Without a key it does not start, because other machines can reach it.
ENTRYPOINT ["sync-r1", "serve", "--host", "0.0.0.0"]
