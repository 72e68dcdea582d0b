#!/usr/bin/env bash
# Segment a volume with nothing but curl and jq: upload, submit, wait, download.
#
#     examples/segment.sh [SCAN] [OUT]
#
# Needs a running Fleet: `fleet up`. FLEET_URL and FLEET_API_KEY name another server and its key.
set -euo pipefail

scan=${1:-$(dirname "$0")/data/head-t1.nii.gz}
out=${2:-out}
api=${FLEET_URL:-http://127.0.0.1:8000}/api/v1

# The key goes to the API alone; presigned URLs carry their own signature.
key=()
if [[ -n ${FLEET_API_KEY:-} ]]; then key=(--header "Authorization: Bearer $FLEET_API_KEY"); fi
api() { curl --silent --show-error --fail-with-body ${key[@]+"${key[@]}"} "$@"; }
json=(--header "Content-Type: application/json")

# 1. A ticket, then the bytes. (Files above 64 MiB get `parts` instead of one `url`; see docs/reference/http.md.)
size=$(wc -c <"$scan" | tr -d ' ')
ticket=$(jq -n --arg name "$(basename "$scan")" --argjson size "$size" '{name: $name, size: $size}' |
    api "${json[@]}" --data-binary @- "$api/uploads")
upload=$(jq -r .id <<<"$ticket")
url=$(jq -r .url <<<"$ticket")
if [[ $url == "$api"/* ]]; then
    api --upload-file "$scan" --header "Content-Type: application/octet-stream" "$url" >/dev/null
else
    curl --silent --show-error --fail-with-body --upload-file "$scan" "$url" >/dev/null
fi

# 2. One job. `Prefer: wait` holds the answer until it has ended; the key makes a repeat the same job.
job=$(jq -n --arg upload "$upload" \
    '{model: "brain-extraction", inputs: [{upload: $upload}], params: {preview: true}}' |
    api "${json[@]}" --header "Prefer: wait=60" --header "Idempotency-Key: $upload" --data-binary @- "$api/jobs")
id=$(jq -r .id <<<"$job")
while [[ $(jq -r .state <<<"$job") =~ ^(queued|running|cancelling)$ ]]; do
    job=$(api --header "Prefer: wait=60" "$api/jobs/$id")
done
if [[ $(jq -r .state <<<"$job") != succeeded ]]; then
    jq '{id, state, error}' <<<"$job" >&2
    exit 1
fi

# 3. The result, and the files. The API redirects to a presigned URL; curl keeps the key to itself on the way.
jq -r '.result.labels[] | "\(.name): \(.volume_ml) ml in \(.voxels) voxels"' <<<"$job"
mkdir -p "$out"
jq -r '.artifacts[].name' <<<"$job" | while IFS= read -r name; do
    api --location --output "$out/$name" "$api/jobs/$id/artifacts/$name"
    echo "$out/$name"
done
