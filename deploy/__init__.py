"""The cluster side: manifests rendered and judged, images by digest, releases moved."""
