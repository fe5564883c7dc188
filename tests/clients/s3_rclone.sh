#!/bin/sh
# Drives the S3 front door through rclone, as it comes: copies trees up, down and across, with multipart uploads,
# compares contents, and cleans up. Its environment is DIR/env, which makes the cell the remote `shingle:`.
# Prints what it checked; the first wrong result ends it with a non-zero status.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bucket=rclone-$$-$(date +%s)
remote=shingle:$bucket

export RCLONE_CONFIG="$work/rclone.conf"
# The endpoint is plain HTTP; this rclone stops at a bundle that its environment may name.
unset AWS_CA_BUNDLE
export RCLONE_RETRIES=1 RCLONE_LOW_LEVEL_RETRIES=1
: >"$RCLONE_CONFIG"

fetch() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())' "$1"; }
ok() { echo "ok  $*"; }
wrong() { echo "WRONG: $*" >&2; exit 1; }
same() { [ "$1" = "$2" ] || wrong "$3: '$1' is not '$2'"; ok "$3"; }

echo "$(rclone version | head -n 1) against $AWS_ENDPOINT_URL"
mkdir -p "$work/tree/dir/deep" "$work/tree/odd names"
: >"$work/tree/empty"
echo hello >"$work/tree/hello.txt"
head -c 3000000 /dev/urandom >"$work/tree/dir/three-megabytes"
head -c 20000001 /dev/urandom >"$work/tree/dir/deep/twenty-megabytes"
echo odd >"$work/tree/odd names/a b+c&d=é%20#?.txt"
i=0
while [ $i -lt 50 ]; do echo "file $i" >"$work/tree/dir/file-$i"; i=$((i + 1)); done
touch -d '2021-02-03 04:05:06' "$work/tree/hello.txt"

rclone mkdir "$remote"
rclone lsd shingle: | grep -q "$bucket" || wrong "mkdir and lsd"
ok "mkdir and lsd"

rclone copy "$work/tree" "$remote/tree"
rclone check --download "$work/tree" "$remote/tree" 2>/dev/null || wrong "copy up"
ok "copy up, contents compared"

rclone copy --s3-upload-cutoff 5M --s3-chunk-size 5M "$work/tree/dir/deep/twenty-megabytes" "$remote/parts"
rclone check --download "$work/tree/dir/deep" "$remote/parts" 2>/dev/null || wrong "multipart upload"
ok "multipart upload in four parts, contents compared"

rclone copy "$remote/tree" "$work/back"
diff -r "$work/tree" "$work/back" >/dev/null || wrong "copy down"
same "$(stat -c %Y "$work/tree/hello.txt")" "$(stat -c %Y "$work/back/hello.txt")" "copy down, with times of modification"

same "$(rclone sync -v "$work/tree" "$remote/tree" 2>&1 | grep -c 'Copied')" 0 "a second sync copies nothing"
rm "$work/tree/dir/file-7"
touch -d '2022-02-03 04:05:06' "$work/tree/hello.txt"
rclone sync "$work/tree" "$remote/tree"
rclone check --download "$work/tree" "$remote/tree" 2>/dev/null || wrong "sync"
ok "sync deletes what is gone and updates times"

rclone copy "$remote/tree" "$remote/copy"
rclone check --download "$work/tree" "$remote/copy" 2>/dev/null || wrong "copy across"
ok "copy across, on the server"
rclone moveto "$remote/copy/hello.txt" "$remote/copy/moved.txt"
same "$(rclone cat "$remote/copy/moved.txt")" hello "moveto and cat"
rclone lsf "$remote/copy" | grep -q '^hello.txt$' && wrong "moveto leaves the source"

same "$(rclone cat --offset 1000000 --count 1000 "$remote/tree/dir/three-megabytes" | sha256sum)" \
    "$(tail -c +1000001 "$work/tree/dir/three-megabytes" | head -c 1000 | sha256sum)" "cat of a range"
same "$(rclone lsf -R --files-only "$remote/tree" | wc -l | tr -d ' ')" "$(find "$work/tree" -type f | wc -l | tr -d ' ')" "lsf -R"
same "$(rclone size --json "$remote/tree" | sed 's/.*"bytes":\([0-9]*\).*/\1/')" \
    "$(find "$work/tree" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')" "size"
echo streamed | rclone rcat "$remote/rcat"
same "$(rclone cat "$remote/rcat")" streamed "rcat"
head -c 12000000 /dev/urandom >"$work/large"
rclone rcat --streaming-upload-cutoff 100k "$remote/rcat-large" <"$work/large"
same "$(rclone cat "$remote/rcat-large" | sha256sum)" "$(sha256sum <"$work/large")" "rcat of unknown length"
fetch "$(rclone link --expire 1h "$remote/rcat")" | grep -q streamed || wrong "link"
ok "link"
rclone cleanup "$remote" || wrong "cleanup of unfinished uploads"
ok "cleanup of unfinished uploads"
rclone rmdir "$remote" 2>/dev/null && wrong "rmdir of a full bucket"
ok "rmdir of a full bucket is refused"
rclone purge "$remote"
rclone lsd shingle: | grep -q "$bucket" && wrong "purge"
ok "purge"
echo "all passed"
