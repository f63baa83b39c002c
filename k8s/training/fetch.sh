#!/bin/sh
# Fills the data volume ($1) with what git's .dvc files name, from the DVC remote TUDSR_DVC_REMOTE;
# credentials come from the environment. Running it again fetches only what changed.
set -eu
volume=$1
project=${2:-/app}
: "${TUDSR_DVC_REMOTE:?set it to the address of a DVC remote, such as s3://tudsr-dvc}"
mkdir -p "$volume/models"
cd "$volume"
for file in "$project"/*.dvc; do cp "$file" .; done
for file in "$project"/models/*.dvc; do cp "$file" models/; done
[ -d .dvc ] || dvc init --no-scm --quiet
dvc config core.analytics false
dvc config core.site_cache_dir "$volume/.dvc/site"
dvc config cache.type hardlink,symlink,copy
dvc remote add --force --default --quiet cluster "$TUDSR_DVC_REMOTE"
dvc pull
