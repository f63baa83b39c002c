# The endpoint's image: library and service, without what only training needs. The model is fetched
# from MLflow. Everything it writes goes to /tmp and to TUDSR_OUTPUTS.
ARG BASE
FROM ${BASE}
ARG BASE
# An image that can change under its name would make two builds of one commit differ.
RUN case "${BASE}" in *@sha256:????????????????????????????????????????????????????????????????) ;; \
    *) echo "BASE must be NAME@sha256:DIGEST, got '${BASE}'" >&2; exit 1 ;; esac
RUN pip install --no-cache-dir uv
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY tudsr tudsr
COPY serving serving
# Compiled here, once: nothing is written when it runs.
RUN uv pip install --system --no-cache --compile-bytecode -c constraints.txt -e '.[serve]' mlflow boto3 && \
    python -c 'import torch, torchvision; torchvision.ops.nms'
COPY configs configs
RUN groupadd --gid 1000 tudsr && useradd --uid 1000 --gid 1000 --no-create-home tudsr
ENV HOME=/tmp TUDSR_OUTPUTS=/var/tudsr MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1 \
    BENTOML_HOME=/tmp/bentoml BENTOML_DO_NOT_TRACK=True MLFLOW_DISABLE_TELEMETRY=true
USER 1000:1000
EXPOSE 3000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/livez')"]
ENTRYPOINT []
CMD ["tudsr", "serve", "--host", "0.0.0.0", "--port", "3000"]
