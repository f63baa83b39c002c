# MLflow's server at the version of its clients, with the drivers for PostgreSQL and S3.
ARG BASE
FROM ${BASE}
ARG BASE
# An image that can change under its name would make two builds of one commit differ.
RUN case "${BASE}" in *@sha256:????????????????????????????????????????????????????????????????) ;; \
    *) echo "BASE must be NAME@sha256:DIGEST, got '${BASE}'" >&2; exit 1 ;; esac
RUN pip install --no-cache-dir uv
COPY constraints.txt /tmp/constraints.txt
# Compiled here, once: nothing is written when it runs.
RUN uv pip install --system --no-cache --compile-bytecode -c /tmp/constraints.txt mlflow boto3 psycopg2-binary && \
    groupadd --gid 1000 mlflow && useradd --uid 1000 --gid 1000 --no-create-home mlflow
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1 MLFLOW_DISABLE_TELEMETRY=true
USER 1000:1000
EXPOSE 5000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health')"]
ENTRYPOINT ["mlflow"]
