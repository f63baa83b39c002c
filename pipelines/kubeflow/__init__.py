"""The same pipelines on a cluster: a Kubeflow orchestrator for ZenML that knows node pools.

Register it with ``zenml orchestrator flavor register pipelines.kubeflow.flavor.PoolsFlavor``; see
docs/kubeflow.md.
"""
