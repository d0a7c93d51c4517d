#!/usr/bin/env bash
# Give a root file system the merged layout of the FHS: /bin, /sbin, /lib and /libexec move below /usr, and a
# symbolic link stays behind. Running it again changes nothing.
#
#   tools/migrate_to_fhs.sh [--dry-run] [--force]
#
#   --dry-run   say what would be done; change nothing
#   --force     work outside a chroot too
#   FHS_ROOT    the file system to work on (default: /)
set -euo pipefail

usage() { sed -n '5,9s/^# \{0,1\}//p' "$0"; }

die() { echo "migrate_to_fhs: $*" >&2; exit 1; }

run() {                                    # every change goes through here, so --dry-run cannot miss one
    if $dry_run; then echo "would: $*"; else "$@"; fi
}

outside_chroot() {                         # the same root as process 1 (or not allowed to look): not a chroot
    local first
    first=$(stat -Lc %d:%i /proc/1/root 2>/dev/null) || return 0
    [ "$(stat -Lc %d:%i /)" = "$first" ]
}

conflicts() {                              # conflicts FROM TO: what both hold, and not the same
    (cd "$1" && find . ! -type d -print0) | while IFS= read -r -d '' path; do
        if [ -L "$2/$path" ] || [ -e "$2/$path" ]; then
            { [ ! -L "$1/$path" ] && [ ! -L "$2/$path" ] && cmp -s "$1/$path" "$2/$path"; } ||
                { [ -L "$1/$path" ] && [ "$(readlink "$1/$path")" = "$(readlink "$2/$path")" ]; } ||
                echo "$2/${path#./}"
        fi
    done
}

put_link() {                               # put_link DIRECTORY TARGET: the directory becomes a link
    # One process does both renames: between them, with /lib away, no program could be started.
    python3 - "$1" "$2" <<'PYTHON'
import os, sys
directory, target = sys.argv[1:]
os.symlink(target, directory + ".fhs-link")
os.rename(directory, directory + ".fhs-old")
os.rename(directory + ".fhs-link", directory)
PYTHON
}

migrate() {                                # migrate NAME: NAME -> usr/NAME
    local from=${root%/}/$1 to=${root%/}/usr/$1 clash
    if [ -d "$from" ] && [ ! -L "$from" ]; then
        clash=$(if [ -d "$to" ]; then conflicts "$from" "$to"; fi)
        [ -z "$clash" ] || die "$1 and usr/$1 differ; nothing of $1 was moved; settle by hand: ${clash//$'\n'/, }"
        run mkdir -p "$to"
        run cp -a "$from/." "$to/"
        run put_link "$from" "usr/$1"
    fi
    if [ -e "$from.fhs-old" ]; then run rm -rf "$from.fhs-old"; fi    # now, or where an earlier run was cut short
}

dry_run=false force=false root=${FHS_ROOT:-/}
for argument; do
    case $argument in
        --dry-run) dry_run=true ;;
        --force) force=true ;;
        -h | --help) usage; exit ;;
        *) usage >&2; die "unknown argument: $argument" ;;
    esac
done

if ! $force && outside_chroot; then die "not in a chroot; --force works on $root all the same"; fi
for name in bin sbin lib libexec; do migrate "$name"; done
if $dry_run; then echo "migration to the FHS: dry run complete, nothing changed"; else echo "migration to the FHS complete"; fi
