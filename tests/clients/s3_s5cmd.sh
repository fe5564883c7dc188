#!/bin/sh
# Drives the S3 front door through s5cmd, as it comes. Its environment is DIR/env. Prints what it checked; the first
# wrong result ends it with a non-zero status.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bucket=s5cmd-$$-$(date +%s)

fetch() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())' "$1"; }
ok() { echo "ok  $*"; }
wrong() { echo "WRONG: $*" >&2; exit 1; }
same() { [ "$1" = "$2" ] || wrong "$3: '$1' is not '$2'"; ok "$3"; }
quiet() { s5cmd "$@" >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err" >&2; wrong "s5cmd $*"; }; }

echo "s5cmd $(s5cmd version) against $AWS_ENDPOINT_URL"
mkdir -p "$work/tree/dir/deep"
: >"$work/tree/empty"
echo hello >"$work/tree/hello.txt"
head -c 130000000 /dev/urandom >"$work/tree/dir/large"
head -c 3000000 /dev/urandom >"$work/tree/dir/deep/three-megabytes"
i=0
while [ $i -lt 200 ]; do echo "file $i" >"$work/tree/dir/file-$i"; i=$((i + 1)); done

quiet mb "s3://$bucket"
s5cmd ls | grep -q "s3://$bucket" || wrong "mb and ls"
ok "mb and ls"
quiet cp "$work/tree/" "s3://$bucket/tree/"
same "$(s5cmd ls "s3://$bucket/tree/*" | grep -vc DIR)" "$(find "$work/tree" -type f | wc -l | tr -d ' ')" "cp up, with parts of 50 MiB; ls"
quiet cp "s3://$bucket/tree/*" "$work/back/"
diff -r "$work/tree" "$work/back" || wrong "cp down"
ok "cp down in ranges, contents compared"
same "$(s5cmd cat "s3://$bucket/tree/hello.txt")" hello "cat"
head -c 20000000 /dev/urandom >"$work/piped"
s5cmd pipe "s3://$bucket/piped" <"$work/piped" >/dev/null
same "$(s5cmd cat "s3://$bucket/piped" | sha256sum)" "$(sha256sum <"$work/piped")" "pipe"
quiet cp --content-type text/x --metadata colour=blue "$work/tree/hello.txt" "s3://$bucket/described"
s5cmd head "s3://$bucket/described" | grep -qi blue || wrong "metadata"
ok "cp with metadata, head"
quiet cp "s3://$bucket/tree/*" "s3://$bucket/copy/"
same "$(s5cmd du "s3://$bucket/copy/*" | cut -d ' ' -f 1)" "$(s5cmd du "s3://$bucket/tree/*" | cut -d ' ' -f 1)" "cp across, du"
quiet mv "s3://$bucket/copy/hello.txt" "s3://$bucket/moved.txt"
same "$(s5cmd cat "s3://$bucket/moved.txt")" hello "mv"
rm "$work/tree/dir/file-9"
echo changed >"$work/tree/hello.txt"
quiet sync --delete "$work/tree/" "s3://$bucket/tree/"
same "$(s5cmd cat "s3://$bucket/tree/hello.txt")" changed "sync of a change"
s5cmd head "s3://$bucket/tree/dir/file-9" >/dev/null 2>&1 && wrong "sync --delete"
ok "sync --delete"
fetch "$(s5cmd presign --expire 1h "s3://$bucket/tree/hello.txt")" | grep -q changed || wrong "presign"
ok "presign"
s5cmd cat "s3://$bucket/absent" >/dev/null 2>"$work/err" && wrong "cat of an absent key"
grep -q "not found" "$work/err" || wrong "cat of an absent key: $(cat "$work/err")"
ok "cat of an absent key is not found"
s5cmd rb "s3://$bucket" >/dev/null 2>&1 && wrong "rb of a full bucket"
ok "rb of a full bucket is refused"
quiet rm "s3://$bucket/*"
s5cmd ls "s3://$bucket/*" >/dev/null 2>&1 && wrong "rm of everything"
ok "rm of everything"
quiet rb "s3://$bucket"
s5cmd ls | grep -q "s3://$bucket" && wrong "rb"
ok "rb"
echo "all passed"
