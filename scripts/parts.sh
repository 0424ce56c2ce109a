# shellcheck shell=bash
# For scripts that run several parts: each of them is run, the times are told at the end, and the exit status says whether
# all went well.

parts=()
failed=''

# $1: its name; others: the command.
part() {
    local name=$1 start=$SECONDS result='passed'
    shift
    printf '\n==> %s\n' "$name"
    "$@" </dev/null || result='FAILED' failed=yes
    parts+=("$(printf '%3d:%02d  %s  %s' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) "$result" "$name")")
}

finish() {
    printf '\nMinutes of each part:\n'
    printf '%s\n' "${parts[@]}" "$(printf '%3d:%02d          in all' $((SECONDS / 60)) $((SECONDS % 60)))"
    [[ ! $failed ]]
}
